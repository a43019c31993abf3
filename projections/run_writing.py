"""Write a sorted run's file: see `run_file.py` for what is in it."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as compute
from xxhash import xxh3_64, xxh3_64_intdigest

from eventstore.projections.cache_file import written_whole
from eventstore.projections.limits import LIMITS, IndexLimits
from eventstore.projections.run_file import ENDING, MAGIC, Footer, RunMetadata
from eventstore.projections.run_table import (
    BLOCK_ROWS,
    ENTRY_NUMBERS,
    INLINE_NUMBERS,
    NUMBER_BYTES,
    SUPERSEDED,
    Layout,
)
from eventstore.projections.sorted_run import SortedRun

_ROWS_PER_BUCKET: Final = 4
_SLOTS_PER_ROW: Final = 8
_KEYS_AT_ONCE: Final = 16_384

_checksum: Final = xxh3_64_intdigest


class Rows(NamedTuple):
    """The entries of a table, by key: `values` gives those from one row up to another."""

    keys: pa.Array
    positions: pa.Array
    are_ids: bool
    values: Callable[[int, int], pa.Array]


def write_run_file(
    path: Path,
    metadata: RunMetadata,
    tables: Mapping[int, pa.RecordBatch],
    limits: IndexLimits = LIMITS.index,
    *,
    seed: int | None = None,
) -> None:
    """Write one sorted batch of RUN_SCHEMA a table; tables not given are empty.

    With the same `seed` the same entries make the same file.
    """
    rows = ((table, _rows(tables[table])) for table in sorted(tables))
    write_tables(path, metadata, rows, limits, seed)


def write_run(
    path: Path,
    metadata: RunMetadata,
    tables: Mapping[int, pa.RecordBatch],
    limits: IndexLimits = LIMITS.index,
) -> SortedRun:
    """The run that `write_run_file` writes."""
    write_run_file(path, metadata, tables, limits)
    return SortedRun(path, limits)


def write_tables(
    path: Path,
    metadata: RunMetadata,
    tables: Iterable[tuple[int, Rows]],
    limits: IndexLimits,
    seed: int | None = None,
) -> None:
    """Write tables in the order of their numbers, of which one at a time is in memory."""
    seed = int.from_bytes(os.urandom(8)) >> 1 if seed is None else seed
    in_order = dict(sorted(metadata.highest_ids.items()))
    metadata = msgspec.structs.replace(metadata, highest_ids=in_order)
    with written_whole(path) as file:
        layouts = {}
        for table, rows in tables:
            if rows.keys:
                layouts[table] = _write_table(file, rows, seed ^ table, limits.written_rows_max)
            # Before the next ones are made.
            del rows
        footer = msgspec.json.encode(Footer(metadata=metadata, seed=seed, tables=layouts))
        file.write(footer + ENDING.pack(_checksum(footer), len(footer), MAGIC))
    # What this thread's next run may need Arrow would keep.
    pa.default_memory_pool().release_unused()


def _rows(batch: pa.RecordBatch) -> Rows:
    keys, positions, values = batch.columns
    return Rows(keys, positions, _are_numbers(values), lambda start, end: values[start:end])


def _write_table(file: IO[bytes], rows: Rows, seed: int, at_once: int) -> Layout:
    keys, count = rows.keys, len(rows.keys)
    lowest, highest = keys[0].as_py(), keys[-1].as_py()
    width = INLINE_NUMBERS if rows.are_ids else ENTRY_NUMBERS
    blocks = -(-count // BLOCK_ROWS)
    # With a row before the first one, one after the last one, and whole blocks.
    numbers = array("q", [0]) * (width * (blocks * BLOCK_ROWS + 2))
    entries = memoryview(numbers)[width:]
    end = count * width
    entries[:end:width] = _int64s(keys)
    entries[1:end:width] = _int64s(rows.positions)
    entries[end] = highest ^ 1
    shift, directory = _directory(keys, lowest, highest)
    slot_shift, bits = _filter(keys, lowest, highest)
    whole = memoryview(numbers).cast("B")
    entries_at = file.tell()
    checksums_at = entries_at + len(whole)
    directory_at = checksums_at + NUMBER_BYTES * blocks
    filter_at = directory_at + len(directory) + -len(directory) % NUMBER_BYTES
    values_at = filter_at + len(bits)
    # Before what comes before them in the file, since entries say where values are.
    file.seek(values_at)
    length, values_checksum = _write_values(file, rows, entries, seed, at_once)
    after = file.tell()
    stride = NUMBER_BYTES * width * BLOCK_ROWS
    span = stride + 2 * NUMBER_BYTES * width
    starts = range(0, blocks * stride, stride)
    checksums = array("Q", [_checksum(whole[start : start + span], seed) for start in starts])
    file.seek(entries_at)
    file.write(whole)
    file.write(checksums)
    file.write(directory)
    file.write(bytes(-len(directory) % NUMBER_BYTES))
    file.write(bits)
    file.seek(after)
    return Layout(
        rows=count,
        lowest=lowest,
        highest=highest,
        shift=shift,
        slot_shift=slot_shift,
        entries=entries_at,
        checksums=checksums_at,
        directory=directory_at,
        filter=filter_at,
        values=values_at,
        end=values_at + length,
        entries_checksum=_checksum(whole, seed),
        directory_checksum=_checksum(directory, seed),
        filter_checksum=_checksum(bits, seed),
        values_checksum=values_checksum,
        has_inline_values=rows.are_ids,
        has_all_keys=_are_gapless(keys),
    )


def _write_values(
    file: IO[bytes], rows: Rows, entries: memoryview, seed: int, at_once: int
) -> tuple[int, int]:
    """Write the values part by part, note in the entries where they are, or what they are.

    Returns how long they are together, and their checksum.
    """
    width = INLINE_NUMBERS if rows.are_ids else ENTRY_NUMBERS
    length, checksum = 0, xxh3_64(seed=seed)
    for start in range(0, len(rows.keys), at_once):
        end = min(start + at_once, len(rows.keys))
        offsets, values = _binary_buffers(rows.values(start, end))
        thirds = entries[start * width + 2 : end * width + width : width]
        if rows.are_ids:
            thirds[: end - start] = values.cast("q")
            continue
        thirds[:] = array("q", [length + offset for offset in offsets])
        sums = _value_checksums(rows, start, end, offsets, values, seed)
        entries[start * width + 3 : end * width : width] = memoryview(sums).cast("B").cast("q")
        file.write(values)
        checksum.update(values)
        length += len(values)
    file.write(bytes(-length % NUMBER_BYTES))
    return length, checksum.intdigest()


def _value_checksums(
    rows: Rows, start: int, end: int, offsets: memoryview, values: memoryview, seed: int
) -> array[int]:
    """The checksum of each value of some rows, as `RunTable.values_of` checks it."""
    # With the key after them, if there is one: it tells whether the last of them is superseded.
    around, found = rows.keys[start : end + 1], bytes(values)
    keys = around[: end - start]
    is_superseded = compute.equal(around[1:], around[:-1])
    if len(is_superseded) < len(keys):
        is_superseded = pa.concat_arrays([is_superseded, pa.array([False])])
    seeds = pa.repeat(pa.scalar(seed, pa.int64()), len(keys))
    seeds = compute.if_else(is_superseded, seed ^ SUPERSEDED, seeds)
    seeds = compute.multiply(
        compute.bit_wise_xor(compute.shift_left(keys, 32), rows.positions[start:end]), seeds
    )
    places = zip(pairwise(offsets), _int64s(seeds), strict=True)
    return array("Q", [_checksum(found[first:last], mixed) for (first, last), mixed in places])


def _are_gapless(keys: pa.Array) -> bool:
    """Whether each number from the lowest to the highest of sorted ones is there."""
    spread = keys[-1].as_py() - keys[0].as_py()
    # Of hashes the differences would overflow, and of fewer keys some are missing.
    if spread >= len(keys):
        return False
    steps = compute.subtract(keys[1:], keys[:-1])
    return not compute.any(compute.greater(steps, 1)).as_py()


def _directory(keys: pa.Array, lowest: int, highest: int) -> tuple[int, memoryview]:
    """How many bits of keys a bucket spans; the first row of each as int32, and the end of all."""
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
    spread, shift = highest - lowest, 0
    if _are_gapless(keys):
        return 0, b""
    while spread >> shift >= _SLOTS_PER_ROW * len(keys):
        shift += 1
    bits = bytearray(NUMBER_BYTES * ((spread >> shift) // (8 * NUMBER_BYTES) + 1))
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        for slot in _divided(keys[start : start + _KEYS_AT_ONCE], lowest, shift).to_pylist():
            bits[slot >> 3] |= 1 << (slot & 7)
    return shift, bytes(bits)


def _divided(keys: pa.Array, lowest: int, shift: int) -> pa.Array:
    """How far each key is from the lowest, in spans of 2^shift."""
    # Unsigned, since the distance between hashes may be more than an int64 holds.
    start = pa.scalar(lowest % (1 << 64), pa.uint64())
    distances = compute.subtract(keys.view(pa.uint64()), start)
    return compute.shift_right(distances, pa.scalar(shift, pa.uint64()))


def _are_numbers(values: pa.Array) -> bool:
    """Whether all values have the length of an int64."""
    lengths: dict[str, int] = compute.min_max(compute.binary_length(values)).as_py()
    return lengths["min"] == lengths["max"] == NUMBER_BYTES


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
