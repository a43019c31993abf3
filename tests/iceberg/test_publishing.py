"""`eventstore.iceberg.publish`: what readers see, whatever ends a run and whoever else writes."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
from pyiceberg.table import Table

import eventstore
from eventstore import errors
from eventstore.iceberg import Published, catalog_at, publication, publish
from eventstore.log import DirectoryLog, columns
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import put_types
from tests.iceberg.faults import KilledError, killed_at
from tests.iceberg.readers import assert_agrees

TABLE = "mlmd.records"


class Place:
    """A store, and a catalog beside it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "a store"
        self.store = eventstore.open(self.path)
        self.type_id = put_types(self.store)[0]
        self.warehouse = folder / "warehouse"
        self.url = f"sqlite:///{folder}/catalog.db"
        self.catalog = self.opened()
        self.puts = 0

    def opened(self) -> Catalog:
        return catalog_at(self.url, warehouse=self.warehouse)

    def put(self, count: int = 1) -> None:
        """Put artifacts, and seal them as a segment."""
        for _ in range(count):
            self.puts += 1
            artifact = mlmd.Artifact(
                type_id=self.type_id, name=f"secret-{self.puts}", uri=f"secret-{self.puts}"
            )
            artifact.custom_properties["owner"].string_value = f"secret-{self.puts}"
            self.store.put_artifacts([artifact])
        self.store.seal()

    def publish(self, **options: Any) -> Published:
        return publish(str(self.path), self.catalog, **options)

    def table(self) -> Table:
        return self.catalog.load_table(TABLE)

    def agrees(self, table: str = TABLE) -> int:
        return assert_agrees(self.catalog.load_table(table), self.store.log)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    with place.store:
        yield place


@pytest.fixture
def no_waits() -> Iterator[mock.Mock]:
    # Others of this process sleep, too.
    with mock.patch.object(publication, "time") as time:
        yield time.sleep


class Publishing(RuleBasedStateMachine):
    """Puts, erasures and runs that are ended anywhere, and what readers see in between."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="iceberg-"))
        self.place = Place(self.folder)
        self.erased = set[int]()
        self.is_behind_an_erasure = False

    def teardown(self) -> None:
        self.place.store.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @rule(count=st.integers(1, 3))
    def put(self, count: int) -> None:
        self.place.put(count)

    @precondition(lambda self: self.place.puts > len(self.erased))
    @rule(data=st.data())
    def erase(self, data: st.DataObject) -> None:
        left = sorted({*range(1, self.place.puts + 1)} - self.erased)
        artifact = data.draw(st.sampled_from(left))
        self.place.store.erase("artifact", artifact, reason="GDPR-1")
        self.erased.add(artifact)
        self.is_behind_an_erasure = True

    @rule(call=st.integers(0, 40), after=st.booleans())
    def publish_and_be_killed(self, call: int, after: bool) -> None:
        with killed_at(call, after=after), suppress(KilledError):
            self.place.publish()
            self.is_behind_an_erasure = False

    @rule()
    def publish(self) -> None:
        done = self.place.publish()
        self.is_behind_an_erasure = False
        again = self.place.publish()
        assert (again.files_added, again.files_removed) == (0, 0)
        assert again.snapshot_id == done.snapshot_id
        if done.position:
            assert self.place.agrees() == done.position
            assert_every_snapshot_can_be_read(self.place)

    @invariant()
    def readers_see_a_prefix(self) -> None:
        if self.is_behind_an_erasure or not self.place.catalog.table_exists(TABLE):
            return
        if self.place.table().current_snapshot() is not None:
            self.place.agrees()


TestPublishing = Publishing.TestCase
TestPublishing.settings = settings(max_examples=5, stateful_step_count=10)


def assert_every_snapshot_can_be_read(place: Place) -> None:
    table = place.table()
    for snapshot in table.snapshots():
        assert snapshot.summary is not None
        position = int(snapshot.summary.additional_properties["eventstore.position"])
        read = table.scan(snapshot_id=snapshot.snapshot_id, selected_fields=("position",))
        assert sorted(read.to_arrow()["position"].to_pylist()) == [*range(1, position + 1)]


@pytest.mark.share(2)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("change", ["first", "put", "erase", "compact"])
def test_a_run_that_is_killed_at_any_call_is_completed_by_the_next(
    place: Place, *, change: str, after: bool
) -> None:
    """Each is of a table of its own; the first of a table makes it, and its namespace."""
    place.put(2)
    for number in range(100):
        table = f"killed.t{number}"
        if change != "first":
            place.publish(table=table)
            place.put()
        if change == "erase":
            place.store.erase("artifact", number + 1, reason="GDPR-1")
        if change == "compact":
            place.store.compact(target_records=100_000)
        with killed_at(number, after=after) as calls, suppress(KilledError):
            place.publish(table=table)
        found = place.catalog.load_table(table) if place.catalog.table_exists(table) else None
        if (
            found is not None
            and found.current_snapshot() is not None
            and change in ("first", "put")
        ):
            place.agrees(table)
        done = place.publish(table=table)
        assert place.agrees(table) == done.position
        assert not place.publish(table=table).files_added
        if len(calls) <= number:
            break
    assert number > 5


def test_others_that_seal_as_a_run_begins(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.put()
    left = [True, True]
    listed = DirectoryLog.sealed_files

    def sealing(self: DirectoryLog) -> Any:
        if left:
            left.pop()
            place.put()
        return listed(self)

    monkeypatch.setattr(DirectoryLog, "sealed_files", sealing)
    while left:
        done = place.publish()
        assert place.agrees(TABLE) == done.position


def test_nothing_of_what_was_erased_is_in_the_table(place: Place) -> None:
    place.put(2)
    place.publish()
    place.put()
    place.publish()
    assert len(place.table().snapshots()) == 2
    place.store.erase("artifact", 1, reason="GDPR-1")
    place.store.seal()
    done = place.publish()
    assert (done.files_removed, done.snapshots_expired, done.snapshots_kept) == (1, 2, 0)
    place.agrees()
    assert_every_snapshot_can_be_read(place)
    assert not bounded_columns(place) & {"name", "uri", "actor", "properties", "payload", "state"}


def bounded_columns(place: Place) -> set[str]:
    table = place.table()
    snapshot = table.current_snapshot()
    assert snapshot is not None
    entries = [
        entry
        for manifest in snapshot.manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False)
    ]
    ids = {number for entry in entries for number in entry.data_file.lower_bounds}
    return {table.schema().find_column_name(number) or "" for number in ids}


def test_bounds_let_readers_pass_over_files(place: Place) -> None:
    for _ in range(3):
        place.put()
    place.publish()
    assert bounded_columns(place) >= {"position", "recorded_at", "kind", "entity_id"}
    last = place.store.log.position
    found = list(place.table().scan(row_filter=f"position >= {last}").plan_files())
    assert [Path(task.file.file_path).name for task in found] == ["0000000003.parquet"]
    found = list(place.table().scan(row_filter="kind = 'artifact_type'").plan_files())
    assert [Path(task.file.file_path).name for task in found] == ["0000000001.parquet"]


def test_a_tag_keeps_a_snapshot_whose_files_are_gone_and_the_answer_says_so(place: Place) -> None:
    place.put()
    snapshot_id = place.publish().snapshot_id
    assert snapshot_id is not None
    place.table().manage_snapshots().create_tag(snapshot_id, "audit").commit()
    place.store.erase("artifact", 1, reason="GDPR-1")
    done = place.publish()
    assert (done.snapshots_expired, done.snapshots_kept) == (0, 1)
    place.agrees()


def test_a_store_that_was_moved_is_published_from_its_new_place(
    place: Place, tmp_path: Path
) -> None:
    place.put(2)
    place.publish()
    place.store.close()
    moved = tmp_path / "moved"
    place.path.rename(moved)
    with eventstore.open(moved) as place.store:
        done = publish(moved, place.catalog)
        assert (done.files_added, done.files_removed, done.snapshots_expired) == (1, 1, 1)
        place.agrees()


def test_a_dry_run_changes_nothing(place: Place) -> None:
    assert place.publish(seal=True, dry_run=True).files_added == 0
    place.put()
    done = place.publish(dry_run=True)
    assert (done.files_added, done.snapshot_id) == (1, None)
    assert not place.catalog.namespace_exists("mlmd")


def test_nothing_is_made_before_there_is_a_sealed_segment(place: Place) -> None:
    assert place.publish() == Published(
        *(TABLE, 0, 0, 0, 0, 0, 0, 0, None), unsealed_records=place.store.log_position()
    )
    assert not place.catalog.table_exists(TABLE)
    assert place.publish(seal=True).position == place.store.log.position


def test_somebody_else_s_table_is_refused(place: Place, tmp_path: Path) -> None:
    place.put()
    place.catalog.create_namespace("mlmd")
    place.catalog.create_table("mlmd.theirs", pa.schema([("a", pa.int64())]))
    with pytest.raises(errors.FailedPreconditionError, match="is of no store"):
        place.publish(table="mlmd.theirs")
    place.publish()
    (tmp_path / "other").mkdir()
    other = Place(tmp_path / "other")
    with other.store:
        other.put()
        with pytest.raises(
            errors.FailedPreconditionError, match=f"of the store {place.store.log.store_id}"
        ):
            publish(other.path, place.catalog)


def test_a_table_that_was_written_by_hand_is_noticed(place: Place) -> None:
    place.put()
    ours = place.publish().snapshot_id
    assert ours is not None
    table = place.table()
    table.append(table.scan().to_arrow().slice(0, 1))
    place.put()
    with pytest.raises(errors.FailedPreconditionError, match="somebody else has written"):
        place.publish()
    place.table().manage_snapshots().rollback_to_snapshot(ours).commit()
    assert place.publish().position == place.agrees()


def test_another_history_of_the_same_store_is_refused(place: Place, tmp_path: Path) -> None:
    place.put()
    place.store.backup(tmp_path / "earlier")
    with eventstore.open(tmp_path / "earlier") as earlier:
        place.put()
        place.publish()
        with pytest.raises(errors.FailedPreconditionError, match="not this log's"):
            publish(tmp_path / "earlier", place.catalog)
        earlier.put_artifacts([mlmd.Artifact(type_id=place.type_id, name="another")])
        earlier.seal()
        with pytest.raises(errors.FailedPreconditionError, match="not this log's"):
            publish(tmp_path / "earlier", place.catalog)


def test_a_copy_of_which_less_is_sealed_is_refused(place: Place, tmp_path: Path) -> None:
    place.put(2)
    place.publish()
    eventstore.copy(place.path, tmp_path / "copy")
    with pytest.raises(errors.FailedPreconditionError, match="seal the store first"):
        publish(tmp_path / "copy", place.catalog)
    assert publish(tmp_path / "copy", place.catalog, seal=True).files_removed == 1


def test_publishers_at_once_register_each_file_once(place: Place) -> None:
    place.put()
    place.publish()
    place.put(2)
    start, done = threading.Barrier(3), list[int]()

    def run() -> None:
        catalog = place.opened()
        start.wait()
        done.append(publish(place.path, catalog).position)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [place.agrees()] * 3


def test_a_conflict_is_tried_again_and_aborted_in_the_end(
    place: Place, no_waits: mock.Mock
) -> None:
    place.put()
    place.publish()
    place.put()
    refused = CommitFailedException("somebody was faster")
    commit = place.catalog.commit_table
    with mock.patch.object(place.catalog, "commit_table", side_effect=refused) as called:
        with pytest.raises(errors.AbortedError, match="8 times in a row"):
            place.publish()
        assert called.call_count == no_waits.call_count + 1 == 8
    with mock.patch.object(place.catalog, "commit_table", side_effect=[refused, mock.DEFAULT]) as c:
        c.side_effect = lambda *given: commit(*given) if c.call_count > 1 else _raise(refused)
        assert place.publish().files_added == 1
    place.agrees()


def _raise(error: Exception) -> None:
    raise error


def test_a_commit_whose_answer_was_lost_is_there_once(place: Place) -> None:
    place.put()
    commit = place.catalog.commit_table

    def lost(*given: Any) -> None:
        commit(*given)
        raise CommitStateUnknownException("no answer")

    place.publish()
    place.put()
    with mock.patch.object(place.catalog, "commit_table", side_effect=lost):
        assert place.publish().files_added == 1
    assert len(place.table().snapshots()) == 2
    place.agrees()


def test_files_that_are_rewritten_while_they_are_published(place: Place, no_waits: Any) -> None:
    """Once before they are looked at, once between the look at them and the commit."""
    place.put(2)
    commit, made = place.catalog.commit_table, publication.made_table

    def erases_first(*given: Any) -> Any:
        place.store.erase("artifact", 1, reason="GDPR-1")
        return made(*given)

    with mock.patch.object(publication, "made_table", side_effect=erases_first):
        place.publish()
    assert no_waits.call_count == 1
    place.agrees()
    place.put()

    def erases_before(*given: Any) -> Any:
        if no_waits.call_count == 1:
            place.store.erase("artifact", 2, reason="GDPR-2")
        return commit(*given)

    with mock.patch.object(place.catalog, "commit_table", side_effect=erases_before):
        place.publish()
    place.agrees()
    assert_every_snapshot_can_be_read(place)


def test_a_file_that_is_missing_or_another_is_damage(place: Place) -> None:
    place.put()
    place.put()
    first, second = place.store.segment_files()
    assert isinstance(second, Path)
    content = second.read_bytes()
    for damaged in (None, b"PAR1", Path(first).read_bytes()):
        second.unlink()
        if damaged is not None:
            second.write_bytes(damaged)
        with pytest.raises(errors.DataLossError, match="0000000002"):
            place.publish()
        second.write_bytes(content)
    assert place.publish().position == place.agrees()


def test_a_later_format_s_columns_are_added(place: Place) -> None:
    """Rows of files that lack them have nulls; which name is which column does not change."""
    place.put()
    place.publish()
    before = {field.name: field.field_id for field in place.table().schema().fields}
    later = pa.schema([*columns.RECORD_SCHEMA, pa.field("region", pa.utf8(), nullable=False)])
    with mock.patch.object(columns, "RECORD_SCHEMA", later):
        place.publish()
    table = place.table()
    after = {field.name: field.field_id for field in table.schema().fields}
    assert before.items() < after.items()
    assert set(table.scan().to_arrow()["region"].to_pylist()) == {None}
    place.put()
    # An earlier version goes on publishing.
    assert place.publish().position == place.agrees()
    assert '"region"' in table.properties["schema.name-mapping.default"]


def test_the_table_of_a_store_whose_path_engines_read_differently_is_refused(
    place: Place, tmp_path: Path
) -> None:
    odd = tmp_path / "50%" / "store"
    with eventstore.open(odd) as store:
        put_types(store)
    with pytest.raises(errors.FailedPreconditionError, match="move the store"):
        publish(odd, place.catalog, seal=True)


@pytest.mark.parametrize("name", ["records", "", ".records", "mlmd."])
def test_a_name_without_a_namespace_is_refused(place: Place, name: str) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="in a namespace"):
        place.publish(table=name)


def test_what_is_no_catalog_is_said_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="no catalog") as raised:
        catalog_at("ftp://ana:secret@host/x", warehouse=tmp_path)
    assert "secret" not in str(raised.value)
    with pytest.raises(errors.InvalidArgumentError, match="nowhere"):
        catalog_at("nowhere")
