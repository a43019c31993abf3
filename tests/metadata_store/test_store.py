"""Puts, gets and their errors, beyond what the property tests reach."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.importing import import_mlmd_database
from eventstore.log import DirectoryLog
from eventstore.metadata_store.options import ListOptions, OrderByField
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.store import Engine
from tests.builders import append, artifact, draft, memory_store, open_with, put_types
from tests.conftest import PENGUIN_DATABASE


def test_an_artifact_reads_back_as_it_was_put(store: eventstore.MetadataStore) -> None:
    type_id, _, _ = put_types(store)
    given = artifact(type_id, name="one", uri="s3://one", external_id="x", state=mlmd.Artifact.LIVE)
    (node_id,) = store.put_artifacts([given])
    (stored,) = store.get_artifacts_by_id([node_id])
    assert stored.type == "DataSet"
    assert stored.create_time_since_epoch == stored.last_update_time_since_epoch > 0
    for field in ("id", "type", "create_time_since_epoch", "last_update_time_since_epoch"):
        stored.ClearField(field)
    assert stored == given
    assert store.get_artifacts_by_external_ids(["x"])[0].id == node_id


BAD_ARTIFACTS = [
    ("no type", mlmd.Artifact(uri="u"), errors.InvalidArgumentError, "Type id is missing"),
    ("unknown type", mlmd.Artifact(type_id=99), errors.NotFoundError, "99"),
    ("execution's type", mlmd.Artifact(type_id=11), errors.NotFoundError, "11"),
    ("unknown id", mlmd.Artifact(id=77, type_id=10), errors.InvalidArgumentError, "77"),
    ("id zero", mlmd.Artifact(id=0, type_id=10), errors.InvalidArgumentError, "0"),
    (
        "another type",
        mlmd.Artifact(id=1, type_id=1),
        errors.InvalidArgumentError,
        "cannot be changed",
    ),
    (
        "unknown property",
        mlmd.Artifact(type_id=10, properties={"nope": mlmd.Value(int_value=1)}),
        errors.InvalidArgumentError,
        "Found unknown property: nope",
    ),
    (
        "wrong value",
        mlmd.Artifact(type_id=10, properties={"int": mlmd.Value(double_value=1)}),
        errors.InvalidArgumentError,
        "Found unmatched property type: int",
    ),
    (
        "no value",
        mlmd.Artifact(type_id=10, properties={"int": mlmd.Value()}),
        errors.InvalidArgumentError,
        "Found unmatched property type: int",
    ),
    (
        "custom property without value",
        mlmd.Artifact(type_id=10, custom_properties={"c": mlmd.Value()}),
        errors.InvalidArgumentError,
        "'c'",
    ),
    ("name taken", mlmd.Artifact(type_id=10, name="taken"), errors.AlreadyExistsError, "'taken'"),
    (
        "external id taken",
        mlmd.Artifact(type_id=10, external_id="e"),
        errors.AlreadyExistsError,
        "'e'",
    ),
]


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [row[1:] for row in BAD_ARTIFACTS],
    ids=[row[0] for row in BAD_ARTIFACTS],
)
def test_a_refused_put_appends_nothing(
    bad: mlmd.Artifact, error: type[errors.StatusError], words: str
) -> None:
    store = memory_store()
    type_id, _, _ = put_types(store)
    assert type_id == 10
    store.put_artifacts([mlmd.Artifact(type_id=10, name="taken", external_id="e")])
    before = store.log_position()
    with pytest.raises(error, match=words):
        store.put_artifacts([mlmd.Artifact(type_id=10, name="good"), bad])
    assert store.log_position() == before
    (node_id,) = store.put_artifacts([mlmd.Artifact(type_id=10, name="good")])
    assert node_id == 2


def test_types_only_grow(store: eventstore.MetadataStore) -> None:
    first = mlmd.ArtifactType(name="T", properties={"a": mlmd.INT}, description="first")
    type_id = store.put_artifact_type(first)
    position = store.log_position()
    assert store.put_artifact_type(first) == type_id
    assert store.log_position() == position
    wider = mlmd.ArtifactType(name="T", properties={"b": mlmd.STRING}, description="second")
    for flags in ({}, {"can_add_fields": True}, {"can_omit_fields": True}):
        with pytest.raises(errors.AlreadyExistsError):
            store.put_artifact_type(wider, **flags)
    assert store.put_artifact_type(wider, can_add_fields=True, can_omit_fields=True) == type_id
    stored = store.get_artifact_type("T")
    assert dict(stored.properties) == {"a": mlmd.INT, "b": mlmd.STRING}
    assert stored.description == "first"
    clash = mlmd.ArtifactType(name="T", properties={"a": mlmd.DOUBLE})
    with pytest.raises(errors.AlreadyExistsError, match="'a' as INT"):
        store.put_artifact_type(clash, can_add_fields=True, can_omit_fields=True)
    assert list(store.as_of(position).get_artifact_type("T").properties) == ["a"]


def test_masked_update(store: eventstore.MetadataStore) -> None:
    type_id, _, _ = put_types(store)
    (node_id,) = store.put_artifacts([artifact(type_id, uri="old", name="n")])
    change = mlmd.Artifact(id=node_id, uri="new", state=mlmd.Artifact.LIVE)
    change.properties["int"].int_value = 8
    change.properties["unknown"].int_value = 1
    store.put_artifacts(
        [change], field_mask_paths=["uri", "properties.int", "custom_properties.note"]
    )
    (stored,) = store.get_artifacts_by_id([node_id])
    assert (stored.uri, stored.name, stored.properties["int"].int_value) == ("new", "n", 8)
    assert not stored.HasField("state")
    assert set(stored.custom_properties) == {"any"}
    assert stored.properties["string"].string_value == "ä"


def test_the_update_guard(store: eventstore.MetadataStore) -> None:
    type_id, _, _ = put_types(store)
    (node_id,) = store.put_artifacts([artifact(type_id)])
    (read,) = store.get_artifacts_by_id([node_id])
    read.uri = "changed"
    request = service.PutArtifactsRequest(artifacts=[read])
    request.options.abort_if_latest_updated_time_changed = True
    store._call("PutArtifacts", request, service.PutArtifactsResponse())
    (after,) = store.get_artifacts_by_id([node_id])
    assert after.last_update_time_since_epoch > read.last_update_time_since_epoch
    with pytest.raises(errors.FailedPreconditionError, match="read it again"):
        store._call("PutArtifacts", request, service.PutArtifactsResponse())


def test_pages_are_stable_while_others_write(store: eventstore.MetadataStore) -> None:
    type_id, _, _ = put_types(store)
    store.put_artifacts([artifact(type_id, uri=str(n)) for n in range(25)])
    options = mlmd.ListOperationOptions(max_result_size=10)
    options.order_by_field.field = mlmd.ListOperationOptions.OrderByField.LAST_UPDATE_TIME
    options.order_by_field.is_asc = False
    seen: list[int] = []
    while True:
        response = service.GetArtifactsResponse()
        store._call("GetArtifacts", service.GetArtifactsRequest(options=options), response)
        seen += [node.id for node in response.artifacts]
        if not response.next_page_token:
            break
        (touched,) = store.get_artifacts_by_id([seen[-1] - 1])
        touched.uri += "!"
        store.put_artifacts([touched, artifact(type_id)])
        options.next_page_token = response.next_page_token
    assert seen == list(range(25, 0, -1))


def test_bad_list_options(store: eventstore.MetadataStore) -> None:
    put_types(store)
    for limit in (-1, 0.5, float("-inf")):
        with pytest.raises(errors.InvalidArgumentError, match=f"limit is {limit}"):
            store.get_artifacts(ListOptions(limit=limit))  # type: ignore[arg-type]
    for options in (
        mlmd.ListOperationOptions(max_result_size=0),
        mlmd.ListOperationOptions(next_page_token="!"),
        mlmd.ListOperationOptions(next_page_token="CAMQAxoCCAM"),
        mlmd.ListOperationOptions(order_by_field=mlmd.ListOperationOptions.OrderByField(field=0)),
    ):
        with pytest.raises(errors.InvalidArgumentError):
            store._call(
                "GetArtifacts",
                service.GetArtifactsRequest(options=options),
                service.GetArtifactsResponse(),
            )
    assert store.get_artifacts(ListOptions(order_by=OrderByField.CREATE_TIME)) == []


def test_as_of_a_moment(store: eventstore.MetadataStore) -> None:
    type_id, _, _ = put_types(store)
    opened = datetime.now(timezone.utc)
    (node_id,) = store.put_artifacts([artifact(type_id, uri="old")])
    position = store.log_position()
    recorded_at = store.log.recorded_at(position) / 1_000_000
    then = datetime.fromtimestamp(recorded_at, timezone.utc) + timedelta(microseconds=1)
    (changed,) = store.get_artifacts_by_id([node_id])
    changed.uri = "new"
    while datetime.now(timezone.utc) <= then:
        pass
    store.put_artifacts([changed])
    assert store.as_of(then).get_artifacts_by_id([node_id])[0].uri == "old"
    assert store.as_of(position).get_artifacts_by_uri("new") == []
    assert store.as_of(opened - timedelta(seconds=0)).get_artifacts() == []
    past = store.as_of(position)
    for bad in (datetime.now(), datetime(1999, 1, 1, tzinfo=timezone.utc), 0, -3, 10**9, 1.5, True):
        with pytest.raises(errors.InvalidArgumentError):
            store.as_of(bad)  # type: ignore[arg-type]
    with pytest.raises(errors.FailedPreconditionError, match="takes no puts"):
        past.put_artifacts([changed])
    request, after = service.PutArtifactsRequest(artifacts=[changed]), store.log_position()
    with pytest.raises(errors.FailedPreconditionError, match="takes no puts"):
        past._call("PutArtifacts", request, service.PutArtifactsResponse())
    assert store.log_position() == after
    with pytest.raises(AttributeError):
        past.nothing  # noqa: B018


def test_a_moment_may_end_with_a_commit_that_is_being_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = eventstore.open(tmp_path / "store")

    def appending_first(log: DirectoryLog, _: int) -> int:
        # As another thread does between the two looks at the log.
        append(log, draft(7))
        return log.position

    monkeypatch.setattr(DirectoryLog, "position_at", appending_first)
    then = store.as_of(datetime.now(timezone.utc))
    assert [node.id for node in then.get_artifacts_by_id([7])] == [7]
    store.close()


def test_info_while_a_cache_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with eventstore.open(tmp_path / "store") as store:
        gone = tmp_path / "store" / "projections" / "gone"
        gone.parent.mkdir(exist_ok=True)
        gone.touch()
        asked = Path.is_file

        def removing(path: Path) -> bool:
            is_file = asked(path)
            if path == gone:
                path.unlink()
            return is_file

        monkeypatch.setattr(Path, "is_file", removing)
        assert store.info().projections_bytes >= 0
        assert not gone.exists()


@pytest.mark.parametrize("is_place_empty", [False, True])
def test_a_store_that_was_moved_leaves_its_place_free(is_place_empty: bool, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from eventstore.audit import SigningKey

    path = tmp_path / "store"
    store = open_with(path, closing_records_min=1)
    type_id, _, _ = put_types(store)
    store.put_artifacts([artifact(type_id)])
    path.rename(tmp_path / "moved")
    if is_place_empty:
        path.mkdir()
    assert len(store.get_artifacts()) == 1
    assert store.sql("SELECT count(*) FROM artifacts").rows() == [(1,)]
    store.checkpoint(SigningKey.generate("tests"))
    with pytest.raises(errors.NotFoundError, match="store"):
        store.rebuild()
    store.close()
    assert path.exists() == is_place_empty
    assert not is_place_empty or not list(path.iterdir())
    with eventstore.open(path) as new, eventstore.open(tmp_path / "moved") as moved:
        assert new.get_artifacts() == []
        assert len(moved.get_artifacts()) == 1


def test_a_position_inside_a_commit_is_the_commit_before() -> None:
    store = memory_store()
    type_id, _, _ = put_types(store)
    before = store.log_position()
    store.put_artifacts([artifact(type_id), artifact(type_id)])
    assert store.as_of(before + 1).log_position() == before
    assert len(store.as_of(before + 2).get_artifacts()) == 2


def test_threads_put_and_get(store: eventstore.MetadataStore) -> None:
    type_id, _, _ = put_types(store)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(15):
                (node_id,) = store.put_artifacts([artifact(type_id, name=f"{number}/{turn}")])
                assert store.get_artifacts_by_id([node_id])[0].name == f"{number}/{turn}"
                assert len(store.get_artifacts_by_type("DataSet")) > turn
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(store.get_artifacts()) == 60


def test_two_processes_worth_of_stores_see_each_other(tmp_path: Path) -> None:
    with eventstore.open(tmp_path / "s") as first, eventstore.open(tmp_path / "s") as second:
        type_id, _, _ = put_types(first)
        assert second.put_artifacts([artifact(type_id, name="a")]) == [1]
        assert first.put_artifacts([artifact(type_id, name="b")]) == [2]
        with pytest.raises(errors.AlreadyExistsError):
            second.put_artifacts([artifact(type_id, name="b")])
        assert [node.name for node in second.get_artifacts_by_type("DataSet")] == ["a", "b"]
        assert [node.name for node in first.get_artifacts_by_type("DataSet")] == ["a", "b"]


def test_processes_may_create_one_store_at_once(tmp_path: Path) -> None:
    code = "import sys, eventstore; print(eventstore.open(sys.argv[1]).log_position())"
    openers = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path / "s"], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    assert [opener.communicate()[0] for opener in openers] == [b"9\n"] * 4
    with eventstore.open(tmp_path / "s") as store:
        assert [commit.number for commit in store.log.commits()] == [1]


def test_opening_refuses_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFoundError, match="no store at"):
        eventstore.open(tmp_path / "missing", read_only=True)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(errors.FailedPreconditionError, match="neither empty nor a store"):
        eventstore.open(tmp_path)
    with pytest.raises(errors.FailedPreconditionError, match="is a file"):
        eventstore.open(tmp_path / "thesis.txt")


def test_paths_that_the_system_refuses_are_told_of_by_the_stores_own_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="NUL"):
        eventstore.open(tmp_path / "a\0b")
    with pytest.raises(errors.UnavailableError, match="too long"):
        eventstore.open(tmp_path / ("x" * 300))
    (tmp_path / "store").mkdir()
    asked = Path.stat

    def refused(path: Path, **options: bool) -> os.stat_result:
        if path.parent == tmp_path / "store":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return asked(path, **options)

    # As a folder that may not be searched answers; whoever runs the tests may search them all.
    monkeypatch.setattr(Path, "stat", refused)
    for read_only in (False, True):
        with pytest.raises(errors.PermissionDeniedError, match="store"):
            eventstore.open(tmp_path / "store", read_only=read_only)


def test_an_opening_that_fails_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eventstore.open(tmp_path / "store").close()
    opened: list[DirectoryLog] = []

    def failing(engine: Engine) -> None:
        assert isinstance(engine.log, DirectoryLog)
        opened.append(engine.log)
        raise errors.ResourceExhaustedError("the disk is full")

    monkeypatch.setattr(Engine, "ensure_system_types", failing)
    with pytest.raises(errors.ResourceExhaustedError):
        eventstore.open(tmp_path / "store")
    with pytest.raises(errors.FailedPreconditionError, match="closed"):
        opened[0].refresh()


def test_connecting(tmp_path: Path) -> None:
    for bad in (None, "path", mlmd.Artifact()):
        with pytest.raises(ValueError, match="ConnectionConfig"):
            eventstore.MetadataStore(bad)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="Unset"):
        eventstore.MetadataStore(mlmd.ConnectionConfig())
    config = mlmd.ConnectionConfig()
    config.mysql.host = "db"
    with pytest.raises(RuntimeError, match=r"set mysql\.database"):
        eventstore.MetadataStore(config)
    client = mlmd.MetadataStoreClientConfig(host="h", port=1)
    with pytest.raises(ValueError, match="server"):
        eventstore.MetadataStore(client, enable_upgrade_migration=True)
    missing = mlmd.ConnectionConfig()
    missing.sqlite.filename_uri = str(tmp_path / "missing")
    missing.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READWRITE
    with pytest.raises(RuntimeError, match="no store at"):
        eventstore.MetadataStore(missing)
    missing.sqlite.filename_uri = f"file:{tmp_path / 'missing'}?mode=ro"
    with pytest.raises(RuntimeError, match="no store at"):
        eventstore.MetadataStore(missing)
    database = tmp_path / "real.db"
    shutil.copy(PENGUIN_DATABASE, database)
    missing.sqlite.filename_uri = str(database)
    with pytest.raises(RuntimeError, match="eventstore import") as raised:
        eventstore.MetadataStore(missing)
    assert "\n" not in str(raised.value)
    with pytest.raises(errors.FailedPreconditionError, match="eventstore import"):
        eventstore.open(database)


def test_sqlite_without_a_name_is_in_memory() -> None:
    config = mlmd.ConnectionConfig()
    config.sqlite.SetInParent()
    store = eventstore.MetadataStore(config)
    put_types(store)
    assert store.log.cache_folder() is None
    assert eventstore.MetadataStore(config).get_artifact_types() == []


def test_ids_continue_after_an_import(tmp_path: Path) -> None:
    report = import_mlmd_database(PENGUIN_DATABASE, tmp_path / "store")
    with eventstore.open(tmp_path / "store") as store:
        assert store.log_position() == report.position
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="Mine"))
        assert type_id == max(node.type_id for node in store.get_contexts()) + 1 or type_id > 29
        assert store.put_artifacts([mlmd.Artifact(type_id=type_id)]) == [28]
        assert store.verify().ok


def test_damaged_projections_are_built_again(tmp_path: Path) -> None:
    import_mlmd_database(PENGUIN_DATABASE, tmp_path / "store")
    tables = tmp_path / "store" / "projections" / "tables.duckdb"
    with eventstore.open(tmp_path / "store") as store:
        before = store.get_artifacts_by_type("Model")
        assert before
    for content in (b"", b"not a database at all" * 1000, tables.read_bytes()[:5000]):
        tables.write_bytes(content)
        with eventstore.open(tmp_path / "store") as store:
            assert store.get_artifacts_by_type("Model") == before


def test_a_closed_store_says_so_and_may_be_closed_again(tmp_path: Path) -> None:
    store = eventstore.open(tmp_path / "store")
    type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
    store.close()
    # A file that takes the number of one that was closed.
    with open(tmp_path / "other", "w") as other:
        store.close()
        other.write("still open")
    for call in (
        lambda: store.get_artifacts_by_id([1]),
        lambda: store.put_artifacts([mlmd.Artifact(type_id=type_id)]),
        lambda: store.sql("FROM artifacts"),
        store.log_position,
    ):
        with pytest.raises(errors.FailedPreconditionError, match="is closed: open it again"):
            call()


@pytest.mark.parametrize("wrong", [2**63, -(2**63) - 1, "1", 1.0, None])
def test_what_is_no_id_is_refused_as_a_message_would(
    store: eventstore.MetadataStore, wrong: Any
) -> None:
    for ask in (
        store.get_artifacts_by_id,
        store.get_events_by_artifact_ids,
        store.get_events_by_execution_ids,
    ):
        with pytest.raises(ValueError if isinstance(wrong, int) else TypeError):
            ask([1, wrong])


def test_a_store_says_where_it_is_and_at_which_position(tmp_path: Path) -> None:
    with eventstore.open(tmp_path / "models") as opened:
        assert repr(opened) == f"<MetadataStore {tmp_path / 'models'}, position 9>"
        past = opened.as_of(9)
        assert repr(past) == f"<AsOfStore {tmp_path / 'models'}, as of position 9>"
    assert repr(memory_store()) == "<MetadataStore in memory, position 9>"
