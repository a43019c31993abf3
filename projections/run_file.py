"""The file of a sorted run: each table's entries by key, a directory of them, and their values.

An entry is three int64 side by side: key, position, and where in the values its value starts, or
the value itself where all of a table have eight bytes, as ids do. The directory divides the span
of the keys into equal buckets and holds the first row of each, so that a look-up reads two or three
places of the memory-mapped file, however large it is. Where keys are far apart, as hashes are, a
filter tells that a key is not there by reading a bit: it divides their span into many more slots,
and holds which of them have a key. A footer in JSON says what lies where.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final
from uuid import UUID

import msgspec
import pyarrow as pa

RUN_FORMAT_VERSION: Final = 6

RUN_SCHEMA: Final = pa.schema(
    [
        pa.field("key", pa.int64(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("value", pa.large_binary(), nullable=False),
    ]
)

TEMPORARY_SUFFIX: Final = ".tmp"
"""How the name of a run ends while it is written."""

ENTRY_NUMBERS: Final = 3
"""How many int64 an entry has."""

_NUMBER_BYTES: Final = 8
_ENTRY_BYTES: Final = ENTRY_NUMBERS * _NUMBER_BYTES
_ROWS_PER_BUCKET: Final = 4
_SLOTS_PER_ROW: Final = 8
_FAR_APART: Final = 1 << 16
_ENDING: Final = struct.Struct("<q8s")
_MAGIC: Final = b"ESRUN\0\0\0"


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


class _Layout(msgspec.Struct, frozen=True, kw_only=True):
    """Where a table lies: offsets and sizes in bytes.

    Bucket b spans 2^shift keys, a slot of the filter 2^slot_shift; a table without a filter has one
    of no bytes.
    """

    rows: int
    lowest: int
    highest: int
    shift: int
    slot_shift: int
    entries: int
    directory: int
    filter: int
    values: int
    end: int
    has_inline_values: bool


class _Footer(msgspec.Struct, frozen=True, kw_only=True):
    metadata: RunMetadata
    tables: dict[int, _Layout]


class RunTable:
    """One table of a run as it lies in the mapped file.

    `numbers` holds the entries, and one more behind the last that ends its value and has a key
    unlike it; `keys` and `positions` are every third of them. `filter` has a bit for each slot of
    2^slot_shift keys from the lowest on, or is empty.
    """

    __slots__ = (
        "_bytes",
        "directory",
        "filter",
        "has_inline_values",
        "highest",
        "is_dense",
        "keys",
        "lowest",
        "numbers",
        "positions",
        "rows",
        "shift",
        "slot_shift",
        "values",
    )

    def __init__(self, layout: _Layout, file: memoryview) -> None:
        self.rows, self.shift, self.slot_shift = layout.rows, layout.shift, layout.slot_shift
        self.lowest, self.highest = layout.lowest, layout.highest
        self.has_inline_values = layout.has_inline_values
        # Each row is likely to be as far from the first as its key, if these are ids of nodes.
        is_gapless = layout.highest - layout.lowest + 1 == layout.rows
        self.is_dense = is_gapless and not layout.has_inline_values
        self._bytes = file[layout.entries : layout.directory]
        self.numbers = self._bytes.cast("q")
        self.keys = self.numbers[: ENTRY_NUMBERS * layout.rows : ENTRY_NUMBERS]
        self.positions = self.numbers[1 : ENTRY_NUMBERS * layout.rows : ENTRY_NUMBERS]
        buckets = (layout.highest - layout.lowest >> layout.shift) + 1
        self.directory = file[layout.directory : layout.directory + 4 * (buckets + 1)].cast("i")
        self.filter = file[layout.filter : layout.values]
        self.values = file[layout.values : layout.end]

    def value(self, row: int) -> bytes:
        at = ENTRY_NUMBERS * row + 2
        if self.has_inline_values:
            return self._bytes[_NUMBER_BYTES * at : _NUMBER_BYTES * (at + 1)].tobytes()
        numbers = self.numbers
        return self.values[numbers[at] : numbers[at + ENTRY_NUMBERS]].tobytes()

    def batch(self) -> pa.RecordBatch:
        """The rows as RUN_SCHEMA; the values are not copied."""
        rows = self.rows
        thirds = self.numbers[2::ENTRY_NUMBERS]
        if self.has_inline_values:
            offsets = _inline_offsets(rows)
            values = pa.py_buffer(thirds[:rows].tobytes())
        else:
            offsets, values = pa.py_buffer(thirds.tobytes()), pa.py_buffer(self.values)
        columns = [
            pa.Array.from_buffers(pa.int64(), rows, [None, pa.py_buffer(self.keys.tobytes())]),
            pa.Array.from_buffers(pa.int64(), rows, [None, pa.py_buffer(self.positions.tobytes())]),
            pa.Array.from_buffers(pa.large_binary(), rows, [None, offsets, values]),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=RUN_SCHEMA)


_EMPTY: Final = RunTable(
    _Layout(
        rows=0,
        lowest=1,
        highest=0,
        shift=0,
        slot_shift=0,
        entries=0,
        directory=_ENTRY_BYTES,
        filter=_ENTRY_BYTES,
        values=_ENTRY_BYTES,
        end=_ENTRY_BYTES,
        has_inline_values=False,
    ),
    memoryview(bytes(_ENTRY_BYTES + 4)),
)


class RunFile:
    """A run's file, mapped."""

    def __init__(self, path: Path) -> None:
        """Raises UnusableRunError when the file is missing or is no whole run of this format."""
        try:
            with path.open("rb") as opened:
                mapped = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
            footer = _footer(mapped)
        except (OSError, ValueError, struct.error, msgspec.MsgspecError) as error:
            raise UnusableRunError(f"{path}: {error}") from None
        self.metadata = footer.metadata
        self._tables = {table: RunTable(layout, mapped) for table, layout in footer.tables.items()}

    def table(self, table: int) -> RunTable:
        return self._tables.get(table, _EMPTY)


def _footer(file: memoryview) -> _Footer:
    length, magic = _ENDING.unpack(file[-_ENDING.size :])
    end = len(file) - _ENDING.size
    if magic != _MAGIC or not 0 < length <= end:
        raise ValueError("it does not end as a run does")
    footer = msgspec.json.decode(file[end - length : end], type=_Footer)
    if footer.metadata.format_version != RUN_FORMAT_VERSION:
        raise ValueError(f"format version {footer.metadata.format_version}")
    if any(layout.end > end - length for layout in footer.tables.values()):
        raise ValueError("a table is cut off")
    return footer


def write_run_file(path: Path, metadata: RunMetadata, tables: Mapping[int, pa.RecordBatch]) -> None:
    """Write one sorted batch of RUN_SCHEMA a table; tables not given are empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two stores of one process may write the same run, each in a thread of its own.
    writer = f"{os.getpid()}-{threading.get_ident()}"
    temporary = path.with_name(f"{path.name}.{writer}{TEMPORARY_SUFFIX}")
    try:
        with temporary.open("wb") as file:
            layouts = {
                table: _write_table(file, batch)
                for table, batch in tables.items()
                if batch.num_rows
            }
            footer = msgspec.json.encode(_Footer(metadata=metadata, tables=layouts))
            file.write(footer + _ENDING.pack(len(footer), _MAGIC))
            file.flush()
            # A file that was renamed but not written would not be missed until a look-up.
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_table(file: IO[bytes], batch: pa.RecordBatch) -> _Layout:
    rows, keys = batch.num_rows, batch.column(0)
    offsets, values = _binary_buffers(batch.column(2))
    lowest, highest = keys[0].as_py(), keys[-1].as_py()
    are_ids = _are_numbers(batch.column(2))
    numbers = memoryview(bytearray(_ENTRY_BYTES * (rows + 1))).cast("q")
    numbers[: ENTRY_NUMBERS * rows : ENTRY_NUMBERS] = _int64s(keys)
    numbers[1 : ENTRY_NUMBERS * rows : ENTRY_NUMBERS] = _int64s(batch.column(1))
    if are_ids:
        numbers[2 : ENTRY_NUMBERS * rows : ENTRY_NUMBERS] = values.cast("q")
    else:
        numbers[2::ENTRY_NUMBERS] = offsets
    numbers[ENTRY_NUMBERS * rows] = highest ^ 1
    shift, directory = _directory(keys, lowest, highest)
    entries_at = file.tell()
    file.write(numbers)
    directory_at = file.tell()
    _write_padded(file, directory)
    slot_shift, bits = _filter(keys, lowest, highest)
    filter_at = file.tell()
    _write_padded(file, bits)
    values_at = file.tell()
    if not are_ids:
        _write_padded(file, values)
    return _Layout(
        rows=rows,
        lowest=lowest,
        highest=highest,
        shift=shift,
        slot_shift=slot_shift,
        entries=entries_at,
        directory=directory_at,
        filter=filter_at,
        values=values_at,
        end=file.tell(),
        has_inline_values=are_ids,
    )


def _write_padded(file: IO[bytes], part: memoryview | bytes) -> None:
    file.write(part)
    file.write(bytes(-len(part) % _NUMBER_BYTES))


def _directory(keys: pa.Array, lowest: int, highest: int) -> tuple[int, memoryview]:
    """How many bits of keys a bucket spans; the first row of each as int32, and the end of all."""
    # Not at the top: it takes long to import, and look-ups do without it.
    import pyarrow.compute as compute

    spread, shift = highest - lowest, 0
    while spread >> shift >= max(2, len(keys) // _ROWS_PER_BUCKET):
        shift += 1
    buckets = _divided(keys, lowest, shift)
    runs = compute.run_end_encode(buckets, run_end_type=pa.int32())
    ones = pa.repeat(pa.scalar(1, pa.uint64()), (spread >> shift) + 1)
    numbers = compute.subtract(compute.cumulative_sum(ones), pa.scalar(1, pa.uint64()))
    # An empty bucket ends where the one before it does.
    rows = compute.index_in(numbers, value_set=runs.values)
    ends = compute.fill_null_forward(runs.run_ends.take(rows))
    first = pa.array([0], pa.int32())
    return shift, memoryview(pa.concat_arrays([first, ends]).buffers()[1])


def _filter(keys: pa.Array, lowest: int, highest: int) -> tuple[int, bytes]:
    """How many bits of keys a slot spans, and a bit for each slot, the first one lowest."""
    import pyarrow.compute as compute

    spread, shift = highest - lowest, 0
    if spread < _FAR_APART * len(keys):
        return 0, b""
    while spread >> shift >= _SLOTS_PER_ROW * len(keys):
        shift += 1
    slots = compute.run_end_encode(_divided(keys, lowest, shift)).values
    bits = bytearray((spread >> shift) // 8 + 1)
    for slot in slots.to_pylist():
        bits[slot >> 3] |= 1 << (slot & 7)
    return shift, bytes(bits)


def _divided(keys: pa.Array, lowest: int, shift: int) -> pa.Array:
    """How far each key is from the lowest, in spans of 2^shift."""
    import pyarrow.compute as compute

    # Unsigned, for the distance between hashes may be more than an int64 holds.
    start = pa.scalar(lowest % (1 << 64), pa.uint64())
    distances = compute.subtract(keys.view(pa.uint64()), start)
    return compute.shift_right(distances, pa.scalar(shift, pa.uint64()))


def _are_numbers(values: pa.Array) -> bool:
    """Whether all values have the length of an int64."""
    import pyarrow.compute as compute

    lengths: dict[str, int] = compute.min_max(compute.binary_length(values)).as_py()
    return lengths["min"] == lengths["max"] == _NUMBER_BYTES


def _int64s(array: pa.Array) -> memoryview:
    return memoryview(array.buffers()[1]).cast("q")[array.offset : array.offset + len(array)]


def _binary_buffers(array: pa.Array) -> tuple[memoryview, memoryview]:
    """The offsets, one more than values, and the values of a large_binary array."""
    if array.offset:
        array = pa.concat_arrays([array])
    _, offsets_buffer, values_buffer = array.buffers()
    offsets = memoryview(offsets_buffer).cast("q")[: len(array) + 1]
    values: Any = values_buffer if values_buffer is not None else b""
    return offsets, memoryview(values)[: offsets[-1]]


def _inline_offsets(rows: int) -> pa.Buffer:
    """Where the values of as many rows and their end are, if each has the length of an int64."""
    import pyarrow.compute as compute

    widths = pa.repeat(pa.scalar(_NUMBER_BYTES, pa.int64()), rows + 1)
    return compute.subtract(compute.cumulative_sum(widths), _NUMBER_BYTES).buffers()[1]
