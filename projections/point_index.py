"""The point index: a sorted multimap over all records, for look-ups by key, now and as of any past.

It is a stack of levels, each the entries of a stretch of consecutive positions: sorted runs on
disk, then the tail in memory that takes new commits. A tail that has grown long is frozen and
written out as a run in the background, and neighbouring runs of like size are merged, so that the
number of levels stays logarithmic in the number of records.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Protocol
from uuid import UUID

from eventstore.log import Commit, Log
from eventstore.projections.index_tables import SEQUENCES, TABLES, index_entries
from eventstore.projections.sorted_run import (
    RUN_FORMAT_VERSION,
    RunMetadata,
    SortedRun,
    UnusableRunError,
    merge_runs,
    run_batch,
    write_run,
)

_LOGGER = logging.getLogger("eventstore.projections")

TAIL_RECORDS_MAX = 16_384
"""A tail with more records than this is written out as a run."""

_CLOSING_RECORDS_MIN = 1_000
_MERGE_RATIO = 4


class _Level(Protocol):
    @property
    def first_position(self) -> int: ...
    @property
    def last_position(self) -> int: ...
    @property
    def highest_ids(self) -> Mapping[str, int]: ...
    def newest(self, table: int, key: int, as_of: int) -> tuple[int, bytes] | None: ...
    def entries(self, table: int, key: int, as_of: int) -> list[tuple[int, bytes]]: ...
    def keys(self, table: int, as_of: int) -> Iterator[int]: ...


class _Tail:
    """The newest entries, in memory. One thread adds, any number read."""

    def __init__(self, last_position: int, highest_ids: Mapping[str, int]) -> None:
        self.first_position = last_position + 1
        self.last_position = last_position
        self.last_recorded_at = 0
        self.highest_ids = dict(highest_ids)
        self._tables: dict[int, dict[int, list[tuple[int, bytes]]]] = {
            table: {} for table in TABLES
        }

    @property
    def records(self) -> int:
        return self.last_position - self.first_position + 1

    def add(self, commit: Commit) -> None:
        for record in commit.records:
            for table, key, value in index_entries(record):
                self._tables[table].setdefault(key, []).append((record.position, value))
            sequence = SEQUENCES[record.kind]
            if record.entity_id > self.highest_ids.get(sequence, 0):
                self.highest_ids[sequence] = record.entity_id
        self.last_recorded_at = commit.recorded_at
        # Last, so that a reader that sees the position also sees the entries.
        self.last_position = commit.last_position

    def newest(self, table: int, key: int, as_of: int) -> tuple[int, bytes] | None:
        for entry in reversed(self._tables[table].get(key, ())):
            if entry[0] <= as_of:
                return entry
        return None

    def entries(self, table: int, key: int, as_of: int) -> list[tuple[int, bytes]]:
        return [entry for entry in self._tables[table].get(key, ()) if entry[0] <= as_of]

    def keys(self, table: int, as_of: int) -> Iterator[int]:
        found = [k for k, entries in list(self._tables[table].items()) if entries[0][0] <= as_of]
        return iter(sorted(found))

    def write(self, path: Path, store_id: UUID) -> SortedRun:
        columns = {}
        for table, by_key in self._tables.items():
            rows = [
                (key, position, value) for key in sorted(by_key) for position, value in by_key[key]
            ]
            if rows:
                keys, positions, values = map(list, zip(*rows, strict=True))
                columns[table] = run_batch(keys, positions, values)
        metadata = RunMetadata(
            format_version=RUN_FORMAT_VERSION,
            store_id=store_id,
            first_position=self.first_position,
            last_position=self.last_position,
            last_recorded_at=self.last_recorded_at,
            highest_ids=self.highest_ids,
        )
        return write_run(path, metadata, columns)


class PointIndex:
    """Entries (table, key) -> (position, value) of every record up to `position`.

    One thread at a time may add; any number may read meanwhile. Without a folder, or
    with `read_only`, what is added stays in memory.
    """

    def __init__(
        self,
        log: Log,
        folder: Path | None,
        *,
        read_only: bool = False,
    ) -> None:
        self._store_id = log.store_id
        self._folder = None if read_only else folder
        self._swap = threading.Lock()
        self._writer: ThreadPoolExecutor | None = None
        runs = _usable_runs(folder, log, remove_merged=not read_only) if folder else []
        last_position = runs[-1].last_position if runs else 0
        self._tail = _Tail(last_position, runs[-1].highest_ids if runs else {})
        # Oldest first; the last one is the tail that takes commits.
        self._levels: tuple[_Level, ...] = (*runs, self._tail)

    @property
    def position(self) -> int:
        """The newest record that the index holds."""
        return self._tail.last_position

    def add(self, commit: Commit) -> None:
        """Fold the next commit."""
        assert commit.first_position == self.position + 1, "commits are folded in order"
        self._tail.add(commit)
        if self._tail.records > TAIL_RECORDS_MAX and self._folder is not None:
            self._freeze_tail()

    def newest(self, table: int, key: int, as_of: int) -> tuple[int, bytes] | None:
        """The (position, value) of the newest entry at or before `as_of`."""
        for level in reversed(self._levels):
            if level.first_position <= as_of:
                found = level.newest(table, key, as_of)
                if found is not None:
                    return found
        return None

    def entries(self, table: int, key: int, as_of: int) -> list[tuple[int, bytes]]:
        """All (position, value) at or before `as_of`, oldest first."""
        found: list[tuple[int, bytes]] = []
        for level in self._levels:
            if level.first_position > as_of:
                break
            found += level.entries(table, key, as_of)
        return found

    def keys(self, table: int, as_of: int) -> Iterator[int]:
        """The distinct keys that have an entry at or before `as_of`, ascending."""
        merged = heapq.merge(*(level.keys(table, as_of) for level in self._levels))
        return (key for key, _ in groupby(merged))

    def highest_id(self, sequence: str) -> int:
        """The highest id that any record of an id sequence has; 0 when there is none."""
        return self._tail.highest_ids.get(sequence, 0)

    def close(self) -> None:
        """Write out a tail that would take the next opening long to read again."""
        if self._folder is not None and self._tail.records >= _CLOSING_RECORDS_MIN:
            self._freeze_tail()
        if self._writer is not None:
            self._writer.shutdown(wait=True)
            self._writer = None

    def file_bytes(self) -> int:
        """The size of the runs on disk."""
        runs = [level for level in self._levels if isinstance(level, SortedRun)]
        return sum(run.path.stat().st_size for run in runs if run.path.exists())

    def _freeze_tail(self) -> None:
        with self._swap:
            frozen = self._tail
            self._tail = _Tail(frozen.last_position, frozen.highest_ids)
            self._levels = (*self._levels, self._tail)
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="eventstore-index")
        self._writer.submit(self._write_out, frozen)

    def _write_out(self, frozen: _Tail) -> None:
        """Replace a frozen tail by a run, and merge runs. Runs in the background."""
        assert self._folder is not None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._replace([frozen], frozen.write(self._run_path(frozen), self._store_id))
            while merging := self._mergeable():
                older, newer = merging
                path = self._folder / _run_name(older.first_position, newer.last_position)
                self._replace([older, newer], merge_runs(older, newer, path))
                for run in (older, newer):
                    run.path.unlink(missing_ok=True)
        except Exception:
            # The frozen tail keeps answering; the next process folds the log again.
            _LOGGER.exception("writing the point index in %s failed", self._folder)

    def _mergeable(self) -> tuple[SortedRun, SortedRun] | None:
        runs = [level for level in self._levels if isinstance(level, SortedRun)]
        for older, newer in zip(runs[-2::-1], runs[:0:-1], strict=True):
            if older.records <= _MERGE_RATIO * newer.records:
                return older, newer
        return None

    def _replace(self, replaced: list[_Level], run: SortedRun) -> None:
        with self._swap:
            first = self._levels.index(replaced[0])
            self._levels = (
                *self._levels[:first],
                run,
                *self._levels[first + len(replaced) :],
            )

    def _run_path(self, tail: _Tail) -> Path:
        assert self._folder is not None
        return self._folder / _run_name(tail.first_position, tail.last_position)


def _run_name(first_position: int, last_position: int) -> str:
    return f"{first_position:019d}-{last_position:019d}.arrow"


def _usable_runs(folder: Path, log: Log, *, remove_merged: bool) -> list[SortedRun]:
    """The runs that cover positions 1 to some p without a gap. Others are ignored."""
    runs: dict[int, list[SortedRun]] = {}
    for path in sorted(folder.glob("*.arrow")) if folder.is_dir() else []:
        try:
            run = SortedRun(path)
            if run.metadata.store_id != log.store_id or run.last_position > log.position:
                raise UnusableRunError(f"{path} is of another log")
        except UnusableRunError as error:
            _LOGGER.info("not using a run of the point index: %s", error)
            continue
        runs.setdefault(run.first_position, []).append(run)
    chain: list[SortedRun] = []
    next_position = 1
    while next_position in runs:
        longest = max(runs[next_position], key=lambda run: run.last_position)
        chain.append(longest)
        next_position = longest.last_position + 1
    if chain and log.recorded_at(chain[-1].last_position) != chain[-1].metadata.last_recorded_at:
        _LOGGER.info("the point index in %s is of another history: building it again", folder)
        return []
    for run in (run for group in runs.values() for run in group):
        if remove_merged and run not in chain and run.last_position < next_position:
            # Merged into a longer one by a process that died before it could remove this one.
            with contextlib.suppress(OSError):
                run.path.unlink(missing_ok=True)
    return chain
