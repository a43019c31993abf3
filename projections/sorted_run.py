"""A sorted run: a stretch of the point index as an immutable file, memory-mapped and bisected."""

from __future__ import annotations

import bisect
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa

from eventstore.projections.index_tables import TABLES
from eventstore.projections.run_file import (
    ENTRY_NUMBERS,
    RUN_SCHEMA,
    RunFile,
    RunMetadata,
    RunTable,
    write_run_file,
)

_NEIGHBOURS = 16
_NO_ROWS = range(0)


class SortedRun:
    """A run opened for look-ups. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Raises UnusableRunError when the file is missing or is no whole run of this format."""
        self.path = path
        file = RunFile(path)
        self._tables = {table: file.table(table) for table in TABLES}
        self.metadata = file.metadata
        self.first_position = self.metadata.first_position
        self.last_position = self.metadata.last_position
        self.highest_ids: Mapping[str, int] = self.metadata.highest_ids
        self.records = self.last_position - self.first_position + 1

    def newest(self, table: int, key: int, as_of: int) -> tuple[int, bytes] | None:
        opened = self._tables[table]
        if not opened.lowest <= key <= opened.highest:
            return None
        if opened.is_dense:
            # For most nodes what the functions below do, without calling them.
            numbers, at = opened.numbers, ENTRY_NUMBERS * (key - opened.lowest)
            position, start = numbers[at + 1], numbers[at + 2]
            if numbers[at] == key != numbers[at + ENTRY_NUMBERS] and position <= as_of:
                end = numbers[at + ENTRY_NUMBERS + 2]
                return position, opened.values[start:end].tobytes()
        rows = _rows(opened, key, as_of)
        return (opened.positions[rows[-1]], opened.value(rows[-1])) if rows else None

    def newest_of_each(
        self, table: int, keys: Sequence[int], as_of: int
    ) -> dict[int, tuple[int, bytes]]:
        """By key what `newest` answers, for those of `keys` for which there is anything."""
        opened = self._tables[table]
        lowest, highest = opened.lowest, opened.highest
        numbers, values, all_keys = opened.numbers, opened.values, opened.keys
        directory, shift, is_dense = opened.directory, opened.shift, opened.is_dense
        bisect_left, is_inline = bisect.bisect_left, opened.has_inline_values
        found = {}
        for key in keys:
            if not lowest <= key <= highest:
                continue
            # For most keys what the functions below do, without calling them.
            row = key - lowest
            if not is_dense or numbers[ENTRY_NUMBERS * row] != key:
                bucket = row >> shift
                start, end = directory[bucket], directory[bucket + 1]
                if start == end:
                    continue
                row = bisect_left(all_keys, key, start, end)
                if numbers[ENTRY_NUMBERS * row] != key:
                    continue
            at = ENTRY_NUMBERS * row
            position = numbers[at + 1]
            if numbers[at + ENTRY_NUMBERS] != key and position <= as_of and not is_inline:
                start, end = numbers[at + 2], numbers[at + ENTRY_NUMBERS + 2]
                found[key] = (position, values[start:end].tobytes())
                continue
            rows = _rows(opened, key, as_of)
            if rows:
                found[key] = (opened.positions[rows[-1]], opened.value(rows[-1]))
        return found

    def entries(self, table: int, key: int, as_of: int) -> Sequence[tuple[int, bytes]]:
        opened = self._tables[table]
        if not opened.lowest <= key <= opened.highest:
            return ()
        rows = _rows(opened, key, as_of)
        if len(rows) > 1:
            return [(opened.positions[row], opened.value(row)) for row in rows]
        # Most have one or none, for which a comprehension takes longer than the look-up.
        return ((opened.positions[rows[0]], opened.value(rows[0])),) if rows else ()

    def ids(self, table: int, key: int, as_of: int) -> Sequence[int]:
        """The values of what `entries` answers, of a table of ids."""
        opened = self._tables[table]
        distance, bits = key - opened.lowest, opened.filter
        if distance < 0 or key > opened.highest:
            return ()
        # Most runs do not have the key: without calling the function that says so, too.
        if bits and not bits[(slot := distance >> opened.slot_shift) >> 3] >> (slot & 7) & 1:
            return ()
        numbers = opened.numbers
        return [numbers[ENTRY_NUMBERS * row + 2] for row in _rows(opened, key, as_of)]

    def values_of_each(self, table: int, keys: Sequence[int], as_of: int) -> dict[int, list[bytes]]:
        """By key the values of what `entries` answers, for those of `keys` that have any."""
        opened = self._tables[table]
        lowest, highest, value = opened.lowest, opened.highest, opened.value
        directory, shift = opened.directory, opened.shift
        found = {}
        for key in keys:
            if lowest <= key <= highest:
                bucket = key - lowest >> shift
                if directory[bucket] < directory[bucket + 1]:
                    rows = _rows(opened, key, as_of)
                    if rows:
                        found[key] = [*map(value, rows)]
        return found

    def known_keys(self, table: int, keys: Collection[int]) -> set[int]:
        """Those of `keys` that the table has."""
        opened = self._tables[table]
        lowest, highest, shift = opened.lowest, opened.highest, opened.shift
        rows, directory, bisect_left = opened.keys, opened.directory, bisect.bisect_left
        if opened.filter:
            bits, slot_shift = opened.filter, opened.slot_shift
            keys = [
                key
                for key in keys
                if lowest <= key <= highest
                and bits[(slot := key - lowest >> slot_shift) >> 3] >> (slot & 7) & 1
            ]
        found = set()
        for key in keys:
            if lowest <= key <= highest:
                bucket = key - lowest >> shift
                start, end = directory[bucket], directory[bucket + 1]
                if start < end:
                    row = bisect_left(rows, key, start, end)
                    if row < end and rows[row] == key:
                        found.add(key)
        return found

    def keys(self, table: int, as_of: int) -> Iterator[int]:
        """The distinct keys that have an entry at or before `as_of`, ascending."""
        opened = self._tables[table]
        last_key = None
        for key, position in zip(opened.keys, opened.positions, strict=True):
            # The first entry of a key is its oldest.
            if key != last_key:
                last_key = key
                if position <= as_of:
                    yield key

    def entry_columns(self, table: int) -> tuple[pa.Array, pa.Array]:
        """The positions and values of all entries of a table."""
        batch = self.batch(table)
        return batch.column(1), batch.column(2)

    def batch(self, table: int) -> pa.RecordBatch:
        """The rows of a table as RUN_SCHEMA."""
        return self._tables[table].batch()


def write_run(path: Path, metadata: RunMetadata, tables: Mapping[int, pa.RecordBatch]) -> SortedRun:
    """Write one batch of RUN_SCHEMA a table, sorted; tables not given are empty."""
    write_run_file(path, metadata, tables)
    return SortedRun(path)


def run_batch(
    keys: Sequence[int], positions: Sequence[int], values: Sequence[bytes]
) -> pa.RecordBatch:
    """The columns of one table, in the order given."""
    arrays = [
        pa.array(keys, pa.int64()),
        pa.array(positions, pa.int64()),
        pa.array(values, pa.large_binary()),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=RUN_SCHEMA)


def sorted_batch(keys: pa.Array, positions: pa.Array, values: pa.Array) -> pa.RecordBatch:
    """The columns of one table by key; entries of one key stay in the order given."""
    batch = pa.RecordBatch.from_arrays(
        [keys, positions, values.cast(pa.large_binary())], schema=RUN_SCHEMA
    )
    # Not at the top: it takes long to import, and look-ups do without it.
    import pyarrow.compute as compute

    if len(keys) < 2 or compute.all(compute.less_equal(keys[:-1], keys[1:])).as_py():
        return batch
    # The sort is stable.
    return batch.take(compute.array_sort_indices(keys))


def merge_runs(runs: Sequence[SortedRun], path: Path) -> SortedRun:
    """One run of neighbours, oldest first."""
    metadata = msgspec.structs.replace(
        runs[-1].metadata,
        first_position=runs[0].metadata.first_position,
        preceding_recorded_at=runs[0].metadata.preceding_recorded_at,
    )
    tables = {}
    for table in TABLES:
        batches = [run.batch(table) for run in runs]
        tables[table] = sorted_batch(*pa.concat_batches(batches).columns)
    return write_run(path, metadata, tables)


def _end_row(table: RunTable, key: int, first: int) -> int:
    """The row behind the last one with `key`, which row `first` has."""
    numbers, end = table.numbers, first + 1
    # Behind the last row there is an unlike key.
    while numbers[ENTRY_NUMBERS * end] == key:
        if end - first == _NEIGHBOURS:
            return bisect.bisect_right(table.keys, key, end)
        end += 1
    return end


def _rows(table: RunTable, key: int, as_of: int) -> range:
    """The rows at or before `as_of` with a key that is one between lowest and highest."""
    keys, row = table.keys, key - table.lowest
    if not table.is_dense or keys[row] != key or (row > 0 and keys[row - 1] == key):
        slot = row >> table.slot_shift
        if table.filter and not table.filter[slot >> 3] >> (slot & 7) & 1:
            return _NO_ROWS
        bucket = row >> table.shift
        start, end = table.directory[bucket], table.directory[bucket + 1]
        if start == end:
            return _NO_ROWS
        row = bisect.bisect_left(keys, key, start, end)
        if row == end or keys[row] != key:
            return _NO_ROWS
    end = row + 1
    if table.numbers[ENTRY_NUMBERS * end] == key:
        end = _end_row(table, key, row)
    if table.positions[end - 1] > as_of:
        end = bisect.bisect_right(table.positions, as_of, row, end)
    return range(row, end)
