"""Sealed segments of a log in a SQL database lie in object storage, where that is configured."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import obstore
import pyarrow.parquet as parquet
import pytest
from obstore.store import S3Store

import eventstore
from eventstore import errors
from eventstore.log import Log
from eventstore.log.places import StoreUrl
from eventstore.log.sql import SqlLog, connecting
from eventstore.log.sql.keeper import SqlKeeper
from eventstore.log.sql.opening import open_database, open_url
from eventstore.log.stores import verify_store
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.testing.drafts import append_erasure, erased_of
from tests.builders import append, draft
from tests.contract.sql_logs import database_of
from tests.object_servers import ObjectServer
from tests.sql_servers import Server


@pytest.fixture(autouse=True)
def place(s3: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3.url(s3.new_prefix())


@pytest.fixture
def url(postgresql: Server, place: str) -> str:
    return url_of(postgresql, postgresql.new_database(), place)


@pytest.fixture
def log(url: str, tmp_path: Path) -> Iterator[SqlLog]:
    """Two sealed segments of four commits each, and three commits after them."""
    with opened(url, tmp_path / "first") as log:
        for number in range(1, 12):
            append(log, draft(number, name=f"marker-{number}"))
            if number in (4, 8):
                log.seal()
        yield log


def url_of(server: Server, name: str, place: str) -> str:
    return server.url(name, options=f"?segments={quote(place, safe='')}")


@contextlib.contextmanager
def opened(url: str, cache: Path | None = None, **options: Any) -> Iterator[SqlLog]:
    options = {"read_only": False, "creates": True} | options
    with contextlib.closing(open_url(StoreUrl(url), cache_folder=cache, **options)) as log:
        yield log


def store_at(place: str) -> S3Store:
    address, _, options = place.partition("?")
    endpoint = options.partition("=")[2].partition("&")[0]
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    client = {"allow_http": True}
    return S3Store(bucket, prefix=prefix, endpoint=endpoint, client_options=client)  # type: ignore[arg-type]


def objects_at(place: str) -> dict[str, bytes]:
    store = store_at(place)
    keys = [one["path"] for one in obstore.list(store).collect()]
    return {key: obstore.get(store, key).bytes().to_bytes() for key in keys}


def files_at(place: str) -> dict[str, bytes]:
    return {key: data for key, data in objects_at(place).items() if key.endswith(".parquet")}


def payloads_at(place: str, marker: bytes) -> list[bytes]:
    """The payloads in all files that have a marker."""
    tables = [parquet.read_table(io.BytesIO(data)) for data in files_at(place).values()]
    payloads = [payload for table in tables for payload in table["payload"].to_pylist()]
    return [payload for payload in payloads if payload is not None and marker in payload]


def test_others_find_the_segments_by_what_the_store_has_recorded(
    log: SqlLog, url: str, place: str, tmp_path: Path
) -> None:
    commits = [*log.commits()]
    assert len(files_at(place)) == 2
    plain = url.partition("?")[0]
    for number, again in enumerate((plain, url)):
        with opened(again, tmp_path / str(number), read_only=True) as other:
            assert [*other.commits()] == commits
            assert other.verify() == log.verify()
            assert other.backup(tmp_path / f"backup{number}").ok


def test_no_segments_are_kept_within_a_store_in_object_storage(
    postgresql: Server, place: str, tmp_path: Path
) -> None:
    eventstore.open(place, cache_folder=tmp_path).close()
    for within in (place, place.replace("?", "/segments-of-sql?", 1)):
        name = postgresql.new_database()
        with (
            pytest.raises(errors.FailedPreconditionError, match="is a store"),
            opened(url_of(postgresql, name, within)),
        ):
            pass
        assert not postgresql.execute(
            "SELECT * FROM pg_tables WHERE tablename LIKE 'eventstore_%'", database=name
        )


def test_no_parts_are_in_the_database(postgresql: Server, log: SqlLog, url: str) -> None:
    name = url.partition("?")[0].rpartition("/")[2]
    rows = postgresql.execute("SELECT count(*) FROM eventstore_segment_parts", database=name)
    assert rows == [(0,)]
    (recorded,) = postgresql.execute("SELECT segments_at FROM eventstore_log", database=name)
    assert "tests" not in str(recorded[0]).partition("?")[2]


def test_other_programs_read_the_objects(log: SqlLog, place: str) -> None:
    files = log.sealed_files()
    found = objects_at(place)
    prefix = place.partition("?")[0] + "/"
    assert [info.path for info in log.segments()[:2]] == [file.path for file in files]
    for file in files:
        table = parquet.read_table(io.BytesIO(found[str(file.path).removeprefix(prefix)]))
        positions = range(file.first_position, file.last_position + 1)
        assert table["position"].to_pylist() == [*positions]


def test_mysql_keeps_them_there_as_well(mariadb: Server, place: str, tmp_path: Path) -> None:
    url = url_of(mariadb, mariadb.new_database(), place)
    with eventstore.open(url, cache_folder=tmp_path) as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
        (gone,) = store.put_artifacts([mlmd.Artifact(type_id=type_id, name="the-marker")])
        store.seal()
        assert any(b"the-marker" in data for data in files_at(place).values())
        store.erase("artifact", gone, reason="GDPR-17")
        assert store.verify().ok
    assert files_at(place)
    assert not any(b"the-marker" in data for data in files_at(place).values())


def test_a_store_is_copied_there_and_back(log: SqlLog, postgresql: Server, place: str) -> None:
    source = postgresql.url(log.name.rpartition("/")[2])
    target = url_of(postgresql, postgresql.new_database(), f"{place.replace('teams', 'copies')}")
    back = postgresql.url(postgresql.new_database())
    for one, other in ((source, target), (target, back)):
        for _ in range(2):
            eventstore.copy(one, other)
    with opened(back) as last:
        assert [*last.commits()] == [*log.commits()]
        assert last.verify().ok


def test_another_place_is_refused(log: SqlLog, postgresql: Server, url: str, place: str) -> None:
    plain, name = url.partition("?")[0], log.name.rpartition("/")[2]
    for other in (
        place.replace("teams", "others"),
        place.replace("s3://history", "s3://elsewhere"),
    ):
        with pytest.raises(errors.FailedPreconditionError, match="keeps its sealed segments at s3"):
            open_url(StoreUrl(url_of(postgresql, name, other)), **_OPTIONS)
    plain = postgresql.url(postgresql.new_database())
    with opened(plain):
        pass
    with pytest.raises(errors.FailedPreconditionError, match="segments in the database"):
        open_url(StoreUrl(f"{plain}?segments={quote(place, safe='')}"), **_OPTIONS)


_OPTIONS: Any = {"read_only": False, "creates": True, "cache_folder": None}


def test_a_place_that_takes_nothing_makes_no_store(
    postgresql: Server, s3: ObjectServer, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = postgresql.url(postgresql.new_database())

    def refusal(of: str) -> errors.StatusError:
        with pytest.raises(errors.StatusError) as met:
            open_url(StoreUrl(f"{plain}?segments={quote(of, safe='')}"), **_OPTIONS)
        assert "\n" not in met.value.message
        with pytest.raises(errors.NotFoundError):
            open_url(StoreUrl(plain), **_OPTIONS | {"creates": False})
        return met.value

    assert "no such bucket" in refusal(s3.url("a", bucket="none")).message
    assert "write s3://bucket/prefix" in refusal("file:///tmp").message
    assert "write s3://bucket/prefix" in refusal("").message
    assert "there is no option" in refusal(f"{place}&password=an0ther").message
    assert "before the @" in refusal("s3://a:b@bucket/prefix").message

    def refuse(*_: Any, **__: Any) -> None:
        raise obstore.exceptions.PermissionDeniedError("status code: 403 <Code>AccessDenied</Code>")

    with monkeypatch.context() as patched:
        patched.setattr(obstore, "put", refuse)
        assert "no right to" in refusal(place).message


def test_two_stores_may_have_one_place(postgresql: Server, place: str, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        logs: list[Log] = [
            stack.enter_context(opened(url_of(postgresql, postgresql.new_database(), place)))
            for _ in range(2)
        ]
        for number, log in enumerate(logs):
            append(log, draft(number + 1))
            log.seal()
        assert len(files_at(place)) == 2
        logs[0].destroy(erased_of([1]))
        append_erasure(logs[0], erased_of([1]))
        assert all(log.verify().ok for log in logs)


def test_a_stop_between_object_and_row_loses_nothing(
    log: SqlLog, place: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = [*log.commits()]
    with monkeypatch.context() as patched:
        patched.setattr(SqlKeeper, "add_segment", _stopped_after_put)
        with pytest.raises(KeyboardInterrupt):
            log.seal()
    assert len(files_at(place)) == 3
    assert log.verify().ok
    commits.append(append(log, draft(12)))
    # What is sealed now is longer: the other object is nothing's.
    log.seal()
    assert len(files_at(place)) == 4
    report = log.verify()
    assert report.ok
    assert "the next erasing removes it" in report.not_checked[-1]
    log.destroy(erased_of([2]))
    append_erasure(log, erased_of([2]))
    assert len(files_at(place)) == 3
    with opened(url, tmp_path / "second") as other:
        assert [c.tree_head for c in other.commits()][:12] == [c.tree_head for c in commits]
        assert other.verify().ok
        assert not any("nothing names" in what for what in other.verify().not_checked)


def _stopped_after_put(keeper: SqlKeeper, entry: Any, path: Path) -> bool:
    assert keeper._bucket is not None
    keeper._bucket.put(entry, path)
    raise KeyboardInterrupt


def test_what_was_put_and_not_named_is_named_by_the_same_segment(
    log: SqlLog, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(SqlKeeper, "add_segment", _stopped_after_put)
        with pytest.raises(KeyboardInterrupt):
            log.seal()
    named = {str(file.path).rpartition("/")[2] for file in log.sealed_files()}
    (key,) = [key for key in files_at(place) if key.rpartition("/")[2] not in named]
    # Cut short: it is replaced.
    obstore.put(store_at(place), key, b"PAR1")
    log.seal()
    assert len(files_at(place)) == 3
    report = log.verify()
    assert report.ok
    assert report.not_checked == []


def test_erasing_leaves_nothing_behind(
    log: SqlLog, postgresql: Server, url: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = log.name.rpartition("/")[2]
    assert payloads_at(place, b"marker-6")
    with monkeypatch.context() as patched:
        patched.setattr(SqlKeeper, "finish_erasing", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            log.destroy(erased_of([6]))
    append_erasure(log, erased_of([6]))
    report = log.verify()
    assert "is of no segment" in report.findings[0].what
    log.destroy(erased_of([6]))
    assert log.verify().ok
    assert not payloads_at(place, b"marker-6")
    assert payloads_at(place, b"marker-7")
    dump = postgresql.execute("SELECT message FROM eventstore_commits", database=name)
    assert not any(row[0] is not None and b"marker-6" in bytes(row[0]) for row in dump)  # type: ignore[arg-type]


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("change", ["removed", "cut", "of another segment"])
def test_verify_names_the_object(
    log: SqlLog, url: str, place: str, tmp_path: Path, change: str
) -> None:
    first, second = sorted(files_at(place))
    store = store_at(place)
    if change == "removed":
        obstore.delete(store, second)
    else:
        content = files_at(place)[first]
        obstore.put(store, second, content if change != "cut" else content[:-9])
    report = log.verify()
    assert not report.ok
    assert second in f"{report.findings[0].what} {report.findings[0].file}"
    with opened(url, tmp_path / "second", read_only=True) as other:
        with pytest.raises(errors.DataLossError, match="segment 2"):
            list(other.commits())
        # Those before it are read.
        assert len([*other.commits(0, 4)]) == 4
    found = verify_store(StoreUrl(url), None, after=0, upto=None, signed_heads=())
    assert found == report


def test_what_may_not_be_removed_is_not_erased(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise obstore.exceptions.PermissionDeniedError("status code: 403 <Code>AccessDenied</Code>")

    with eventstore.open(url, cache_folder=tmp_path) as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
        (kept,) = store.put_artifacts([mlmd.Artifact(type_id=type_id, name="kept")])
        before = store.log_position()
        monkeypatch.setattr(obstore, "delete", refuse)
        with pytest.raises(errors.PermissionDeniedError, match="no right to"):
            store.erase("artifact", kept, reason="GDPR-17")
        assert store.log_position() == before


def test_a_store_of_an_earlier_version_is_opened(postgresql: Server) -> None:
    name = postgresql.new_database()
    with contextlib.closing(open_database(database_of(postgresql, name))) as log:
        append(log, draft(1))
    postgresql.execute("ALTER TABLE eventstore_log DROP COLUMN segments_at", database=name)
    with contextlib.closing(open_database(connecting.of_url(postgresql.url(name)))) as log:
        log.seal()
        assert log.verify().ok


def test_ids_tell_the_folders(postgresql: Server, place: str) -> None:
    store_id = uuid4()
    with opened(url_of(postgresql, postgresql.new_database(), place), store_id=store_id):
        assert [*objects_at(place)] == [f"{store_id}/store.json"]
