"""A sorted run: a stretch of the point index as an immutable file, memory-mapped and bisected.

The file is an uncompressed Arrow IPC file with one record batch a table, sorted by key and then
position, so that a look-up bisects two columns of int64 and copies one value: no read of the whole,
no decompression, no cache to warm.
"""

from __future__ import annotations

import bisect
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from uuid import UUID

import msgspec
import pyarrow as pa

from eventstore.projections.index_tables import TABLES

RUN_FORMAT_VERSION = 4

RUN_SCHEMA = pa.schema(
    [
        pa.field("key", pa.int64(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("value", pa.large_binary(), nullable=False),
    ]
)
_METADATA_KEY = b"eventstore.run"
_DENSE_WINDOW = 16


class UnusableRunError(Exception):
    """The file is no whole run of this format: to be thrown away and built again."""


class RunMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What a run holds: the entries of the records at positions first to last.

    `last_recorded_at` is when the last of them was recorded, `preceding_recorded_at` the one before
    the first, in µs and 0 if there is none: they tell the runs of one history from those of
    another. `highest_ids` maps each id sequence to the highest id given out up to the run's end.
    """

    format_version: int
    store_id: UUID
    first_position: int
    last_position: int
    preceding_recorded_at: int
    last_recorded_at: int
    highest_ids: dict[str, int]


class _Table:
    """One table of a run: its three columns as they lie in the mapped file.

    Keys are ids or hashes, both spread evenly, so a straight line from the lowest to the highest
    key tells nearly where one is. Bisecting around there touches a page or two, not twenty.
    """

    __slots__ = (
        "highest",
        "keys",
        "lowest",
        "offsets",
        "positions",
        "rows_per_key",
        "values",
        "window",
    )

    def __init__(self, batch: pa.RecordBatch) -> None:
        rows = batch.num_rows
        self.keys = _int64s(batch.column(0), 1)
        self.positions = _int64s(batch.column(1), 1)
        self.offsets = _int64s(batch.column(2), 1)
        values = batch.column(2).buffers()[2]
        self.values = memoryview(values if values is not None else b"")
        self.lowest, self.highest = (self.keys[0], self.keys[-1]) if rows else (1, 0)
        if rows and not 0 <= self.offsets[rows] <= len(self.values):
            raise UnusableRunError("a table's values are cut off")
        spread = self.highest - self.lowest
        self.rows_per_key = (rows - 1) / spread if spread > 0 else 0.0
        # The n-th of many random keys is off its place by a standard deviation of sqrt(rows) / 2.
        is_dense = spread < 2 * rows
        self.window = _DENSE_WINDOW if is_dense else _DENSE_WINDOW + 2 * math.isqrt(rows)

    def first_row(self, key: int) -> int:
        """The first row whose key is not below `key`, which is one between lowest and highest."""
        keys = self.keys
        near = int((key - self.lowest) * self.rows_per_key)
        start, end = near - self.window, near + self.window
        if start < 0 or keys[start] >= key:
            start = 0
        if end >= len(keys) or keys[end] < key:
            end = len(keys)
        return bisect.bisect_left(keys, key, start, end)

    def end_row(self, key: int, first: int) -> int:
        """The row behind the last one with `key`, which row `first` has."""
        keys, end = self.keys, first + 1
        while end < len(keys) and keys[end] == key:
            if end - first == _DENSE_WINDOW:
                return bisect.bisect_right(keys, key, end)
            end += 1
        return end

    def value(self, row: int) -> bytes:
        return bytes(self.values[self.offsets[row] : self.offsets[row + 1]])


class SortedRun:
    """A run opened for look-ups. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Raises UnusableRunError when the file is missing or is no whole run of this format."""
        self.path = path
        try:
            self._file = pa.ipc.open_file(pa.memory_map(str(path)))
            metadata = self._file.schema.metadata[_METADATA_KEY]
            self.metadata = msgspec.json.decode(metadata, type=RunMetadata)
            if self.metadata.format_version != RUN_FORMAT_VERSION:
                raise UnusableRunError(f"format version {self.metadata.format_version}")
            if self._file.num_record_batches != len(TABLES):
                raise UnusableRunError(f"{self._file.num_record_batches} tables")
            self._tables = {table: _Table(self.batch(table)) for table in TABLES}
            self.first_position = self.metadata.first_position
            self.last_position = self.metadata.last_position
            self.highest_ids: Mapping[str, int] = self.metadata.highest_ids
            self.records = self.last_position - self.first_position + 1
        except (
            UnusableRunError,
            pa.ArrowException,
            OSError,
            KeyError,
            IndexError,
            TypeError,
            msgspec.MsgspecError,
        ) as error:
            raise UnusableRunError(f"{path}: {error}") from None

    def newest(self, table: int, key: int, as_of: int) -> tuple[int, bytes] | None:
        opened = self._tables[table]
        if not opened.lowest <= key <= opened.highest:
            return None
        first = opened.first_row(key)
        if opened.keys[first] != key:
            return None
        row = opened.end_row(key, first) - 1
        if opened.positions[row] > as_of:
            row = bisect.bisect_right(opened.positions, as_of, first, row) - 1
            if row < first:
                return None
        return opened.positions[row], opened.value(row)

    def newest_of_each(
        self, table: int, keys: Sequence[int], as_of: int
    ) -> dict[int, tuple[int, bytes]]:
        """By key what `newest` answers, for those of `keys` for which there is anything."""
        opened = self._tables[table]
        lowest, highest, rows_per_key = opened.lowest, opened.highest, opened.rows_per_key
        rows, positions, offsets, values = (
            opened.keys,
            opened.positions,
            opened.offsets,
            opened.values,
        )
        last = len(rows) - 1
        found = {}
        for key in keys:
            if not lowest <= key <= highest:
                continue
            row = int((key - lowest) * rows_per_key)
            # Ids without gaps lie just where they are looked for.
            if (
                rows[row] == key
                and (row == last or rows[row + 1] != key)
                and positions[row] <= as_of
            ):
                found[key] = (positions[row], bytes(values[offsets[row] : offsets[row + 1]]))
            elif (entry := self.newest(table, key, as_of)) is not None:
                found[key] = entry
        return found

    def entries(self, table: int, key: int, as_of: int) -> list[tuple[int, bytes]]:
        opened = self._tables[table]
        if not opened.lowest <= key <= opened.highest:
            return []
        first = opened.first_row(key)
        if opened.keys[first] != key:
            return []
        end = opened.end_row(key, first)
        if opened.positions[end - 1] > as_of:
            end = bisect.bisect_right(opened.positions, as_of, first, end)
        return [(opened.positions[row], opened.value(row)) for row in range(first, end)]

    def values_of_each(self, table: int, keys: Sequence[int], as_of: int) -> dict[int, list[bytes]]:
        """By key the values of what `entries` answers, for those of `keys` that have any."""
        opened = self._tables[table]
        rows, positions = opened.keys, opened.positions
        offsets, values, count = opened.offsets, opened.values, len(opened.keys)
        found = {}
        for key in keys:
            if opened.lowest <= key <= opened.highest:
                row, some = opened.first_row(key), []
                while row < count and rows[row] == key and positions[row] <= as_of:
                    some.append(bytes(values[offsets[row] : offsets[row + 1]]))
                    row += 1
                if some:
                    found[key] = some
        return found

    def known_keys(self, table: int, keys: Collection[int]) -> set[int]:
        """Those of `keys` that the table has."""
        opened = self._tables[table]
        lowest, highest = opened.lowest, opened.highest
        rows, rows_per_key, window = opened.keys, opened.rows_per_key, opened.window
        count = len(rows)
        found = set()
        for key in keys:
            if lowest <= key <= highest:
                # What `first_row` does, without a call for each key.
                near = int((key - lowest) * rows_per_key)
                start, end = near - window, near + window
                if start < 0 or rows[start] >= key:
                    start = 0
                if end >= count or rows[end] < key:
                    end = count
                if rows[bisect.bisect_left(rows, key, start, end)] == key:
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
        return self._file.get_batch(table - TABLES[0])


def write_run(path: Path, metadata: RunMetadata, tables: Mapping[int, pa.RecordBatch]) -> SortedRun:
    """Write one batch of RUN_SCHEMA a table, sorted; tables not given are empty."""
    schema = RUN_SCHEMA.with_metadata({_METADATA_KEY: msgspec.json.encode(metadata)})
    empty = run_batch([], [], [])
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for table in TABLES:
                batch = tables.get(table, empty)
                writer.write_batch(batch.replace_schema_metadata(schema.metadata))
        _sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return SortedRun(path)


TEMPORARY_SUFFIX = ".tmp"
"""How the name of a run ends while it is written."""


def run_batch(keys: list[int], positions: list[int], values: list[bytes]) -> pa.RecordBatch:
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
        batches = [run.batch(table).replace_schema_metadata(None) for run in runs]
        tables[table] = sorted_batch(*pa.concat_batches(batches).columns)
    return write_run(path, metadata, tables)


def _sync(path: Path) -> None:
    # A file that was renamed but not written would not be missed until a look-up.
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _int64s(array: pa.Array, buffer: int) -> memoryview:
    data = array.buffers()[buffer]
    return memoryview(data if data is not None else b"").cast("q")
