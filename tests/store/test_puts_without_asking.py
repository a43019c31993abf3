"""Who puts alone does not ask what others have put, and yet puts as if it did."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import eventstore
from eventstore import errors
from eventstore.log import DirectoryLog
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.sql_servers import Server


def put(store: eventstore.MetadataStore, name: str) -> int:
    type_id = store.get_artifact_type("Data").id
    return store.put_artifacts([mlmd.Artifact(type_id=type_id, name=name)])[0]


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[eventstore.MetadataStore, eventstore.MetadataStore]]:
    """Two openings of a store, of which the first was the last to put, and repeatedly."""
    with eventstore.open(tmp_path / "store") as one, eventstore.open(tmp_path / "store") as other:
        one.put_artifact_type(mlmd.ArtifactType(name="Data"))
        for number in range(3):
            put(one, str(number))
        yield one, other


def test_the_log_is_asked_no_more(
    two: tuple[eventstore.MetadataStore, eventstore.MetadataStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = two
    asked: list[DirectoryLog] = []
    node = mlmd.Artifact(type_id=one.get_artifact_type("Data").id)
    with monkeypatch.context() as patched:
        patched.setattr(DirectoryLog, "refresh", asked.append)
        one.put_artifacts([node])
    assert not asked


def test_what_others_have_put_is_seen_by_the_put(
    two: tuple[eventstore.MetadataStore, eventstore.MetadataStore],
) -> None:
    one, other = two
    taken = put(other, "taken")
    node = mlmd.Artifact(type_id=one.get_artifact_type("Data").id, name="taken")
    with pytest.raises(errors.AlreadyExistsError):
        one.put_artifacts([node])
    for number in range(4, 7):
        put(one, str(number))
    # What this store would refuse by what it knows is true by now.
    with_step = mlmd.ArtifactType(name="Data", properties={"step": mlmd.INT})
    other.put_artifact_type(with_step, can_add_fields=True)
    node = mlmd.Artifact(type_id=node.type_id, name="with a step")
    node.properties["step"].int_value = 1
    assert one.put_artifacts([node]) == [taken + 4]
    put(one, "8")
    # What changes nothing by what it knows is no longer so.
    (known,) = one.get_artifacts_by_id([taken])
    changed = mlmd.Artifact.FromString(known.SerializeToString())
    changed.state = mlmd.Artifact.DELETED
    put(one, "9")
    other.put_artifacts([changed])
    one.put_artifacts([known])
    assert other.get_artifacts_by_id([taken])[0].state == known.state
    assert one.verify().ok


def test_a_request_id_is_known_that_another_has_used(
    two: tuple[eventstore.MetadataStore, eventstore.MetadataStore],
) -> None:
    one, other = two
    found = set()
    for store in (other, one):
        with store.acting(request_id="again"):
            found.add(put(store, "once"))
    assert len(found) == 1


def test_nothing_is_put_on_top_of_a_server_that_was_set_back(sql_server: Server) -> None:
    name = sql_server.new_database()
    with eventstore.open(sql_server.url(name)) as store:
        store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        for number in range(3):
            put(store, str(number))
        newest = store.log.commit_number
        type_id = store.get_artifact_type("Data").id
        sql_server.execute(f"DELETE FROM eventstore_commits WHERE number = {newest}", database=name)
        with pytest.raises(errors.DataLossError, match=f"commit {newest}, which was there before"):
            store.put_artifacts([mlmd.Artifact(type_id=type_id)])
        rows = sql_server.execute("SELECT max(number) FROM eventstore_commits", database=name)
        assert rows == [(newest - 1,)]
