"""Merge neighbouring runs of like size, so that few levels hold many records."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from xxhash import xxh3_64

from eventstore.log.forking import no_fork_in_libraries
from eventstore.projections.index_tables import TABLES
from eventstore.projections.limits import IndexLimits
from eventstore.projections.run_file import RunFile, known_together
from eventstore.projections.run_table import (
    ENTRY_NUMBERS,
    INLINE_NUMBERS,
    NUMBER_BYTES,
    DamagedRunError,
)
from eventstore.projections.sorted_run import SortedRun

if TYPE_CHECKING:
    import pyarrow as pa

    from eventstore.projections.run_writing import Rows, WriteRun

_MERGE_RATIO: Final = 4


def mergeable(runs: Sequence[SortedRun], records_max: int) -> list[SortedRun]:
    """The newest stretch of two or more runs of like size, oldest first; empty if none is.

    Together they have no more than some records.
    """
    merging: list[SortedRun] = []
    records = 0
    for run in reversed(runs):
        is_next = bool(merging) and run.last_position + 1 == merging[0].first_position
        if is_next and run.records <= min(_MERGE_RATIO * records, records_max - records):
            merging.insert(0, run)
            records += run.records
        elif len(merging) > 1:
            break
        else:
            merging, records = [run], run.records
    return merging if len(merging) > 1 else []


def merge_runs(
    runs: Sequence[SortedRun], path: Path, limits: IndexLimits, write: WriteRun | None = None
) -> SortedRun:
    """One run of neighbours, oldest first."""
    with no_fork_in_libraries():
        from eventstore.projections.run_writing import write_named, write_tables

    metadata = msgspec.structs.replace(
        runs[-1].metadata,
        first_position=runs[0].metadata.first_position,
        preceding_recorded_at=runs[0].metadata.preceding_recorded_at,
        erasures_known=known_together(run.metadata for run in runs),
    )
    merged = _merged(runs, limits.written_rows_max)
    return SortedRun(
        path, limits, write_tables(path, metadata, merged, limits, write or write_named)
    )


def _merged(runs: Sequence[SortedRun], at_once: int) -> Iterator[tuple[int, Rows]]:
    for table in TABLES:
        having = [run.file for run in runs if table in run.file.tables.layouts]
        if having:
            copied = [CopiedTable(file, table) for file in having]
            with no_fork_in_libraries():
                rows = _merged_rows(copied, at_once)
            yield table, rows
            # Before the next ones are made.
            del rows
            for each in copied:
                each.check()


def _merged_rows(copied: Sequence[CopiedTable], at_once: int) -> Rows:
    """Of all rows their keys are in memory, and of which table each is; the rest part by part."""
    import pyarrow as pa
    import pyarrow.compute as compute

    from eventstore.log.arrow_values import scalar_of
    from eventstore.log.columns import one_batch
    from eventstore.projections.run_batches import sorted_batch
    from eventstore.projections.run_writing import Rows

    keys = pa.concat_arrays([each.keys(at_once) for each in copied])
    numbers = [scalar_of(number, pa.uint16()) for number in range(len(copied))]
    sources = pa.concat_arrays([*map(pa.repeat, numbers, [each.rows for each in copied])])
    if not compute.all(compute.less_equal(keys[:-1], keys[1:])).as_py():
        # The sort is stable, here as for each part.
        order = compute.array_sort_indices(keys)
        keys = keys.take(order)
        sources = sources.take(order)

    def part(start: int, end: int) -> tuple[pa.Array, pa.Array]:
        counts = sources[start:end].value_counts()
        rows = dict(zip(*(counts.field(name).to_pylist() for name in range(2)), strict=True))
        batch = one_batch(copied[number].next_rows(rows[number]) for number in sorted(rows))
        _, positions, values = sorted_batch(*batch.columns).columns
        return positions, values

    return Rows(keys, all(each.has_inline_values for each in copied), part)


class CopiedTable:
    """A table of a run that is read from its file: all keys, then rows from first to last.

    Raises DamagedRunError, at the latest when it is asked to `check` what was read.
    """

    def __init__(self, file: RunFile, table: int) -> None:
        self._file, self._layout = file, file.tables.layouts[table]
        self._seed = file.seed ^ table
        self.rows, self.has_inline_values = self._layout.rows, self._layout.has_inline_values
        self._numbers = INLINE_NUMBERS if self.has_inline_values else ENTRY_NUMBERS
        self._row_bytes = NUMBER_BYTES * self._numbers
        self._at = self._layout.entries
        self._entries, self._values = xxh3_64(seed=self._seed), xxh3_64(seed=self._seed)

    def keys(self, at_once: int) -> pa.Array:
        """The key of each row (int64)."""
        return self._column(0, at_once)

    def positions(self, at_once: int) -> pa.Array:
        """The position of each row (int64)."""
        return self._column(1, at_once)

    def _column(self, number: int, at_once: int) -> pa.Array:
        import pyarrow as pa

        found, checksum = array("q"), xxh3_64(seed=self._seed)
        at, end = self._layout.entries, self._layout.checksums
        while at < end:
            read = self._file.read(at, min(at + self._row_bytes * at_once, end))
            checksum.update(read)
            found.frombytes(memoryview(read).cast("q")[number :: self._numbers].tobytes())
            at += len(read)
        self._refuse_other(checksum, self._layout.entries_checksum, "entries")
        # The first row is a dummy.
        return pa.Array.from_buffers(pa.int64(), self.rows, [None, pa.py_buffer(found)], offset=1)

    def next_rows(self, count: int) -> pa.RecordBatch:
        """The rows after those that were asked for before, as a batch of RUN_SCHEMA."""
        import pyarrow as pa

        from eventstore.projections.run_batches import RUN_SCHEMA, int64_array

        if self._at == self._layout.entries:
            # A dummy row comes first.
            self._read_entries(1, 0)
        numbers = self._read_entries(count, 1)
        keys, positions, thirds = (numbers[first :: self._numbers] for first in range(3))
        arrays = [int64_array(keys[:count]), int64_array(positions[:count])]
        if self.has_inline_values:
            values = int64_array(thirds[:count]).view(pa.binary(8)).cast(pa.large_binary())
        else:
            values = self._read_values(thirds)
        return pa.RecordBatch.from_arrays([*arrays, values], schema=RUN_SCHEMA)

    def check(self) -> None:
        """Check what was read, of which there must be all."""
        self._read_entries((self._layout.checksums - self._at) // self._row_bytes, 0)
        self._refuse_other(self._entries, self._layout.entries_checksum, "entries")
        if not self.has_inline_values:
            self._refuse_other(self._values, self._layout.values_checksum, "values")

    def _read_entries(self, count: int, following: int) -> memoryview:
        """The int64s of the next rows, and of some after them that are read again."""
        end = self._at + count * self._row_bytes
        found = memoryview(self._file.read(self._at, end + following * self._row_bytes))
        self._entries.update(found[: end - self._at])
        self._at = end
        return found.cast("q")

    def _read_values(self, offsets: memoryview) -> pa.Array:
        """The values that begin at these offsets, at the last of which they end."""
        import pyarrow as pa
        import pyarrow.compute as compute

        from eventstore.log.arrow_values import scalar_of
        from eventstore.projections.run_batches import int64_array

        first, last, layout = offsets[0], offsets[-1], self._layout
        if not 0 <= first <= last <= layout.end - layout.values:
            raise DamagedRunError(self._file, "the entries of a table are damaged")
        found = self._file.read(layout.values + first, layout.values + last)
        self._values.update(found)
        starts = compute.subtract(int64_array(offsets), scalar_of(first, pa.int64()))
        buffers = [None, starts.buffers()[1], pa.py_buffer(found)]
        values = pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)
        try:
            # Arrow would read wherever the entries say, which are checked at the end.
            values.validate(full=True)
        except pa.ArrowInvalid:
            raise DamagedRunError(self._file, "the entries of a table are damaged") from None
        return values

    def _refuse_other(self, found: xxh3_64, checksum: int, what: str) -> None:
        if found.intdigest() != checksum:
            raise DamagedRunError(self._file, f"the {what} of a table are damaged")
