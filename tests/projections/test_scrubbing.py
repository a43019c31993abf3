"""What is erased is in no file of the caches once they are scrubbed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import msgspec
import pytest

from eventstore.audit.compared_caches import with_caches
from eventstore.log import DirectoryLog, Draft, Log, MemoryLog, Position
from eventstore.log.erased import Erased, Spans
from eventstore.log.folder_tree import remove_tree
from eventstore.log.kinds import ARTIFACT, ERASURE
from eventstore.projections import Projections, table_copying
from eventstore.projections.limits import IndexLimits, Limits
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import retention_pb2
from eventstore.store.snapshot import Snapshot
from tests.builders import list_ids

TYPE_ID, NODES = 10, 60
MARKER = "Qx7vKz9wJp2"
LIMITS = Limits(
    IndexLimits(
        tail_records_max=16, built_records_max=20, run_records_max=30, closing_records_min=1
    )
)


def node(node_id: int) -> mlmd.Artifact:
    """One whose content is nowhere else."""
    said = f"{MARKER}{node_id:03d}"
    made = mlmd.Artifact(
        id=node_id, type_id=TYPE_ID, name=f"n-{said}", uri=f"u-{said}", external_id=f"e-{said}"
    )
    made.custom_properties["p"].string_value = f"p-{said}"
    return made


def draft(made: mlmd.Artifact, previous: int | None = None) -> Draft:
    payload = made.SerializeToString(deterministic=True)
    return Draft(ARTIFACT.name, made.id, TYPE_ID, previous, payload)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[DirectoryLog]:
    """A log of many artifacts, each put alone, some sealed."""
    log = DirectoryLog.create(tmp_path / "store", segment_records_max=25)
    for node_id in range(1, NODES + 1):
        log.append([draft(node(node_id))], expected_position=log.position)
    yield log
    log.close()


def erase(log: Log, *positions: int, by: tuple[Draft, ...] = ()) -> None:
    """Ask for it, with what replaces the content."""
    at = log.position + 1
    ranges = [
        retention_pb2.ErasedRange(
            first_position=position,
            last_position=position,
            content=True,
            replaced_by=at + offset + 1 if by else 0,
        )
        for offset, position in enumerate(positions)
    ]
    stage = retention_pb2.Erasure.REQUESTED
    payload = retention_pb2.Erasure(id=at, stage=stage, ranges=ranges).SerializeToString()
    drafts = [Draft(ERASURE.name, at, None, None, payload), *by]
    log.append(drafts, expected_position=log.position)


def folded(log: DirectoryLog) -> Projections:
    """Projections that have all in files."""
    projections = Projections(log, LIMITS)
    list_ids(projections, ARTIFACT.name, as_of=projections.catch_up(), order_by="create_time")
    tables = projections.opened_tables()
    tables.fold(log.position)
    tables.close()
    return projections


def files_with(log: DirectoryLog, *texts: str) -> set[str]:
    """The caches whose files have one of these texts in them."""
    folder = log.cache_folder()
    assert folder is not None
    return {
        path.suffix
        for path in folder.rglob("*")
        if path.is_file() and any(text.encode() in path.read_bytes() for text in texts)
    }


def texts_of(node_id: int) -> tuple[str, ...]:
    return tuple(f"{letter}-{MARKER}{node_id:03d}" for letter in "nuep")


def test_what_is_erased_is_in_no_file(log: DirectoryLog) -> None:
    projections = folded(log)
    redacted = mlmd.Artifact(id=20, type_id=TYPE_ID, name=node(20).name)
    erase(log, 3, 55)
    erase(log, 20, by=(draft(redacted, previous=20),))
    assert files_with(log, *texts_of(3)) == {".run", ".duckdb"}
    projections.scrub()
    for node_id in 3, 55:
        assert not files_with(log, *texts_of(node_id))
    assert not files_with(log, *texts_of(20)[1:])
    # Nothing else is gone.
    assert files_with(log, *texts_of(4)) == {".run", ".duckdb"}
    snapshot = Snapshot(projections, projections.catch_up())
    for node_id, found in (3, None), (4, 4), (20, 20):
        assert snapshot.node_id_by_name(ARTIFACT, TYPE_ID, f"n-{MARKER}{node_id:03d}") == found
    position = projections.index.position
    assert len(list_ids(projections, ARTIFACT.name, as_of=position)) == NODES
    projections.close()


def test_the_copy_of_the_tables_has_their_rows_in_order(log: DirectoryLog) -> None:
    projections = folded(log)
    erase(log, 7)
    projections.scrub()
    projections.close()
    folder = log.cache_folder()
    assert folder is not None
    with duckdb.connect(str(folder / "tables.duckdb"), read_only=True) as opened:
        found = opened.execute("SELECT id, name, erased_by FROM artifacts").fetchall()
        assert [node_id for node_id, _, _ in found] == [*range(1, NODES + 1)]
        assert [row for row in found if row[2] is not None] == [(7, None, NODES + 1)]
        # The file is folded on, and not made anew.
        assert opened.execute("SELECT position FROM folded_position").fetchall() == [(NODES + 1,)]


def test_tables_that_cannot_be_copied_are_removed(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    projections = folded(log)
    erase(log, 7)
    monkeypatch.setattr(table_copying, "open_tables_in_file", lambda *_: None)
    projections.scrub()
    assert not files_with(log, *texts_of(7))
    found = list_ids(projections, ARTIFACT.name, as_of=projections.index.position)
    assert len(found) == NODES
    projections.close()


def test_runs_of_others_are_built_again_when_they_are_opened(log: DirectoryLog) -> None:
    """As after an erasure was interrupted."""
    folded(log).close()
    erase(log, 3, 55)
    projections = Projections(log, LIMITS)
    projections.catch_up()
    # Waits for what was begun.
    projections.close()
    folder = log.cache_folder()
    assert folder is not None
    assert not any(b"p-Qx7vKz9wJp2003" in run.read_bytes() for run in folder.rglob("*.run"))


def test_runs_that_hold_nothing_erased_stay(log: DirectoryLog) -> None:
    projections = folded(log)
    projections.scrub()
    before = {run.path: run for run in projections.index._runs()}
    erase(log, 2)
    projections.scrub()
    after = {run.path: run for run in projections.index._runs()}
    assert len(before) > 1
    kept = [path for path, run in before.items() if after.get(path) is run]
    assert kept == [path for path, run in before.items() if run.first_position > 2]
    projections.close()


def test_a_scrubbed_index_is_what_the_log_gives(log: DirectoryLog) -> None:
    projections = folded(log)
    erase(log, 3)
    erase(log, 20, by=(draft(mlmd.Artifact(id=20, type_id=TYPE_ID), previous=20),))
    projections.scrub()
    projections.close()
    # The log has no types.
    report = msgspec.structs.replace(log.verify(), ok=True, findings=[], not_checked=[])
    report = with_caches(report, log)
    assert (report.cache_findings, report.not_checked) == ([], [])


@pytest.mark.parametrize("way", ["scrubbed", "built", "folded"])
def test_a_name_outlives_the_first_version_that_bore_it(log: DirectoryLog, way: str) -> None:
    projections = folded(log)
    again = log.append([draft(node(5), previous=5)], expected_position=log.position)
    for node_id in range(NODES + 1, NODES + 30):
        log.append([draft(node(node_id))], expected_position=log.position)
    # The run with the second version is written before anything is erased.
    projections.catch_up()
    erase(log, 5)
    if way == "scrubbed":
        projections.scrub()
    else:
        projections.close()
        log.destroy(Erased(content=Spans.of([(5, 5)])))
        folder = log.cache_folder()
        assert folder is not None
        remove_tree(folder)
        projections = Projections(log, LIMITS if way == "built" else Limits())
    position = projections.catch_up()
    name = node(5).name
    assert Snapshot(projections, position).node_id_by_name(ARTIFACT, TYPE_ID, name) == 5
    before = Position(again.first_position - 1)
    assert Snapshot(projections, before).node_id_by_name(ARTIFACT, TYPE_ID, name) is None
    projections.close()


def test_what_is_erased_is_not_in_memory() -> None:
    log = MemoryLog()
    projections = Projections(log, LIMITS)
    for node_id in range(1, 5):
        log.append([draft(node(node_id))], expected_position=log.position)
    projections.catch_up()
    erase(log, 3)
    projections.catch_up()
    held = repr([vars(level) for level in projections.index._levels])
    assert [f"{MARKER}{node_id:03d}" in held for node_id in (2, 3, 4)] == [True, False, True]
    projections.close()
