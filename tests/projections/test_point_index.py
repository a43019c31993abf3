"""The point index: which runs it takes, which it throws away, and what it leaves alone."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from msgspec.structs import replace

from eventstore.log import Commit, DirectoryLog, Draft, MemoryLog
from eventstore.log.cache_file import written_whole
from eventstore.log.columns import one_batch
from eventstore.projections import (
    index_tail,
    kept_runs,
    run_building,
    run_folder,
    run_writing,
)
from eventstore.projections.erased_records import ErasedRecords
from eventstore.projections.index_tables import (
    ARTIFACT_URIS,
    EVENTS_BY_ARTIFACT,
    TABLES,
    decode_id,
    hash64,
)
from eventstore.projections.index_tail import Tail
from eventstore.projections.limits import IndexLimits
from eventstore.projections.point_index import PointIndex
from eventstore.projections.run_batches import run_batch, sorted_batch
from eventstore.projections.run_building import INDEXED_COLUMNS
from eventstore.projections.run_file import RUN_FORMAT_VERSION, RunMetadata, UnusableRunError
from eventstore.projections.run_writing import write_run
from eventstore.projections.sorted_run import SortedRun
from tests.builders import ARTIFACTS, append, draft, wait_until_written

SMALL = IndexLimits(tail_records_max=5, closing_records_min=1)


def filled(directory: Path, commits: int = 12) -> DirectoryLog:
    """A log of two records a commit, artifacts 1, 2, 3..."""
    log = DirectoryLog.create(directory)
    for number in range(commits):
        append(log, draft(2 * number + 1), draft(2 * number + 2))
    return log


def opened(
    log: DirectoryLog, limits: IndexLimits = SMALL, *, read_only: bool = False
) -> PointIndex:
    return PointIndex(log, folder_of(log), limits, read_only=read_only)


def folded(
    log: DirectoryLog, limits: IndexLimits = SMALL, *, read_only: bool = False
) -> PointIndex:
    """The index of a log, caught up and its writing done."""
    index = opened(log, limits, read_only=read_only)
    for commit in log.commits(index.position):
        index.add(commit)
    wait_until_written(index)
    return index


def folder_of(log: DirectoryLog) -> Path:
    return log.directory / "projections" / "index"


def metadata_of(
    log: DirectoryLog | MemoryLog, span: tuple[int, int], recorded: tuple[int, int], highest: int
) -> RunMetadata:
    """What a run of a span of positions says of itself."""
    return RunMetadata(
        format_version=RUN_FORMAT_VERSION,
        content_id=log.store_id,
        first_position=span[0],
        last_position=span[1],
        preceding_recorded_at=recorded[0],
        last_recorded_at=recorded[1],
        highest_ids={"artifact": highest},
    )


def ids(index: PointIndex, as_of: int) -> list[int]:
    """The artifacts that are found by id and by uri."""
    found = [*index.keys(ARTIFACTS, as_of)]
    for node_id in found:
        entries = index.entries(ARTIFACT_URIS, hash64(f"s3://{node_id}"), as_of)
        assert {decode_id(value) for _, value in entries} == {node_id}
    return found


def test_few_runs_stay_after_many_were_written(tmp_path: Path) -> None:
    log = filled(tmp_path / "store", 100)
    folded(log).close()
    assert 1 <= len(list(folder_of(log).iterdir())) <= 4
    index = opened(log)
    assert index.position == 200
    assert ids(index, 200) == list(range(1, 201))
    assert ids(index, 77) == list(range(1, 78))


@pytest.mark.parametrize(
    "artifact_ids",
    [
        [*range(1, 25)],
        [*range(1, 13), *range(7, 19)],
        [*range(13, 25), *range(1, 13)],
        [*range(1, 25, 2), *range(2, 26, 2)],
        [40, 40, 3, 5, 41, 4, 6, 3, 40, 7, 90, 42],
        [5, 5, 6, 6, 20, 20, 21, 21, 5, 6, 20, 21, 7, 7],
    ],
)
def test_counts_are_those_of_the_keys_whatever_their_order(
    tmp_path: Path, artifact_ids: list[int]
) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    for node_id in artifact_ids:
        append(log, draft(node_id))
    index = folded(log)
    assert index._runs()
    for as_of in range(len(artifact_ids) + 1):
        for table in (ARTIFACTS, ARTIFACT_URIS):
            assert index.key_count(table, as_of) == len({*artifact_ids[:as_of]})
            assert index.entry_count(table, as_of) == as_of
    assert index.key_count(EVENTS_BY_ARTIFACT, log.position) == 0
    assert index.entry_count(EVENTS_BY_ARTIFACT, log.position) == 0


def test_a_pipe_among_the_runs_keeps_nobody_waiting(tmp_path: Path) -> None:
    log = filled(tmp_path / "store")
    folded(log).close()
    os.mkfifo(folder_of(log) / "pipe")
    index = opened(log)
    assert ids(index, 24) == list(range(1, 25))
    assert not (folder_of(log) / "pipe").exists()


def test_merging_stops_at_the_largest_run(tmp_path: Path) -> None:
    log = filled(tmp_path / "store", 100)
    folded(log, replace(SMALL, run_records_max=30)).close()
    runs = run_folder.usable_runs(folder_of(log), log, remove_useless=False)
    assert max(run.records for run in runs) <= 30
    assert runs[-1].last_position == 200
    assert ids(opened(log), 200) == list(range(1, 201))


def test_runs_of_others_are_adopted_where_much_is_lacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = filled(tmp_path / "store", 4)
    behind, writing = folded(log), folded(log)
    old = behind._runs()
    for node_id in range(9, 14):
        writing.add(append(log, draft(node_id)))
    assert not behind.adopt(), "a tail holds that many"
    assert behind.position == 8
    for node_id in range(14, 60):
        writing.add(append(log, draft(node_id)))
    writing.close()
    reader = opened(log, read_only=True)
    monkeypatch.setattr(run_building, "built_run", None)
    for index in (behind, reader):
        index.adopt()
        assert index.position == 59
        assert index.highest_id("artifact") == 59
        assert [run.path for run in index._runs()] == sorted(folder_of(log).iterdir())
        for as_of in (1, 8, 9, 59):
            assert ids(index, as_of) == list(range(1, as_of + 1))
        assert not index.adopt()
    assert not set(old) & set(behind._runs()), "they were merged"
    behind.add(append(log, draft(60)))
    assert ids(behind, 60) == list(range(1, 61))


def test_adopting_keeps_open_runs_and_writes_no_tail_that_they_cover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(SMALL, run_records_max=6)
    log = filled(tmp_path / "store", 3)
    behind = folded(log, short)
    (kept,) = behind._runs()
    monkeypatch.setattr(behind._writer, "submit", lambda *_: None)
    for node_id in range(7, 13):
        behind.add(append(log, draft(node_id)))
    frozen = behind._levels[1]
    assert isinstance(frozen, Tail)
    for node_id in range(13, 31):
        append(log, draft(node_id))
    folded(log, short)
    assert behind.adopt()
    assert behind._runs()[0] is kept
    assert frozen not in behind._levels
    written: list[Any] = []
    monkeypatch.setattr(run_building, "tail_run", lambda *given: written.append(given))
    behind._write_out(frozen)
    assert written == []
    assert ids(behind, 30) == list(range(1, 31))


def test_a_put_does_not_wait_for_a_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_merging, may_merge, whole = threading.Event(), threading.Event(), kept_runs.merge_runs

    def merging(*given: Any) -> SortedRun:
        is_merging.set()
        assert may_merge.wait(30)
        return whole(*given)

    monkeypatch.setattr(kept_runs, "merge_runs", merging)
    log = DirectoryLog.create(tmp_path / "store")
    index = opened(log)
    # Many more tails than may wait to be written out.
    adding = threading.Thread(
        target=lambda: [index.add(append(log, draft(number))) for number in range(1, 100)]
    )
    adding.start()
    assert is_merging.wait(30)
    adding.join(30)
    waited = adding.is_alive()
    may_merge.set()
    adding.join()
    assert not waited
    wait_until_written(index)
    assert ids(index, 99) == list(range(1, 100))
    index.close()
    assert len(index._runs()) < 10


def test_sealed_records_become_runs_at_once(tmp_path: Path) -> None:
    log = DirectoryLog.create(tmp_path / "store", segment_records_max=10)
    for number in range(1, 101):
        append(log, draft(number))
    log.seal()
    append(log, draft(101))
    index = opened(log, replace(SMALL, built_records_max=40))
    progress: list[tuple[int, int]] = []
    index.fold_sealed(lambda done, of: progress.append((done, of)))
    assert progress == [(40, 101), (80, 101), (100, 101)]
    assert index.position == 100
    assert ids(index, 100) == list(range(1, 101))
    assert index.highest_id("artifact") == 100
    (last,) = log.commits(100)
    index.add(last)
    index.close()
    assert ids(opened(log), 101) == list(range(1, 102))


def test_a_tail_goes_before_the_runs_that_are_built_behind_it(tmp_path: Path) -> None:
    log = DirectoryLog.create(tmp_path / "store", segment_records_max=10)
    for number in range(1, 4):
        append(log, draft(number))
    index = folded(log)
    for number in range(4, 60):
        append(log, draft(number))
    log.seal()
    progress: list[tuple[int, int]] = []
    index.fold_sealed(lambda done, of: progress.append((done, of)))
    assert progress == [(56, 56)]
    assert index.position == 59
    index.close()
    assert ids(index, 59) == list(range(1, 60))
    assert ids(opened(log), 59) == list(range(1, 60))


def test_what_is_no_run_of_this_log_is_removed(tmp_path: Path) -> None:
    log, foreign = filled(tmp_path / "store"), filled(tmp_path / "foreign")
    folded(log).close()
    folded(foreign).close()
    (mine,) = folder_of(log).iterdir()
    (theirs,) = folder_of(foreign).iterdir()
    renamed = folder_of(log) / mine.name.replace("024.run", "023.run")
    shutil.copy(mine, renamed)
    shutil.copy(theirs, mine)
    (folder_of(log) / "empty.run").write_bytes(b"")
    (folder_of(log) / "abandoned.run.1.tmp").write_bytes(b"half")
    with written_whole(folder_of(log) / "written.run"):
        (written,) = folder_of(log).glob("written.run.*.tmp")
        before = sorted(folder_of(log).iterdir())
        assert run_folder.usable_runs(folder_of(log), log, remove_useless=False) == []
        assert sorted(folder_of(log).iterdir()) == before
        assert opened(log).position == 0
        assert [*folder_of(log).iterdir()] == [written]


def test_runs_of_a_history_that_was_lost_are_not_used(tmp_path: Path) -> None:
    log = filled(tmp_path / "store", 4)
    folded(log).close()
    log.close()
    shutil.copytree(tmp_path / "store", tmp_path / "earlier")
    for number in range(9, 30):
        append_to(tmp_path / "store", draft(number))
    log = DirectoryLog.open(tmp_path / "store")
    folded(log).close()
    log.close()
    # The store is restored from a backup, the projections are not, and the log grows again.
    shutil.rmtree(tmp_path / "store" / "log")
    shutil.copytree(tmp_path / "earlier" / "log", tmp_path / "store" / "log")
    shutil.copy(tmp_path / "earlier" / "manifest.json", tmp_path / "store" / "manifest.json")
    for number in range(109, 140):
        append_to(tmp_path / "store", draft(number))
    log = DirectoryLog.open(tmp_path / "store")
    index = folded(log)
    assert ids(index, log.position) == [*range(1, 9), *range(109, 140)]
    index.close()


def append_to(directory: Path, *drafts: Draft) -> Commit:
    log = DirectoryLog.open(directory)
    try:
        return append(log, *drafts)
    finally:
        log.close()


def test_the_longest_chain_is_found_among_the_runs_of_two_writers(tmp_path: Path) -> None:
    log = filled(tmp_path / "store", 20)
    folder = tmp_path / "runs"
    folder.mkdir()

    def write(first: int, last: int) -> None:
        before = log.recorded_at(first - 1) if first > 1 else 0
        metadata = metadata_of(log, (first, last), (before, log.recorded_at(last)), last)
        positions = list(range(first, last + 1))
        batch = run_batch(positions, positions, [b"%d" % position for position in positions])
        path = run_folder.run_path(folder, first, last)
        write_run(path, metadata, {ARTIFACTS: batch})

    for first, last in (
        (1, 10),
        (11, 16),
        (1, 14),
        (15, 18),
        (17, 28),
        (29, 30),
        (17, 30),
        (32, 36),
    ):
        write(first, last)
    runs = run_folder.usable_runs(folder, log, remove_useless=True)
    assert [(run.first_position, run.last_position) for run in runs] == [
        (1, 10),
        (11, 16),
        (17, 30),
    ]
    assert len(list(folder.iterdir())) == 4
    index = PointIndex(log, folder, SMALL)
    assert index.position == 30
    assert index.newest(ARTIFACTS, 17, 40) == (17, b"17")
    assert index.highest_id("artifact") == 30


def test_a_run_that_another_process_merges_meanwhile_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = filled(tmp_path / "store")
    folded(log).close()
    (run,) = folder_of(log).iterdir()
    merged_away = folder_of(log) / f"{0:019d}-{0:019d}.run"
    shutil.copy(run, merged_away)
    asked: list[Path] = []

    def open_run(path: Path, limits: IndexLimits) -> SortedRun:
        asked.append(path)
        if path == merged_away:
            path.unlink()
        return SortedRun(path, limits)

    monkeypatch.setattr(run_folder, "SortedRun", open_run)
    assert opened(log).position == 24
    assert asked == [merged_away, run, run]


@pytest.mark.parametrize("kept", [0, 8, 100, -1, -8, -200])
def test_a_cut_run_is_not_taken(tmp_path: Path, kept: int) -> None:
    log = filled(tmp_path / "store")
    folded(log).close()
    (path,) = folder_of(log).iterdir()
    cut = tmp_path / path.name
    cut.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UnusableRunError):
        SortedRun(cut)
    with pytest.raises(UnusableRunError):
        SortedRun(tmp_path / "missing.run")


def test_a_reading_one_leaves_the_folder_as_it_is(tmp_path: Path) -> None:
    log = filled(tmp_path / "store")
    folded(log).close()
    (folder_of(log) / "empty.run").write_bytes(b"")
    before = {path: path.read_bytes() for path in folder_of(log).iterdir()}
    for number in range(25, 60):
        append(log, draft(number))
    index = folded(DirectoryLog.open(log.directory, read_only=True), read_only=True)
    assert ids(index, 59) == list(range(1, 60))
    assert index._temporary is not None
    temporary = Path(index._temporary.path)
    assert temporary.exists()
    index.close()
    assert not temporary.exists()
    assert {path: path.read_bytes() for path in folder_of(log).iterdir()} == before


def test_an_unwritable_folder_leaves_the_entries_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = filled(tmp_path / "store")
    folder_of(log).parent.mkdir()
    folder_of(log).write_text("a file, no folder")
    index = folded(log)
    assert "failed" in caplog.text
    assert ids(index, 24) == list(range(1, 25))
    index.close()


def test_a_run_that_cannot_be_built_costs_memory_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = DirectoryLog.create(tmp_path / "store", segment_records_max=10)
    for number in range(1, 30):
        append(log, draft(number))
    log.seal()
    folder_of(log).parent.mkdir()
    folder_of(log).write_text("a file, no folder")
    index = opened(log)
    index.fold_sealed()
    assert index.position == 0
    assert "failed" in caplog.text
    assert ids(folded(log), 29) == list(range(1, 30))


def test_a_run_that_cannot_be_built_apart_names_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError("full")

    log = DirectoryLog.create(tmp_path / "store", segment_records_max=10)
    for number in range(1, 30):
        append(log, draft(number))
    log.seal()
    monkeypatch.setattr(run_building, "built_run", full)
    index = opened(log, read_only=True)
    index.fold_sealed()
    assert index._temporary is not None
    assert caplog.messages == [f"writing the point index in {index._temporary.path} failed: full"]
    index.close()


def test_look_ups_find_everything_while_runs_are_written_and_merged(tmp_path: Path) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    index = opened(log)
    failures: list[BaseException] = []
    is_done = threading.Event()

    def read() -> None:
        try:
            while not is_done.is_set():
                position = index.position
                for node_id in range(1, position + 1, 7):
                    assert index.newest(ARTIFACTS, node_id, position) is not None
                assert len([*index.keys(ARTIFACTS, position)]) == position
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(1, 80):
        index.add(append(log, draft(number)))
    is_done.set()
    for reader in readers:
        reader.join()
    index.close()
    assert not failures


def test_a_forked_child_goes_on_by_itself(tmp_path: Path) -> None:
    log = filled(tmp_path / "store", 4)
    index = folded(log)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for number in range(9, 30):
                index.add(append(log, draft(number)))
            index.close()
            code = 0 if ids(index, 29) == list(range(1, 30)) else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    log.refresh()
    for commit in log.commits(index.position):
        index.add(commit)
    assert ids(index, 29) == list(range(1, 30))
    index.close()
    assert ids(opened(log), 29) == list(range(1, 30))


def test_a_log_in_memory_has_no_runs() -> None:
    log = MemoryLog()
    index = PointIndex(log, None, SMALL)
    for number in range(1, 50):
        index.add(append(log, draft(number)))
    index.fold_sealed()
    assert index._runs() == []
    assert ids(index, 49) == list(range(1, 50))
    with pytest.raises(AssertionError):
        index.add(append(log, draft(50)) and append(log, draft(51)))
    index.close()


def test_entries_of_one_key_keep_their_order() -> None:
    keys = pa.array([2, -1, 2, -1, 2], pa.int64())
    positions = pa.array([1, 2, 3, 4, 5], pa.int64())
    batch = sorted_batch(keys, positions, pa.array([b"a", b"b", b"c", b"d", b"e"]))
    assert batch.to_pydict() == {
        "key": [-1, -1, 2, 2, 2],
        "position": [2, 4, 1, 3, 5],
        "value": [b"b", b"d", b"a", b"c", b"e"],
    }


def test_a_long_tail_becomes_a_run_turn_by_turn(tmp_path: Path) -> None:
    log, tail = DirectoryLog.create(tmp_path / "store"), Tail(0, 0, {})
    end = 2 * max(index_tail._ENTRIES_PER_TURN, run_writing._ROWS_PER_TURN) + 10
    tail.add(append(log, *map(draft, range(1, end))), None)
    tables = tail.tables()
    assert tables == run_building.run_tables(
        one_batch(log.scan(0, log.position, INDEXED_COLUMNS)), ErasedRecords(log)
    )
    run = write_run(tmp_path / "long.run", metadata_of(log, (1, end - 1), (0, 1), end - 1), tables)
    for node_id in range(1, end):
        assert run.newest(ARTIFACTS, node_id, end) == tail.newest(ARTIFACTS, node_id, end)
        uri = hash64(f"s3://{node_id}")
        assert [*run.ids(ARTIFACT_URIS, uri, end)] == [node_id]
    log.close()


def test_a_run_of_nothing_answers_nothing(tmp_path: Path) -> None:
    log = filled(tmp_path / "store")
    metadata = metadata_of(log, (1, 2), (0, 1), 0)
    run = write_run(tmp_path / "empty.run", metadata, {})
    for table in TABLES:
        assert run.newest(table, 1, 9) is None
        assert not run.entries(table, 1, 9)
        assert [*run.keys(table, 9)] == []
