"""A sorted run: a stretch of the point index as an immutable file, memory-mapped and bisected.

The file is an uncompressed Arrow IPC file with one record batch a table, sorted by key and then
position, so that a look-up bisects two columns of int64 and copies one value: no read of the whole,
no decompression, no cache to warm.
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import UUID

import msgspec
import pyarrow as pa

from eventstore.projections.index_tables import TABLES

RUN_FORMAT_VERSION = 1

_SCHEMA = pa.schema(
    [
        pa.field("key", pa.int64(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("value", pa.large_binary(), nullable=False),
    ]
)
_METADATA_KEY = b"eventstore.run"


class UnusableRunError(Exception):
    """The file is no run of this store and format: to be thrown away and built again."""


class RunMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What a run holds: the entries of the records at positions first to last.

    `highest_ids` maps each id sequence to the highest id given out up to the run's end.
    """

    format_version: int
    store_id: UUID
    first_position: int
    last_position: int
    last_recorded_at: int
    highest_ids: dict[str, int]


class _Table:
    """One table of a run: its three columns as they lie in the mapped file."""

    __slots__ = ("keys", "offsets", "positions", "rows", "values")

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.rows = batch.num_rows
        self.keys = _int64s(batch.column(0), 1)
        self.positions = _int64s(batch.column(1), 1)
        self.offsets = _int64s(batch.column(2), 1)
        values = batch.column(2).buffers()[2]
        self.values = memoryview(values if values is not None else b"")

    def value(self, row: int) -> bytes:
        return bytes(self.values[self.offsets[row] : self.offsets[row + 1]])


class SortedRun:
    """A run opened for look-ups. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Raises UnusableRunError when the file is missing or is no run of this format."""
        self.path = path
        try:
            self._file = pa.ipc.open_file(pa.memory_map(str(path)))
            metadata = self._file.schema.metadata[_METADATA_KEY]
            self.metadata = msgspec.json.decode(metadata, type=RunMetadata)
            if self._file.num_record_batches != len(TABLES):
                raise UnusableRunError(f"{path} has {self._file.num_record_batches} tables")
        except (pa.ArrowException, OSError, KeyError, TypeError, msgspec.MsgspecError) as error:
            raise UnusableRunError(f"{path}: {error}") from None
        if self.metadata.format_version != RUN_FORMAT_VERSION:
            raise UnusableRunError(f"{path} has format version {self.metadata.format_version}")
        self._tables: dict[int, _Table] = {}

    @property
    def first_position(self) -> int:
        return self.metadata.first_position

    @property
    def last_position(self) -> int:
        return self.metadata.last_position

    @property
    def highest_ids(self) -> Mapping[str, int]:
        return self.metadata.highest_ids

    @property
    def records(self) -> int:
        return self.last_position - self.first_position + 1

    def newest(self, table: int, key: int, as_of: int) -> tuple[int, bytes] | None:
        opened = self._tables.get(table) or self._open(table)
        row = bisect.bisect_right(opened.keys, key) - 1
        if row < 0 or opened.keys[row] != key:
            return None
        if opened.positions[row] > as_of:
            first = bisect.bisect_left(opened.keys, key, 0, row)
            row = bisect.bisect_right(opened.positions, as_of, first, row) - 1
            if row < first:
                return None
        return opened.positions[row], opened.value(row)

    def entries(self, table: int, key: int, as_of: int) -> list[tuple[int, bytes]]:
        opened = self._tables.get(table) or self._open(table)
        first = bisect.bisect_left(opened.keys, key)
        if first == opened.rows or opened.keys[first] != key:
            return []
        end = bisect.bisect_right(opened.keys, key, first)
        if opened.positions[end - 1] > as_of:
            end = bisect.bisect_right(opened.positions, as_of, first, end)
        return [(opened.positions[row], opened.value(row)) for row in range(first, end)]

    def keys(self, table: int, as_of: int) -> Iterator[int]:
        """The distinct keys that have an entry at or before `as_of`, ascending."""
        opened = self._tables.get(table) or self._open(table)
        last_key = None
        for row in range(opened.rows):
            key = opened.keys[row]
            # The first entry of a key is its oldest.
            if key != last_key:
                last_key = key
                if opened.positions[row] <= as_of:
                    yield key

    def batch(self, table: int) -> pa.RecordBatch:
        return self._file.get_batch(table - TABLES[0])

    def _open(self, table: int) -> _Table:
        opened = self._tables[table] = _Table(self.batch(table))
        return opened


def write_run(
    path: Path, metadata: RunMetadata, columns: Mapping[int, pa.RecordBatch]
) -> SortedRun:
    """Write one batch of (key, position, value) a table, sorted; tables not given are empty."""
    schema = _SCHEMA.with_metadata({_METADATA_KEY: msgspec.json.encode(metadata)})
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for table in TABLES:
                batch = columns.get(table)
                if batch is None:
                    batch = run_batch([], [], [])
                writer.write_batch(batch.replace_schema_metadata(schema.metadata))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return SortedRun(path)


def run_batch(keys: list[int], positions: list[int], values: list[bytes]) -> pa.RecordBatch:
    """The columns of one table, in the order given."""
    arrays = [
        pa.array(keys, pa.int64()),
        pa.array(positions, pa.int64()),
        pa.array(values, pa.large_binary()),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)


def merge_runs(older: SortedRun, newer: SortedRun, path: Path) -> SortedRun:
    """One run of two neighbours."""
    metadata = msgspec.structs.replace(newer.metadata, first_position=older.metadata.first_position)
    columns = {}
    for table in TABLES:
        batches = [older.batch(table), newer.batch(table)]
        merged = pa.Table.from_batches(
            [batch.replace_schema_metadata(None) for batch in batches], _SCHEMA
        )
        merged = merged.sort_by([("key", "ascending"), ("position", "ascending")])
        if merged.num_rows:
            columns[table] = merged.combine_chunks().to_batches()[0]
    return write_run(path, metadata, columns)


def _int64s(array: pa.Array, buffer: int) -> memoryview:
    data = array.buffers()[buffer]
    return memoryview(data if data is not None else b"").cast("q")
