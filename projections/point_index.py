"""The point index: a sorted multimap over all records, for look-ups by key, now and as of any past.

It is a stack of levels, each the entries of a stretch of consecutive positions: sorted runs on
disk, then the tail in memory that takes new commits. A tail that has grown long is frozen and
written out as a run in the background, and neighbouring runs of like size are merged, so that the
number of levels stays logarithmic in the number of records. What the log has sealed becomes runs
without going through a tail.
"""

from __future__ import annotations

import heapq
import logging
import os
import tempfile
import threading
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, groupby, repeat
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from eventstore.log import Commit, Log, Progress
from eventstore.projections.index_tables import (
    SEQUENCES,
    TABLES,
    Entry,
    PendingEntries,
    add_entry,
    add_request_id,
    as_sequence,
    commit_entries,
    decode_id,
)
from eventstore.projections.run_file import RUN_FORMAT_VERSION, RunMetadata
from eventstore.projections.run_folder import run_path, usable_runs
from eventstore.projections.sorted_run import (
    SortedRun,
    merge_runs,
    run_batch,
    sorted_batch,
    write_run,
)

_LOGGER = logging.getLogger("eventstore.projections")

TAIL_RECORDS_MAX = 16_384
"""A tail with more records than this is written out as a run."""

RUN_RECORDS_MAX = 2_097_152
"""No merge makes a run of more records: that bounds the memory that merging takes."""

BUILT_RECORDS_MAX = 262_144
"""About so many sealed records at a time become a run without going through the tail."""

_POSITION, _VALUE = itemgetter(0), itemgetter(1)
_KIND, _ENTITY_ID = attrgetter("kind"), attrgetter("entity_id")

_CLOSING_RECORDS_MIN = 1_000
_MERGE_RATIO = 4
_FROZEN_TAILS_MAX = 4
_VALUES_AT_ONCE = 131_072


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
    def entry_columns(self, table: int) -> tuple[pa.Array, pa.Array]: ...


class _Tail:
    """The newest entries, in memory. One thread adds, any number read."""

    def __init__(
        self, last_position: int, last_recorded_at: int, highest_ids: Mapping[str, int]
    ) -> None:
        self.first_position = last_position + 1
        self.last_position = last_position
        self.preceding_recorded_at = last_recorded_at
        self.last_recorded_at = last_recorded_at
        self.highest_ids = dict(highest_ids)
        self._tables: PendingEntries = {table: {} for table in TABLES}

    @property
    def records(self) -> int:
        return self.last_position - self.first_position + 1

    def add(self, commit: Commit, entries: PendingEntries | None) -> None:
        if entries is None:
            entries = commit_entries(commit)
        else:
            add_request_id(entries, commit)
        for table, by_key in entries.items():
            known = self._tables[table]
            if known.keys().isdisjoint(by_key):
                known.update(by_key)
                continue
            for key, added in by_key.items():
                for entry in as_sequence(added):
                    add_entry(known, key, entry)
        highest = self.highest_ids
        for kind, records in groupby(commit.records, _KIND):
            sequence = SEQUENCES[kind]
            highest[sequence] = max(highest.get(sequence, 0), *map(_ENTITY_ID, records))
        self.last_recorded_at = commit.recorded_at
        # Last, so that a reader that sees the position also sees the entries.
        self.last_position = commit.last_position

    def newest(self, table: int, key: int, as_of: int) -> Entry | None:
        for entry in reversed(as_sequence(self._tables[table].get(key))):
            if entry[0] <= as_of:
                return entry
        return None

    def newest_of_each(self, table: int, keys: Sequence[int], as_of: int) -> dict[int, Entry]:
        by_key = self._tables[table]
        if not by_key:
            return {}
        found = {}
        for key in keys:
            if key in by_key and (entry := self.newest(table, key, as_of)) is not None:
                found[key] = entry
        return found

    def entries(self, table: int, key: int, as_of: int) -> Sequence[Entry]:
        found = as_sequence(self._tables[table].get(key))
        return [entry for entry in found if entry[0] <= as_of]

    def ids(self, table: int, key: int, as_of: int) -> Sequence[int]:
        found = self._tables[table].get(key)
        if found is None:
            return ()
        return [decode_id(value) for position, value in as_sequence(found) if position <= as_of]

    def values_of_each(self, table: int, keys: Sequence[int], as_of: int) -> dict[int, list[bytes]]:
        by_key = self._tables[table]
        if not by_key:
            return {}
        return {
            key: [value for position, value in as_sequence(by_key[key]) if position <= as_of]
            for key in keys
            if key in by_key
        }

    def known_keys(self, table: int, keys: Collection[int]) -> set[int]:
        by_key = self._tables[table]
        return {key for key in keys if key in by_key}

    def keys(self, table: int, as_of: int) -> Iterator[int]:
        # A copy first: entries may be added meanwhile.
        known = list(self._tables[table].items())
        return iter(sorted(key for key, found in known if as_sequence(found)[0][0] <= as_of))

    def entry_columns(self, table: int) -> tuple[pa.Array, pa.Array]:
        by_row = map(as_sequence, list(self._tables[table].values()))
        entries = [*chain.from_iterable(by_row)]
        positions = pa.array([*map(_POSITION, entries)], pa.int64())
        return positions, pa.array([*map(_VALUE, entries)], pa.large_binary())

    def tables(self) -> dict[int, pa.RecordBatch]:
        """All entries, as a run holds them."""
        batches = {}
        for table, by_key in self._tables.items():
            # Hardly a step of Python for each entry, and sorted by Arrow: other threads put
            # meanwhile.
            keys, entries = [*by_key], [*by_key.values()]
            if list in {*map(type, entries)}:
                by_row = [*map(as_sequence, entries)]
                keys = [*chain.from_iterable(map(repeat, keys, map(len, by_row)))]
                entries = [*chain.from_iterable(by_row)]
            if entries:
                positions, values = map(_POSITION, entries), map(_VALUE, entries)
                batch = run_batch(keys, [*positions], [*values])
                batches[table] = sorted_batch(*batch.columns)
        return batches


class PointIndex:
    """Entries (table, key) -> (position, value) of every record up to `position`.

    One thread at a time may add; any number may read meanwhile. Without a folder, what is added
    stays in memory; with `read_only` it goes to a temporary folder when it is much.
    """

    def __init__(self, log: Log, folder: Path | None, *, read_only: bool = False) -> None:
        self._store_id = log.store_id
        self._is_kept = folder is not None and not read_only
        self._folder = None if read_only else folder
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._may_write = folder is not None
        self._swap = threading.Lock()
        self._writer: ThreadPoolExecutor | None = None
        self._writing: deque[Future[None]] = deque()
        self._process = os.getpid()
        runs = usable_runs(folder, log, remove_useless=not read_only) if folder else []
        if runs:
            newest = runs[-1].metadata
            self._tail = _Tail(newest.last_position, newest.last_recorded_at, newest.highest_ids)
        else:
            self._tail = _Tail(0, 0, {})
        # Oldest first; the last one is the tail that takes commits.
        self._levels: tuple[_Level, ...] = (*runs, self._tail)

    @property
    def position(self) -> int:
        """The newest record that the index holds."""
        return self._tail.last_position

    def add(self, commit: Commit, entries: PendingEntries | None = None) -> None:
        """Fold the next commit. `entries` are what it adds, if they are known; they become ours."""
        assert commit.first_position == self.position + 1, "commits are folded in order"
        self._tail.add(commit, entries)
        if self._tail.records > TAIL_RECORDS_MAX and self._may_write:
            self._freeze_tail()

    def fold_sealed(self, log: Log, progress: Progress | None = None) -> None:
        """Build runs of what the log has sealed and the index lacks, where that is much.

        What it leaves is to be added commit by commit.
        """
        if not self._may_write:
            return
        start, end = self.position, log.position
        for last_position in _sealed_stretches(log, self.position):
            if last_position - self.position <= TAIL_RECORDS_MAX:
                break
            try:
                self._build_run(log, last_position)
            except OSError:
                _LOGGER.exception("writing the point index in %s failed", self._folder)
                break
            if progress is not None:
                progress(last_position - start, end - start)
        if self.position > start:
            self._submit(None)

    def newest(self, table: int, key: int, as_of: int) -> Entry | None:
        """The (position, value) of the newest entry at or before `as_of`."""
        for level in reversed(self._levels):
            if level.first_position <= as_of:
                found = level.newest(table, key, as_of)
                if found is not None:
                    return found
        return None

    def newest_of_each(self, table: int, keys: Sequence[int], as_of: int) -> dict[int, Entry]:
        """By key what `newest` answers, for those of `keys` for which there is anything."""
        if len(keys) == 1:
            entry = self.newest(table, keys[0], as_of)
            return {} if entry is None else {keys[0]: entry}
        found: dict[int, Entry] = {}
        missing = keys
        for level in reversed(self._levels):
            if level.first_position <= as_of:
                found.update(level.newest_of_each(table, missing, as_of))
                if len(found) >= len(keys):
                    break
                if found:
                    missing = [key for key in keys if key not in found]
        return found

    def entries(self, table: int, key: int, as_of: int) -> list[Entry]:
        """All (position, value) at or before `as_of`, oldest first."""
        found: list[Entry] = []
        for level in self._levels:
            if level.first_position > as_of:
                break
            found += level.entries(table, key, as_of)
        return found

    def ids(self, table: int, key: int, as_of: int) -> list[int]:
        """The values of what `entries` answers, of a table of ids."""
        found: list[int] = []
        for level in self._levels:
            if level.first_position > as_of:
                break
            found += level.ids(table, key, as_of)
        return found

    def values_of_each(self, table: int, keys: Sequence[int], as_of: int) -> dict[int, list[bytes]]:
        """By key the values of what `entries` answers, for those of `keys` that have any."""
        found: dict[int, list[bytes]] = {}
        for level in self._levels:
            if level.first_position > as_of:
                break
            some = level.values_of_each(table, keys, as_of)
            if found:
                for key, values in some.items():
                    found.setdefault(key, []).extend(values)
            else:
                found = some
        return found

    def known_keys(self, table: int, keys: Collection[int]) -> set[int]:
        """Those of `keys` under which anything was ever written."""
        found: set[int] = set()
        for level in self._levels:
            found |= level.known_keys(table, keys)
        return found

    def keys(self, table: int, as_of: int) -> Iterator[int]:
        """The distinct keys that have an entry at or before `as_of`, ascending."""
        merged = heapq.merge(*(level.keys(table, as_of) for level in self._levels))
        return (key for key, _ in groupby(merged))

    def values_at(self, table: int, positions: pa.Array) -> Iterator[pa.Array]:
        """The values written at these positions (int64), of a table with one entry a record.

        The way to many of them: column by column, where `newest_of_each` goes key by key. In parts,
        so that one can be used and forgotten before the next is made.
        """
        import pyarrow.compute as compute

        columns = [level.entry_columns(table) for level in self._levels]
        known = pa.chunked_array([found for found, _ in columns], pa.int64())
        values = pa.chunked_array([found for _, found in columns], pa.large_binary())
        rows = compute.index_in(positions, value_set=known.combine_chunks())
        for start in range(0, len(rows), _VALUES_AT_ONCE):
            yield from values.take(rows.slice(start, _VALUES_AT_ONCE)).chunks

    def highest_id(self, sequence: str) -> int:
        """The highest id that any record of an id sequence has; 0 when there is none."""
        return self._tail.highest_ids.get(sequence, 0)

    def close(self) -> None:
        """Write out a tail that would take the next opening long to read again."""
        if self._is_kept and self._tail.records >= _CLOSING_RECORDS_MIN:
            self._freeze_tail()
        if self._writer is not None and self._process == os.getpid():
            self._writer.shutdown(wait=True)
        self._writer = None
        if self._temporary is not None and self._process == os.getpid():
            self._temporary.cleanup()

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
        tail = _Tail(frozen.last_position, frozen.last_recorded_at, frozen.highest_ids)
        with self._swap:
            self._levels = (*self._levels, tail)
            self._tail = tail
        # So that a long catching-up does not outrun the disk and fill the memory.
        while len(self._writing) >= _FROZEN_TAILS_MAX:
            self._writing.popleft().result()
        self._submit(frozen)

    def _build_run(self, log: Log, last_position: int) -> None:
        """Append a run of the records from the index's position to another."""
        # Not at the top: what it imports takes long, and most openings build nothing.
        from eventstore.projections.index_building import INDEXED_COLUMNS, highest_ids, run_tables

        before = self._tail
        records = pa.concat_batches(log.scan(self.position, last_position, INDEXED_COLUMNS))
        highest = dict(before.highest_ids)
        for sequence, highest_id in highest_ids(records).items():
            highest[sequence] = max(highest.get(sequence, 0), highest_id)
        metadata = self._metadata(
            before.last_position + 1,
            last_position,
            before.last_recorded_at,
            log.recorded_at(last_position),
            highest,
        )
        path = run_path(self._run_folder(), metadata.first_position, last_position)
        run = write_run(path, metadata, run_tables(records))
        if before.records:
            self._freeze_tail()
        tail = _Tail(last_position, metadata.last_recorded_at, highest)
        with self._swap:
            # In place of a tail that is empty.
            self._levels = (*self._levels[:-1], run, tail)
            self._tail = tail

    def _submit(self, frozen: _Tail | None) -> None:
        if self._process != os.getpid():
            # Threads do not survive a fork; what the parent was writing stays in memory here.
            self._process = os.getpid()
            self._writer, self._temporary = None, None
            self._writing.clear()
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="eventstore-index")
        self._writing.append(self._writer.submit(self._write_out, frozen, self._run_folder()))

    def _write_out(self, frozen: _Tail | None, folder: Path) -> None:
        """Replace a frozen tail by a run, and merge runs. Runs in the background."""
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
                self._replace([frozen], write_run(path, metadata, frozen.tables()))
            while merging := self._mergeable():
                path = run_path(folder, merging[0].first_position, merging[-1].last_position)
                self._replace(merging, merge_runs(merging, path))
                for run in merging:
                    if run.path.parent == folder:
                        run.path.unlink(missing_ok=True)
        except Exception:
            # The frozen tail keeps answering; the next process folds the log again.
            _LOGGER.exception("writing the point index in %s failed", folder)

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

    def _replace(self, replaced: Sequence[_Level], run: SortedRun) -> None:
        with self._swap:
            first = self._levels.index(replaced[0])
            self._levels = (
                *self._levels[:first],
                run,
                *self._levels[first + len(replaced) :],
            )

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
            store_id=self._store_id,
            first_position=first_position,
            last_position=last_position,
            preceding_recorded_at=preceding_recorded_at,
            last_recorded_at=last_recorded_at,
            highest_ids=dict(highest),
        )

    def _run_folder(self) -> Path:
        if self._folder is not None:
            return self._folder
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="eventstore-")
        return Path(self._temporary.name)


def _sealed_stretches(log: Log, after: int) -> Iterator[int]:
    """Where to end runs that together cover the sealed segments behind a position."""
    last_position, records = after, 0
    for segment in log.segments():
        if segment.last_position <= after:
            continue
        if segment.state != "sealed":
            break
        records += segment.last_position - last_position
        last_position = segment.last_position
        if records >= BUILT_RECORDS_MAX:
            yield last_position
            records = 0
    if records:
        yield last_position
