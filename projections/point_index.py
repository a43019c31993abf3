"""The point index: a sorted multimap over all records, for look-ups by key as of any position.

It is a stack of levels, each the entries of a stretch of consecutive positions: sorted runs on
disk, then the tail in memory that takes new commits. A tail that has grown long is frozen and
written out as a run in the background, and neighbouring runs of like size are merged, so that the
number of levels stays logarithmic in the number of records. What the log has sealed becomes runs
without going through a tail.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import threading
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from eventstore.errors import DataLossError, StatusError
from eventstore.log import Commit, Log, Progress
from eventstore.log.forking import renew_in_children
from eventstore.log.os_errors import translated, translating
from eventstore.log.temporary_folder import TemporaryFolder
from eventstore.projections.cache_file import make_cache_folder
from eventstore.projections.index_tables import Entry, PendingEntries
from eventstore.projections.index_tail import Tail
from eventstore.projections.run_file import RUN_FORMAT_VERSION, RunMetadata
from eventstore.projections.run_folder import run_path, usable_runs
from eventstore.projections.run_table import DamagedRunError
from eventstore.projections.sorted_run import (
    SortedRun,
    merge_runs,
    write_run,
)

if TYPE_CHECKING:
    import pyarrow as pa

_LOGGER = logging.getLogger("eventstore.projections")

TAIL_RECORDS_MAX = 16_384
"""A tail with more records than this is written out as a run."""

BUILT_RECORDS_MAX = 262_144
"""About how many records of the log become a run at a time without going through the tail."""

BUILT_BYTES_MAX = 128 * 1024 * 1024
"""Fewer, when their files are longer than this."""

RUN_RECORDS_MAX = 2_097_152
"""No merge makes a run of more records: that bounds the memory that merging takes."""


_CLOSING_RECORDS_MIN = 1_000
_MERGE_RATIO = 4
_FROZEN_TAILS_MAX = 4
_VALUES_AT_ONCE = 131_072
_REPAIRS_MAX = 4


class _Level(Protocol):
    first_position: int
    last_position: int

    @property
    def highest_ids(self) -> Mapping[str, int]: ...
    def newest(self, table: int, key: int, as_of: int) -> Entry | None: ...
    def newest_of_each(self, table: int, keys: Sequence[int], as_of: int) -> dict[int, Entry]: ...
    def entries(self, table: int, key: int, as_of: int) -> Sequence[Entry]: ...
    def ids(self, table: int, key: int, as_of: int) -> Sequence[int]: ...
    def values_of_each(
        self, table: int, keys: Sequence[int], as_of: int
    ) -> dict[int, list[bytes]]: ...
    def known_keys(self, table: int, keys: Collection[int]) -> set[int]: ...
    def keys(self, table: int, as_of: int) -> Iterator[int]: ...
    def key_span(self, table: int, as_of: int) -> range | None: ...
    def entry_count(self, table: int, as_of: int) -> int: ...
    def entry_columns(self, table: int) -> tuple[pa.Array, pa.Array]: ...


class PointIndex:
    """Entries (table, key) -> (position, value) of every record up to `position`.

    One thread at a time may add; any number may read meanwhile. Without a folder, what is added
    stays in memory; with `read_only` it goes to a temporary folder when it is much.
    """

    def __init__(self, log: Log, folder: Path | None, *, read_only: bool = False) -> None:
        self._log = log
        self._is_kept = folder is not None and not read_only
        self._folder = None if read_only else folder
        self._temporary: TemporaryFolder | None = None
        self.known_type_ids: dict[tuple[int, str, str], tuple[int, int]] = {}
        """By table of names, name and version of a type: its id, and a position it is there at."""
        self._may_write = folder is not None
        self._swap = threading.Lock()
        self._repairing = threading.Lock()
        self._repairs: Counter[int] = Counter()
        self._writer: ThreadPoolExecutor | None = None
        self._writing: deque[Future[None]] = deque()
        runs = usable_runs(folder, log, remove_useless=not read_only) if folder else []
        if runs:
            newest = runs[-1].metadata
            self._tail = Tail(newest.last_position, newest.last_recorded_at, newest.highest_ids)
        else:
            self._tail = Tail(0, 0, {})
        # Oldest first; the last one is the tail that takes commits.
        self._levels: tuple[_Level, ...] = (*runs, self._tail)

        renew_in_children(self)

    def after_fork_in_child(self) -> None:
        """Threads do not survive a fork; what the parent was writing stays in memory here."""
        self._swap = threading.Lock()
        self._repairing = threading.Lock()
        self._writer = None
        self._writing.clear()
        if self._temporary is not None:
            self._temporary.leave_to_the_parent()
            self._temporary = None

    @property
    def position(self) -> int:
        """The newest record that the index holds."""
        return self._tail.last_position

    @property
    def last_stored_position(self) -> int:
        """The newest record that a run holds, which is a cache, not the log's own word."""
        for level in reversed(self._levels):
            if isinstance(level, SortedRun):
                return level.last_position
        return 0

    def add(self, commit: Commit, entries: PendingEntries | None = None) -> None:
        """Fold the next commit. `entries` are what it adds, if known; the index takes them over."""
        assert commit.first_position == self.position + 1, "commits are folded in order"
        self._tail.add(commit, entries)
        if self._tail.records > TAIL_RECORDS_MAX and self._may_write:
            self._freeze_tail()

    def fold_sealed(self, log: Log, progress: Progress | None = None) -> None:
        """Build runs of what the log has sealed and the index lacks, where that is much.

        The rest has to be added commit by commit.
        """
        if not self._may_write:
            return
        start, end = self.position, log.position
        for last_position in _sealed_stretches(log, self.position):
            if last_position - self.position <= TAIL_RECORDS_MAX:
                break
            folder = self._run_folder_if_any()
            if folder is None:
                break
            try:
                self._build_run(log, folder, last_position)
            except OSError as error:
                _LOGGER.warning("writing the point index in %s failed: %s", self._folder, error)
                break
            if progress is not None:
                progress(last_position - start, end - start)
        if self.position > start:
            self._submit(None)

    def newest(self, table: int, key: int, as_of: int) -> Entry | None:
        """The (position, value) of the newest entry at or before `as_of`."""
        try:
            for level in reversed(self._levels):
                if level.first_position <= as_of:
                    found = level.newest(table, key, as_of)
                    if found is not None:
                        return found
        except DamagedRunError as error:
            self._repair(error)
            return self.newest(table, key, as_of)
        return None

    def newest_of_each(self, table: int, keys: Sequence[int], as_of: int) -> dict[int, Entry]:
        """By key what `newest` returns, for those of `keys` that have an entry."""
        if len(keys) == 1:
            entry = self.newest(table, keys[0], as_of)
            return {} if entry is None else {keys[0]: entry}
        found: dict[int, Entry] = {}
        missing = keys
        try:
            for level in reversed(self._levels):
                if level.first_position <= as_of:
                    found.update(level.newest_of_each(table, missing, as_of))
                    if len(found) >= len(keys):
                        break
                    if found:
                        missing = [key for key in keys if key not in found]
        except DamagedRunError as error:
            self._repair(error)
            return self.newest_of_each(table, keys, as_of)
        return found

    def entries(self, table: int, key: int, as_of: int) -> list[Entry]:
        """All (position, value) at or before `as_of`, oldest first."""
        found: list[Entry] = []
        try:
            for level in self._levels:
                if level.first_position > as_of:
                    break
                found += level.entries(table, key, as_of)
        except DamagedRunError as error:
            self._repair(error)
            return self.entries(table, key, as_of)
        return found

    def ids(self, table: int, key: int, as_of: int) -> list[int]:
        """The values of what `entries` returns, of a table of ids."""
        found: list[int] = []
        try:
            for level in self._levels:
                if level.first_position > as_of:
                    break
                found += level.ids(table, key, as_of)
        except DamagedRunError as error:
            self._repair(error)
            return self.ids(table, key, as_of)
        return found

    def values_of_each(self, table: int, keys: Sequence[int], as_of: int) -> dict[int, list[bytes]]:
        """By key the values of what `entries` returns, for those of `keys` that have any."""
        found: dict[int, list[bytes]] = {}
        try:
            for level in self._levels:
                if level.first_position > as_of:
                    break
                some = level.values_of_each(table, keys, as_of)
                if found:
                    for key, values in some.items():
                        found.setdefault(key, []).extend(values)
                else:
                    found = some
        except DamagedRunError as error:
            self._repair(error)
            return self.values_of_each(table, keys, as_of)
        return found

    def known_keys(self, table: int, keys: Collection[int]) -> set[int]:
        """Those of `keys` under which anything was ever written."""
        found: set[int] = set()
        try:
            for level in self._levels:
                found |= level.known_keys(table, keys)
        except DamagedRunError as error:
            self._repair(error)
            return self.known_keys(table, keys)
        return found

    def keys(self, table: int, as_of: int) -> Iterator[int]:
        """The distinct keys that have an entry at or before `as_of`, ascending."""
        try:
            of_levels = [level.keys(table, as_of) for level in self._levels]
        except DamagedRunError as error:
            self._repair(error)
            return self.keys(table, as_of)
        return (key for key, _ in groupby(heapq.merge(*of_levels)))

    def key_count(self, table: int, as_of: int) -> int:
        """How many keys `keys` gives, most of which need not be read for it."""
        spans: list[range] = []
        others: list[Iterator[int]] = []
        try:
            for level in self._levels:
                if level.first_position > as_of:
                    break
                span = level.key_span(table, as_of)
                if span is None:
                    others.append(level.keys(table, as_of))
                elif span and spans and spans[-1].start <= span.start <= spans[-1].stop:
                    # As with ids, which are given out in order.
                    spans[-1] = range(spans[-1].start, max(spans[-1].stop, span.stop))
                elif span:
                    spans.append(span)
        except DamagedRunError as error:
            self._repair(error)
            return self.key_count(table, as_of)
        if any(one.start < other.stop for other, one in pairwise(spans)):
            return sum(1 for _ in self.keys(table, as_of))
        beside = (key for key, _ in groupby(heapq.merge(*others)))
        return sum(map(len, spans)) + sum(not any(key in s for s in spans) for key in beside)

    def entry_count(self, table: int, as_of: int) -> int:
        """How many entries there are at or before `as_of`."""
        try:
            return sum(
                level.entry_count(table, as_of)
                for level in self._levels
                if level.first_position <= as_of
            )
        except DamagedRunError as error:
            self._repair(error)
            return self.entry_count(table, as_of)

    def values_at(self, table: int, positions: pa.Array) -> Iterator[pa.Array]:
        """The values written at these positions (int64), of a table with one entry a record.

        The way to many of them: column by column, where `newest_of_each` goes key by key. In parts,
        so that one can be used and forgotten before the next is made.
        """
        from eventstore.projections.column_reads import TableColumns

        columns, start = None, 0
        while start < len(positions):
            try:
                if columns is None:
                    columns = TableColumns(self._levels, table)
                part = columns.values_at(positions.slice(start, _VALUES_AT_ONCE))
            except DamagedRunError as error:
                self._repair(error)
                columns = None
                continue
            yield from part.chunks
            start += _VALUES_AT_ONCE

    def highest_id(self, sequence: str) -> int:
        """The highest id that any record of an id sequence has; 0 when there is none."""
        return self._tail.highest_ids.get(sequence, 0)

    def close(self) -> None:
        """Write out a tail that the next opening would take long to read again."""
        if self._is_kept and self._tail.records >= _CLOSING_RECORDS_MIN:
            self._freeze_tail()
        if self._writer is not None:
            self._writer.shutdown(wait=True)
        self._writer = None
        if self._temporary is not None:
            self._temporary.close()

    def file_bytes(self) -> int:
        """The size of the runs on disk."""
        return sum(run.path.stat().st_size for run in self._runs() if run.path.exists())

    def run_count(self) -> int:
        """How many runs the index consists of."""
        return len(self._runs())

    def _runs(self) -> list[SortedRun]:
        return [level for level in self._levels if isinstance(level, SortedRun)]

    def _freeze_tail(self) -> None:
        frozen = self._tail
        tail = Tail(frozen.last_position, frozen.last_recorded_at, frozen.highest_ids)
        with self._swap:
            # At once, since an interrupt can come between any two steps.
            self._levels, self._tail = (*self._levels, tail), tail
        # So that catching up for long does not outrun the disk and fill the memory.
        while len(self._writing) >= _FROZEN_TAILS_MAX:
            self._writing.popleft().result()
        self._submit(frozen)

    def _build_run(self, log: Log, folder: Path, last_position: int) -> None:
        """Append a run of the records from the index's position to another."""
        # Not at the top: what it imports takes long, and most openings build nothing.
        from eventstore.projections.run_building import built_run

        before = self._tail
        run = built_run(log, folder, before.last_position + 1, last_position, before.highest_ids)
        if before.records:
            self._freeze_tail()
        tail = Tail(last_position, run.metadata.last_recorded_at, run.highest_ids)
        with self._swap:
            # In place of a tail that is empty.
            self._levels, self._tail = (*self._levels[:-1], run, tail), tail

    def _repair(self, error: DamagedRunError) -> None:
        """Build a run again that was found damaged, unless another thread has done so.

        Raises DataLossError when that did not help.
        """
        # Not at the top: what it imports takes long.
        from eventstore.projections.run_building import rebuilt_runs

        with self._repairing:
            damaged = next((run for run in self._runs() if run.file is error.file), None)
            if damaged is None:
                return
            self._repairs[damaged.first_position] += 1
            if self._repairs[damaged.first_position] > _REPAIRS_MAX:
                raise DataLossError(
                    f"{error}, though it was built {_REPAIRS_MAX} times again: check the disk and "
                    "the memory of this machine"
                ) from None
            _LOGGER.warning("%s: building it again from the log", error)
            before = [run for run in self._runs() if run.last_position < damaged.first_position]
            highest_before = before[-1].highest_ids if before else {}
            folder = self._run_folder()
            try:
                runs = rebuilt_runs(self._log, folder, damaged, highest_before, BUILT_RECORDS_MAX)
                if damaged.path.parent == folder and damaged.path != runs[-1].path:
                    damaged.path.unlink(missing_ok=True)
            except OSError as failure:
                raise translated(failure, "building the point index in", folder) from None
            self._replace([damaged], runs)

    def _submit(self, frozen: Tail | None) -> None:
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="eventstore-index")
        # At the interpreter's end nothing can be submitted: the frozen tail keeps answering.
        with contextlib.suppress(RuntimeError):
            self._writing.append(self._writer.submit(self._write_out, frozen))

    def _write_out(self, frozen: Tail | None) -> None:
        """Replace a frozen tail by a run, and merge runs. Runs in the background."""
        folder = self._run_folder_if_any()
        if folder is None:
            return
        try:
            if frozen is not None:
                metadata = self._metadata(
                    frozen.first_position,
                    frozen.last_position,
                    frozen.preceding_recorded_at,
                    frozen.last_recorded_at,
                    frozen.highest_ids,
                )
                path = run_path(folder, frozen.first_position, frozen.last_position)
                self._replace([frozen], [write_run(path, metadata, frozen.tables())])
            while merging := self._mergeable():
                path = run_path(folder, merging[0].first_position, merging[-1].last_position)
                try:
                    merged = merge_runs(merging, path)
                except DamagedRunError as error:
                    self._repair(error)
                    continue
                if self._replace(merging, [merged]):
                    for run in merging:
                        if run.path.parent == folder:
                            run.path.unlink(missing_ok=True)
        except OSError as error:
            # The same: no fault of the program.
            _LOGGER.warning("writing the point index in %s failed: %s", folder, error)
        except Exception:
            # The frozen tail keeps answering; the next process folds the log again.
            _LOGGER.exception("writing the point index of %s failed", self._log.name)

    def _mergeable(self) -> list[SortedRun]:
        """The newest stretch of two or more runs of like size, oldest first; empty if none is."""
        merging: list[SortedRun] = []
        records = 0
        for run in reversed(self._runs()):
            is_next = bool(merging) and run.last_position + 1 == merging[0].first_position
            if is_next and run.records <= min(_MERGE_RATIO * records, RUN_RECORDS_MAX - records):
                merging.insert(0, run)
                records += run.records
            elif len(merging) > 1:
                break
            else:
                merging, records = [run], run.records
        return merging if len(merging) > 1 else []

    def _replace(self, replaced: Sequence[_Level], runs: Sequence[SortedRun]) -> bool:
        """Replace levels by runs; False when the levels are no longer there."""
        with self._swap:
            if replaced[0] not in self._levels:
                return False
            first = self._levels.index(replaced[0])
            end = first + len(replaced)
            if self._levels[first:end] != tuple(replaced):
                return False
            self._levels = (*self._levels[:first], *runs, *self._levels[end:])
            return True

    def _metadata(
        self,
        first_position: int,
        last_position: int,
        preceding_recorded_at: int,
        last_recorded_at: int,
        highest: Mapping[str, int],
    ) -> RunMetadata:
        return RunMetadata(
            format_version=RUN_FORMAT_VERSION,
            store_id=self._log.store_id,
            first_position=first_position,
            last_position=last_position,
            preceding_recorded_at=preceding_recorded_at,
            last_recorded_at=last_recorded_at,
            highest_ids=dict(highest),
        )

    def _run_folder_if_any(self) -> Path | None:
        """Where to write runs; None when there is no such place, and all stays in memory."""
        try:
            return self._run_folder()
        except StatusError as error:
            _LOGGER.warning("%s; keeping the point index in memory", error)
            return None

    def _run_folder(self) -> Path:
        if self._folder is not None:
            with translating("making", self._folder):
                make_cache_folder(self._folder, self._log)
            return self._folder
        with self._swap:
            if self._temporary is None:
                self._temporary = TemporaryFolder()
            return self._temporary.path


def _sealed_stretches(log: Log, after: int) -> Iterator[int]:
    """Where to end runs that together cover the sealed segments after a position."""
    last_position, records, size = after, 0, 0
    for end, file_bytes in log.dense_ends(after):
        records += end - last_position
        last_position = end
        size += file_bytes
        if records >= BUILT_RECORDS_MAX or size >= BUILT_BYTES_MAX:
            yield last_position
            records = size = 0
    if records:
        yield last_position
