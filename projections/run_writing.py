"""Write a sorted run's file: see `run_file.py` for what is in it."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Callable, Iterable, Mapping
from itertools import islice, pairwise
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as compute
from xxhash import xxh3_64, xxh3_64_intdigest

from eventstore.log.arrow_values import array_of, scalar_of
from eventstore.log.cache_file import written_whole
from eventstore.log.columns import release_unused
from eventstore.log.forking import no_fork_in_libraries
from eventstore.log.turns import give_turn
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
_ROWS_PER_TURN: Final = 2_048

_checksum: Final = xxh3_64_intdigest


class Rows(NamedTuple):
    """The entries of a table, by key.

    `part` gives the positions and values from one row up to another; it is asked in order, once.
    """

    keys: pa.Array
    are_ids: bool
    part: Callable[[int, int], tuple[pa.Array, pa.Array]]


WriteRun = Callable[[Path, RunMetadata, Callable[[IO[bytes]], None]], IO[bytes] | None]
"""Makes the file of a run, which is then filled; gives it if it has no name."""


def write_named(path: Path, _: RunMetadata, fill: Callable[[IO[bytes]], None]) -> None:
    """Write a file that is at the path once it is whole."""
    with written_whole(path) as file:
        fill(file)


def write_unnamed(path: Path, _: RunMetadata, fill: Callable[[IO[bytes]], None]) -> IO[bytes]:
    """Write a file that nobody else finds, and that goes with this process however it ends."""
    file = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115
    try:
        fill(file)
        file.flush()
    except BaseException:
        file.close()
        raise
    return file


def write_run_file(
    path: Path,
    metadata: RunMetadata,
    tables: Mapping[int, pa.RecordBatch],
    limits: IndexLimits = LIMITS.index,
    write: WriteRun = write_named,
    *,
    seed: int | None = None,
) -> IO[bytes] | None:
    """Write one sorted batch of RUN_SCHEMA a table; tables not given are empty.

    With the same `seed` the same entries make the same file. It is given back if it has no name.
    """
    rows = ((table, rows_of(tables[table])) for table in sorted(tables))
    return write_tables(path, metadata, rows, limits, write, seed)


def write_run(
    path: Path,
    metadata: RunMetadata,
    tables: Mapping[int, pa.RecordBatch],
    limits: IndexLimits = LIMITS.index,
    write: WriteRun = write_named,
) -> SortedRun:
    """The run that `write_run_file` writes."""
    return SortedRun(path, limits, write_run_file(path, metadata, tables, limits, write))


def write_tables(
    path: Path,
    metadata: RunMetadata,
    tables: Iterable[tuple[int, Rows]],
    limits: IndexLimits,
    write: WriteRun = write_named,
    seed: int | None = None,
) -> IO[bytes] | None:
    """Write tables in the order of their numbers, of which one at a time is in memory."""
    seed = int.from_bytes(os.urandom(8)) >> 1 if seed is None else seed
    in_order = dict(sorted(metadata.highest_ids.items()))
    metadata = msgspec.structs.replace(metadata, highest_ids=in_order)

    def fill(file: IO[bytes]) -> None:
        layouts = {}
        for table, rows in tables:
            if rows.keys:
                layouts[table] = _write_table(file, rows, seed ^ table, limits.written_rows_max)
            # Before the next ones are made.
            del rows
        footer = msgspec.json.encode(Footer(metadata=metadata, seed=seed, tables=layouts))
        file.write(footer + ENDING.pack(_checksum(footer), len(footer), MAGIC))

    written = write(path, metadata, fill)
    release_unused()
    return written


def rows_of(batch: pa.RecordBatch) -> Rows:
    """The rows of a batch of RUN_SCHEMA that is sorted by key."""
    keys, positions, values = batch.columns
    return Rows(
        keys, are_numbers(values), lambda start, end: (positions[start:end], values[start:end])
    )


def _write_table(file: IO[bytes], rows: Rows, seed: int, at_once: int) -> Layout:
    keys, count = rows.keys, len(rows.keys)
    lowest, highest = keys[0].as_py(), keys[-1].as_py()
    width = INLINE_NUMBERS if rows.are_ids else ENTRY_NUMBERS
    blocks = -(-count // BLOCK_ROWS)
    shift, directory = _directory(keys, lowest, highest, at_once)
    has_all_keys = _are_gapless(keys, at_once)
    slot_shift, bits = (0, b"") if has_all_keys else _filter(keys, lowest, highest)
    entries_at = file.tell()
    # With a row before the first one, one after the last one, and whole blocks.
    checksums_at = entries_at + NUMBER_BYTES * width * (blocks * BLOCK_ROWS + 2)
    directory_at = checksums_at + NUMBER_BYTES * blocks
    filter_at = directory_at + len(directory) + -len(directory) % NUMBER_BYTES
    values_at = filter_at + len(bits)
    entries = _EntryWriter(file, entries_at, width, seed)
    length, values_checksum = 0, xxh3_64(seed=seed)
    for start in range(0, count, at_once):
        end = min(start + at_once, count)
        with no_fork_in_libraries():
            positions, found = rows.part(start, end)
            offsets, values = _binary_buffers(found)
            numbers = memoryview(array("q", [0]) * (width * (end - start)))
            numbers[::width] = int64s(keys[start:end])
            numbers[1::width] = int64s(positions)
            if rows.are_ids:
                numbers[2::width] = values.cast("q")
            else:
                numbers[2::width] = array("q", [length + offset for offset in offsets[:-1]])
                sums = _value_checksums(keys, start, positions, offsets, values, seed)
                numbers[3::width] = memoryview(sums).cast("B").cast("q")
                file.seek(values_at + length)
                file.write(values)
                values_checksum.update(values)
                length += len(values)
            entries.write(numbers.cast("B"))
    file.seek(values_at + length)
    file.write(bytes(-length % NUMBER_BYTES))
    after = file.tell()
    last = array("q", [highest ^ 1, 0, length, 0][:width])
    entries.write(last.tobytes() + bytes(NUMBER_BYTES * width * (blocks * BLOCK_ROWS - count)))
    entries.end()
    file.write(entries.checksums)
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
        entries_checksum=entries.checksum.intdigest(),
        directory_checksum=_checksum(directory, seed),
        filter_checksum=_checksum(bits, seed),
        values_checksum=values_checksum.intdigest(),
        has_inline_values=rows.are_ids,
        has_all_keys=has_all_keys,
    )


class _EntryWriter:
    """Writes entries part by part where they belong, and makes the checksum of each block."""

    def __init__(self, file: IO[bytes], at: int, width: int, seed: int) -> None:
        self._file, self._at, self._seed = file, at, seed
        self._stride = NUMBER_BYTES * width * BLOCK_ROWS
        self._span = self._stride + 2 * NUMBER_BYTES * width
        self._pending = bytes(NUMBER_BYTES * width)
        self.checksum, self.checksums = xxh3_64(seed=seed), array("Q")

    def write(self, entries: bytes | memoryview) -> None:
        found, stride, span = memoryview(self._pending + entries), self._stride, self._span
        whole = max(len(found) - (span - stride), 0) // stride * stride
        starts = range(0, whole, stride)
        self.checksums.extend([_checksum(found[at : at + span], self._seed) for at in starts])
        self._put(found[:whole])
        self._pending = bytes(found[whole:])

    def end(self) -> None:
        """Write what belongs to two blocks until it is known that there is no other."""
        self._put(self._pending)

    def _put(self, entries: bytes | memoryview) -> None:
        self._file.seek(self._at)
        self._at += self._file.write(entries)
        self.checksum.update(entries)


def _value_checksums(
    keys: pa.Array,
    start: int,
    positions: pa.Array,
    offsets: memoryview,
    values: memoryview,
    seed: int,
) -> array[int]:
    """The checksum of each value of the rows from one on, as `RunTable.values_of` checks it."""
    # With the key after them, if there is one: it tells whether the last of them is superseded.
    around, found = keys[start : start + len(positions) + 1], bytes(values)
    keys = around[: len(positions)]
    is_superseded = compute.equal(around[1:], around[:-1])
    if len(is_superseded) < len(keys):
        is_superseded = pa.concat_arrays([is_superseded, array_of([False], pa.bool_())])
    seeds = pa.repeat(_int64(seed), len(keys))
    seeds = compute.if_else(is_superseded, _int64(seed ^ SUPERSEDED), seeds)
    mixed = compute.bit_wise_xor(compute.shift_left(keys, _int64(32)), positions)
    seeds = compute.multiply(mixed, seeds)
    places, sums = zip(pairwise(offsets), int64s(seeds), strict=True), array("Q")
    while some := [
        _checksum(found[first:last], mixed)
        for (first, last), mixed in islice(places, _ROWS_PER_TURN)
    ]:
        sums.extend(some)
        give_turn()
    return sums


def _are_gapless(keys: pa.Array, at_once: int) -> bool:
    """Whether each number from the lowest to the highest of sorted ones is there."""
    spread = keys[-1].as_py() - keys[0].as_py()
    # Of hashes the differences would overflow, and of fewer keys some are missing.
    if spread >= len(keys):
        return False
    for start in range(0, len(keys), at_once):
        with no_fork_in_libraries():
            some = keys[start : start + at_once + 1]
            steps = compute.subtract(some[1:], some[:-1])
            if compute.any(compute.greater(steps, _int64(1))).as_py():
                return False
    return True


def _directory(keys: pa.Array, lowest: int, highest: int, at_once: int) -> tuple[int, bytes]:
    """How many bits of keys a bucket spans; the first row of each as int32, and the end of all."""
    spread, shift = highest - lowest, 0
    while spread >> shift >= max(2, len(keys) // _ROWS_PER_BUCKET):
        shift += 1
    rows = array("i", [0])
    for start in range(0, len(keys), at_once):
        with no_fork_in_libraries():
            buckets = _divided(keys[start : start + at_once], lowest, shift)
            runs = compute.run_end_encode(buckets, run_end_type=pa.int32())
            # What is known of the first of them, if it began among the keys before, changes.
            del rows[runs.values[0].as_py() + 1 :]
            numbers = array_of(range(len(rows) - 1, runs.values[-1].as_py() + 1), pa.uint64())
            # An empty bucket ends where the one before it does.
            ends = runs.run_ends.take(compute.index_in(numbers, value_set=runs.values))
            ends = compute.fill_null_forward(ends).fill_null(scalar_of(0, pa.int32()))
            ends = compute.add(ends, scalar_of(start, pa.int32()))
            rows.frombytes(memoryview(ends.buffers()[1]))
    return shift, rows.tobytes()


def _filter(keys: pa.Array, lowest: int, highest: int) -> tuple[int, bytes]:
    """How many bits of keys a slot spans, and a bit for each slot, the first one lowest."""
    spread, shift = highest - lowest, 0
    while spread >> shift >= _SLOTS_PER_ROW * len(keys):
        shift += 1
    bits = bytearray(NUMBER_BYTES * ((spread >> shift) // (8 * NUMBER_BYTES) + 1))
    for start in range(0, len(keys), _ROWS_PER_TURN):
        with no_fork_in_libraries():
            for slot in _divided(keys[start : start + _ROWS_PER_TURN], lowest, shift).to_pylist():
                bits[slot >> 3] |= 1 << (slot & 7)
        give_turn()
    return shift, bytes(bits)


def _divided(keys: pa.Array, lowest: int, shift: int) -> pa.Array:
    """How far each key is from the lowest, in spans of 2^shift."""
    # Unsigned, since the distance between hashes may be more than an int64 holds.
    start = scalar_of(lowest % (1 << 64), pa.uint64())
    distances = compute.subtract(keys.view(pa.uint64()), start)
    return compute.shift_right(distances, scalar_of(shift, pa.uint64()))


def are_numbers(values: pa.Array) -> bool:
    """Whether all values have the length of an int64."""
    lengths: dict[str, int] = compute.min_max(compute.binary_length(values)).as_py()
    return lengths["min"] == lengths["max"] == NUMBER_BYTES


def _int64(number: int) -> pa.Scalar:
    return scalar_of(number, pa.int64())


def int64s(array: pa.Array) -> memoryview:
    return memoryview(array.buffers()[1]).cast("q")[array.offset : array.offset + len(array)]


def _binary_buffers(array: pa.Array) -> tuple[memoryview, memoryview]:
    """The offsets, one more than values, and the values of a large_binary array."""
    if array.offset:
        array = pa.concat_arrays([array])
    _, offsets_buffer, values_buffer = array.buffers()
    offsets = memoryview(offsets_buffer).cast("q")[: len(array) + 1]
    values: Any = values_buffer if values_buffer is not None else b""
    return offsets, memoryview(values)[: offsets[-1]]
