"""Caches compared with the log one by one, and what each of them does with a short log."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eventstore.audit import compared_caches, subtree_heads
from eventstore.audit.compared_caches import with_caches
from eventstore.audit.subtree_heads import SubtreeHeads
from eventstore.log import DirectoryLog, MemoryLog
from eventstore.log.merkle import tree_head
from eventstore.projections import (
    index_tail,
    run_folder,
)
from eventstore.projections.index_entries import commit_entries
from eventstore.projections.index_tables import ARTIFACT_URIS, EVENT_KEYS, hash64
from eventstore.projections.index_tail import Tail
from eventstore.projections.limits import IndexLimits
from eventstore.projections.point_index import PointIndex
from eventstore.projections.run_batches import run_batch
from eventstore.projections.run_file import RUN_FORMAT_VERSION, RunMetadata
from eventstore.projections.run_writing import write_run_file
from eventstore.projections.sorted_run import SortedRun
from eventstore.projections.tables import Tables
from tests.builders import ARTIFACTS, append, draft, wait_until_written


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a log of twenty-four records in three runs."""
    made = DirectoryLog.create(tmp_path_factory.mktemp("built") / "store")
    index = PointIndex(made, folder_of(made), IndexLimits(tail_records_max=7, run_records_max=8))
    for number in range(1, 25):
        index.add(append(made, draft(number)))
        wait_until_written(index)
    index.close()
    assert len(runs_of(made)) == 3
    made.close()
    return made.directory


@pytest.fixture
def log(built: Path, tmp_path: Path) -> Iterator[DirectoryLog]:
    """The log of a copy of it."""
    with closing(DirectoryLog.open(Path(shutil.copytree(built, tmp_path / "store")))) as opened:
        yield opened


def folder_of(log: DirectoryLog) -> Path:
    return log.directory / "projections" / "index"


def runs_of(log: DirectoryLog) -> list[Path]:
    return sorted(folder_of(log).glob("*.run"))


def forge(path: Path) -> None:
    run = SortedRun(path)
    batch = run_batch([1], [1], [b"forged"])
    write_run_file(path, run.metadata, {ARTIFACTS: batch}, seed=run.file.seed)


def compared(log: DirectoryLog, progress: Any = None) -> tuple[list[str | None], list[str]]:
    report = with_caches(log.verify(), log, progress)
    return [finding.file for finding in report.cache_findings], list(report.not_checked)


def test_all_runs_are_compared_and_counted(log: DirectoryLog) -> None:
    told: list[tuple[int, int]] = []
    assert compared(log, lambda done, of: told.append((done, of))) == ([], [])
    assert told == [(8, 24), (16, 24), (24, 24)]
    first, second, third = runs_of(log)
    forge(second)
    assert compared(log) == ([str(second)], [])
    forge(third)
    forge(first)
    assert compared(log) == ([str(first), str(second), str(third)], [])


@pytest.mark.parametrize("number", [0, 1])
def test_what_may_not_be_read_hides_nothing_else(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    runs, access = runs_of(log), os.access
    monkeypatch.setattr("os.access", lambda path, mode: path != runs[number] and access(path, mode))
    forge(runs[2])
    forge(runs[number])
    assert compared(log) == (
        [str(runs[2])],
        [f"{runs[number]}, which this user may not read"],
    )


@pytest.mark.parametrize("number", [0, 1])
def test_a_run_of_no_use_hides_nothing_else(log: DirectoryLog, number: int) -> None:
    runs = runs_of(log)
    runs[number].write_bytes(b"no run")
    found, (words,) = compared(log)
    assert found == []
    assert words.startswith(f"{runs[number]}, which is not usable and will be rebuilt: ")
    forge(runs[2])
    assert compared(log)[0] == [str(runs[2])]


@pytest.mark.parametrize("what", ["projections", "index"])
def test_folders_that_may_not_be_read_are_said(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    asked: list[int] = []

    def access(path: Path, mode: int) -> bool:
        asked.append(mode)
        return Path(path).name != what

    monkeypatch.setattr("os.access", access)
    found, (words,) = compared(log)
    assert found == []
    assert words.endswith(f"{what}, which this user may not read")
    assert asked[0] == os.R_OK | os.X_OK


def test_a_file_that_is_missing_for_another_reason_is_an_error(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any) -> bool:
        raise FileNotFoundError("a segment")

    monkeypatch.setattr(compared_caches, "same_file", missing)
    with pytest.raises(FileNotFoundError, match="a segment"):
        compared(log)


@pytest.mark.parametrize("number", [0, 1])
def test_a_run_that_cannot_be_made_again_hides_nothing_else(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As on a full disk for temporary files."""
    runs, write = runs_of(log), compared_caches.write_run_file
    forge(runs[2])

    def full(path: Path, *arguments: Any, **named: Any) -> None:
        if path.name == runs[number].name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, *arguments, **named)

    monkeypatch.setattr(compared_caches, "write_run_file", full)
    found, (words,) = compared(log)
    assert found == [str(runs[2])]
    assert words.startswith(f"{runs[number]}: comparing {runs[number]} failed: No space left")


def test_what_is_folded_while_tables_are_compared_is_not_compared(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables, position = Tables(log, log.directory / "projections" / "tables.duckdb"), log.position
    tables.fold(position)

    def fold_more(connection: Any) -> list[str]:
        append(log, draft(position + 1))
        tables.fold(position + 1)
        return others_in(connection)

    others_in = compared_caches.others_in
    with monkeypatch.context() as patched:
        patched.setattr(compared_caches, "others_in", fold_more)
        assert compared(log) == ([], [])
    assert tables.folded_position() == position + 1
    assert compared(log) == ([], [])
    tables.close()


def test_runs_of_another_log_and_of_a_later_position_are_no_findings(
    log: DirectoryLog, tmp_path: Path
) -> None:
    other = DirectoryLog.create(tmp_path / "other")
    for number in range(1, 9):
        append(other, draft(number))
    assert with_caches(other.verify(), other).cache_findings == []
    folder_of(other).mkdir(parents=True)
    for path in runs_of(log):
        folder_of(other).joinpath(path.name).write_bytes(path.read_bytes())
    assert compared(other) == ([], [])
    other.close()


def test_tables_that_another_process_has_open_are_said(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = log.directory / "projections" / "tables.duckdb"
    tables.write_bytes(b"")
    monkeypatch.setattr(compared_caches, "open_tables_to_compare", lambda *_: None)
    assert compared(log) == ([], [f"{tables}, which another process has open"])


@pytest.mark.parametrize("at_once", [3, 8, 100])
def test_long_runs_are_compared_in_parts(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(compared_caches, "_RECORDS_AT_ONCE", at_once)
    assert compared(log) == ([], [])


def test_the_longest_chain_passes_over_runs_that_follow_nothing(
    log: DirectoryLog, tmp_path: Path
) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()

    def write(first: int, last: int, preceding: int = -1) -> None:
        before = log.recorded_at(first - 1) if first > 1 else 0
        metadata = RunMetadata(
            format_version=RUN_FORMAT_VERSION,
            content_id=log.store_id,
            first_position=first,
            last_position=last,
            preceding_recorded_at=before if preceding < 0 else preceding,
            last_recorded_at=log.recorded_at(last),
            highest_ids={},
        )
        write_run_file(run_folder.run_path(folder, first, last), metadata, {})

    for first, last in ((1, 4), (2, 9), (3, 3), (5, 8), (7, 12), (9, 11), (14, 20)):
        write(first, last)
    # One of another history, which would lead farther.
    write(5, 24, preceding=1)
    runs = run_folder.usable_runs(folder, log, remove_useless=False)
    assert [(run.first_position, run.last_position) for run in runs] == [(1, 4), (5, 8), (9, 11)]


# The heads of subtrees


@pytest.fixture
def heads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[MemoryLog, Callable[[], SubtreeHeads], Path]:
    """A log of ten records, its heads of two leaves each, and their file."""
    monkeypatch.setattr(subtree_heads, "BLOCK_LEAVES", 2)
    log = MemoryLog()
    for number in range(1, 11):
        append(log, draft(number))
    path = tmp_path / "heads"
    return log, lambda: SubtreeHeads(log, path, read_only=False), path


def test_heads_are_those_of_the_leaves(heads: Any) -> None:
    log, opened, path = heads
    leaves = [*subtree_heads._leaves(log, 0, 10)]
    made = opened()
    told: list[tuple[int, int]] = []
    made.extend(9, lambda done, of: told.append((done, of)))
    assert told == [(2, 9), (4, 9), (6, 9), (8, 9)]
    made.extend(9, lambda *_: told.clear())
    assert len(told) == 4
    for first, end in ((0, 1), (0, 2), (1, 2), (2, 4), (0, 4), (4, 7), (0, 8), (0, 10), (8, 10)):
        assert made.head(first, end) == tree_head(leaves[first:end]), (first, end)
    assert len(made._blocks) == 5
    again = opened()
    assert again._blocks == made._blocks
    assert not again.is_empty
    again.forget()
    assert again.is_empty
    assert not path.exists()


def test_heads_are_computed_and_forgotten_by_one_thread_at_a_time(
    heads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, opened, path = heads
    made, seen = opened(), []
    monkeypatch.setattr(
        SubtreeHeads, "_write", lambda self: seen.append(self._mutex.locked()), raising=True
    )
    made.extend(4)
    path.write_bytes(b"")
    unlink = Path.unlink

    def noting(self: Path, missing_ok: bool = False) -> None:
        seen.append(made._mutex.locked())
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", noting)
    made.forget()
    assert seen == [True, True]


@pytest.mark.parametrize(
    ("change", "are_of_log", "blocks"),
    [
        (lambda content: content, True, 4),
        (lambda content: content[:-32], True, 3),
        (lambda content: content[:-33] + bytes([content[-33] ^ 1]) + content[-32:], False, 4),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), False, 4),
        (lambda content: content + content[-32:], False, 5),
        (lambda content: content + content[-32:] * 2, False, 6),
        (lambda content: content[:-1], True, 0),
        (lambda content: b"X" + content[1:], True, 0),
        (lambda _: b"", True, 0),
    ],
)
def test_heads_of_a_file_that_was_changed(
    heads: Any, change: Callable[[bytes], bytes], are_of_log: bool, blocks: int
) -> None:
    _, opened, path = heads
    opened().extend(8)
    path.write_bytes(change(path.read_bytes()))
    found = opened()
    assert (found.are_of_log(), len(found._blocks)) == (are_of_log, blocks)
    assert found.is_empty is (blocks == 0)


def test_heads_that_are_only_read_leave_the_file_alone(heads: Any) -> None:
    log, opened, path = heads
    opened().extend(4)
    before = path.read_bytes()
    reading = SubtreeHeads(log, path, read_only=True)
    reading.extend(10)
    assert len(reading._blocks) == 5
    reading.forget()
    assert path.read_bytes() == before


# What is in memory


def test_a_tail_answers_up_to_a_position() -> None:
    log, tail = MemoryLog(), Tail(0, 0, {})
    tail.add(append(log, draft(1), draft(2)), None)
    tail.add(append(log, draft(1, previous=1)), None)
    uri = hash64("s3://1")
    for as_of, count in ((0, 0), (1, 1), (2, 1), (3, 2)):
        found = tail.values_of_each(ARTIFACT_URIS, [uri, 5], as_of)
        assert {key: len(values) for key, values in found.items()} == (
            {uri: count} if count else {}
        )
        assert len(tail.entries(ARTIFACT_URIS, uri, as_of)) == count
        assert len(tail.ids(ARTIFACT_URIS, uri, as_of)) == count
        newest = tail.newest(ARTIFACTS, 1, as_of)
        assert (None if newest is None else newest[0]) == (None, 1, 1, 3)[as_of]
        assert [*tail.newest_of_each(ARTIFACTS, [1, 2, 9], as_of)] == [[], [1], [1, 2], [1, 2]][
            as_of
        ]
        assert [*tail.keys(ARTIFACTS, as_of)] == [[], [1], [1, 2], [1, 2]][as_of]
    assert tail.values_of_each(EVENT_KEYS, [1], 9) == {}
    assert tail.newest_of_each(EVENT_KEYS, [1], 9) == {}
    assert tail.known_keys(ARTIFACTS, [1, 2, 9]) == {1, 2}


def test_a_commit_that_was_added_by_half_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Any) -> Any:
        raise KeyboardInterrupt

    log, tail = MemoryLog(), Tail(0, 0, {})
    tail.add(append(log, draft(1), draft(2)), None)
    second, uri = append(log, draft(1, previous=1), draft(3)), hash64("s3://1")
    monkeypatch.setattr(index_tail, "_ENTITY_ID", interrupted)
    with pytest.raises(KeyboardInterrupt):
        # A transaction hands over tables without entries, too.
        tail.add(second, {EVENT_KEYS: {}, **commit_entries(second)})
    monkeypatch.undo()
    assert (tail.last_position, tail.records) == (2, 2)
    for as_of in (2, 9):
        assert [position for position, _ in tail.entries(ARTIFACTS, 1, as_of)] == [1]
        assert tail.ids(ARTIFACT_URIS, uri, as_of) == [1]
        assert tail.newest(ARTIFACTS, 3, as_of) is None
    assert tail.known_keys(ARTIFACTS, [1, 2, 3]) == {1, 2}
    tail.add(second, None)
    assert [position for position, _ in tail.entries(ARTIFACTS, 1, 9)] == [1, 3]
    assert tail.ids(ARTIFACT_URIS, uri, 9) == [1, 1]
    assert tail.known_keys(ARTIFACTS, [1, 2, 3]) == {1, 2, 3}
    assert (tail.last_position, tail.records) == (4, 4)
    assert tail.highest_ids["artifact"] == 3
