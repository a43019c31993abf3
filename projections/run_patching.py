"""Copy a run with other entries for a few of its records, those that erasures have changed."""

from __future__ import annotations

import contextlib
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.compute as compute

from eventstore.log import Log, records_at
from eventstore.log.cache_file import UnwantedFileError
from eventstore.log.columns import one_batch
from eventstore.log.erased import Spans
from eventstore.log.scattered import positions_in
from eventstore.projections.erased_records import ErasedRecords
from eventstore.projections.index_tables import TABLES
from eventstore.projections.limits import IndexLimits
from eventstore.projections.run_batches import run_batch
from eventstore.projections.run_building import INDEXED_COLUMNS, run_tables
from eventstore.projections.run_file import known_up_to
from eventstore.projections.run_merging import CopiedTable
from eventstore.projections.run_writing import (
    Rows,
    WriteRun,
    are_numbers,
    int64s,
    rows_of,
    write_tables,
)
from eventstore.projections.scrubbing import changed_positions
from eventstore.projections.sorted_run import SortedRun

_SPANS_MAX: Final = 256
"""Of more, building the run from the log is the shorter way."""

_COPIED: Final = "copied"
_DROPPED: Final = "dropped"
_ADDED: Final = "added"
_NOTHING: Final = run_batch([], [], [])


def patched_run(
    log: Log, run: SortedRun, limits: IndexLimits, erased: ErasedRecords, write: WriteRun
) -> SortedRun | None:
    """A run in the place of one whose records were erased; None where too many of them were.

    Raises DamagedRunError when the run turns out to be damaged.
    """
    first, last = run.first_position, run.last_position
    while True:
        erasures = erased.all_by_now()
        changed = changed_positions(log, erasures, run.metadata)
        if len(changed.firsts) > _SPANS_MAX:
            return None
        records = [*records_at(log, changed, INDEXED_COLUMNS)]
        tables = run_tables(one_batch(records), erased) if records else {}
        if erased.erasures.position != erasures.position:
            # What was read before may be erased by now.
            continue
        metadata = msgspec.structs.replace(
            run.metadata, erasures_known=known_up_to(last, erasures.position)
        )
        rows = _patched(run, tables, changed.within(first, last), limits.written_rows_max)
        with contextlib.suppress(UnwantedFileError):
            return SortedRun(
                run.path, limits, write_tables(run.path, metadata, rows, limits, write)
            )


def _patched(
    run: SortedRun, patches: Mapping[int, pa.RecordBatch], changed: Spans, at_once: int
) -> Iterator[tuple[int, Rows]]:
    for table in TABLES:
        patch = patches.get(table, _NOTHING)
        if table in run.file.tables.layouts:
            patched = _PatchedTable(CopiedTable(run.file, table), patch, changed, at_once)
            yield table, patched.rows()
            patched.finish()
            # Before the next ones are made.
            del patched
        elif patch.num_rows:
            yield table, rows_of(patch)


class _PatchedTable:
    """The rows of a table without those of changed records, and those that they have instead."""

    def __init__(
        self, copied: CopiedTable, patch: pa.RecordBatch, changed: Spans, at_once: int
    ) -> None:
        self._copied, self._patch, self._added = copied, patch, 0
        self._keys = copied.keys(at_once)
        positions = copied.positions(at_once)
        dropped = compute.indices_nonzero(compute.is_in(positions, value_set=positions_in(changed)))
        self._pieces = deque(_pieces(self._keys, positions, dropped.to_pylist(), patch))

    def rows(self) -> Rows:
        keys, row, added = [pa.nulls(0, pa.int64())], 0, 0
        for source, count in self._pieces:
            if source is _ADDED:
                keys.append(self._patch["key"][added : added + count])
                added += count
                continue
            if source is _COPIED:
                keys.append(self._keys[row : row + count])
            row += count
        are_ids = self._copied.has_inline_values and (
            not self._patch.num_rows or are_numbers(self._patch["value"])
        )
        return Rows(pa.concat_arrays(keys), are_ids, self._part)

    def _part(self, start: int, end: int) -> tuple[pa.Array, pa.Array]:
        batches, wanted = [], end - start
        while wanted:
            source, count = self._pieces.popleft()
            if source is _DROPPED:
                self._copied.next_rows(count)
                continue
            taken = min(count, wanted)
            if taken < count:
                self._pieces.appendleft((source, count - taken))
            wanted -= taken
            if source is _ADDED:
                batches.append(self._patch.slice(self._added, taken))
                self._added += taken
            else:
                batches.append(self._copied.next_rows(taken))
        batch = one_batch(batches)
        return batch["position"], batch["value"]

    def finish(self) -> None:
        """Read what was not asked for, and check all."""
        for _, count in self._pieces:
            self._copied.next_rows(count)
        self._copied.check()


def _pieces(
    keys: pa.Array, positions: pa.Array, dropped: Sequence[int], patch: pa.RecordBatch
) -> Iterator[tuple[str, int]]:
    """Where rows come from, and how many: the entries of one key stay in the order of positions."""
    key_numbers, position_numbers = int64s(keys), int64s(positions)
    events = [(row, True) for row in dropped]
    for key, position in zip(patch["key"].to_pylist(), patch["position"].to_pylist(), strict=True):
        first = bisect_left(key_numbers, key)
        end = bisect_right(key_numbers, key, first)
        events.append((bisect_left(position_numbers, position, first, end), False))
    done = 0
    for row, is_dropped in sorted(events):
        if row > done:
            yield _COPIED, row - done
        done = row + is_dropped
        yield (_DROPPED if is_dropped else _ADDED), 1
    if done < len(keys):
        yield _COPIED, len(keys) - done
