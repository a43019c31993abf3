"""One table of a sorted run's file, as it is read: see `run_file.py` for what is in it."""

from __future__ import annotations

import bisect
import mmap
import struct
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import msgspec
from xxhash import xxh3_64, xxh3_64_intdigest

if TYPE_CHECKING:
    import pyarrow as pa

    from eventstore.projections.run_file import RunFile

BLOCK_ROWS: Final = 16
"""How many rows share a checksum."""

BLOCK_SHIFT: Final = BLOCK_ROWS.bit_length() - 1
_IN_BLOCK: Final = BLOCK_ROWS - 1

NUMBER_BYTES: Final = 8
INLINE_NUMBERS: Final = 3
ENTRY_NUMBERS: Final = 4
ENTRY_BYTES: Final = NUMBER_BYTES * ENTRY_NUMBERS
"""How long an entry is where its value is elsewhere."""

_INLINE_AROUND: Final = struct.Struct("<q16x6q").unpack_from
_ENTRY_AROUND: Final = struct.Struct("<q24x8q").unpack_from
"""The key of an entry; the int64s of the two after it."""

UNSIGNED: Final = (1 << 64) - 1
SUPERSEDED: Final = 0x5AC6_31D7_94EB_2F0D
"""Distinguishes the checksum of a value that has a newer one of its key from the newest's."""

_checksum: Final = xxh3_64_intdigest
_bisect_left: Final = bisect.bisect_left
_LAST_POSITION: Final = (1 << 63) - 1
_CHECKED_BYTES: Final = 1 << 20


class DamagedRunError(Exception):
    """What was read of a run is not what was written, though it was whole when it was opened."""

    def __init__(self, file: RunFile, what: str) -> None:
        super().__init__(f"{file.path}: {what}")
        self.file = file


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """Where a table lies: offsets and sizes in bytes.

    Bucket b spans 2^shift keys, a slot of the filter 2^slot_shift; a table without a filter has one
    of no bytes. Each `..._checksum` is of a whole part, for who reads all of it. `has_all_keys` if
    each key from the lowest to the highest has an entry.
    """

    rows: int
    lowest: int
    highest: int
    shift: int
    slot_shift: int
    entries: int
    checksums: int
    directory: int
    filter: int
    values: int
    end: int
    entries_checksum: int
    directory_checksum: int
    filter_checksum: int
    values_checksum: int
    has_inline_values: bool
    has_all_keys: bool


class RunTable:
    """One table of a run: as it lies in the mapped file, or a copy in memory that was checked.

    A block is `span` bytes of the entries, every `stride` bytes from `entries_at` on: those of its
    rows, the row before and the row after. Before the first row and after the last one there is a
    dummy row; the latter ends the last value and has another key. The first row is at `first_at`.
    """

    def __init__(self, layout: Layout, file: RunFile, seed: int) -> None:
        """Raises DamagedRunError."""
        self._layout, self.file, self.seed = layout, file, seed
        self.rows, self.shift, self.slot_shift = layout.rows, layout.shift, layout.slot_shift
        self.lowest, self.highest = layout.lowest, layout.highest
        self.has_inline_values = layout.has_inline_values
        self.has_all_keys = layout.has_all_keys
        self.is_copied = file.mapped is None
        self.content: bytes | mmap.mmap
        if file.mapped is None:
            self.content, self._start = file.read(layout.entries, layout.end), layout.entries
        else:
            self.content, self._start = file.mapped, 0
        # Each row is as far from the first as its key, as with ids of nodes that were put once.
        is_gapless = layout.highest - layout.lowest + 1 == layout.rows and layout.has_all_keys
        self.is_dense = is_gapless and not layout.has_inline_values
        self.is_plain = self.is_copied and not layout.has_inline_values
        self.numbers = INLINE_NUMBERS if layout.has_inline_values else ENTRY_NUMBERS
        self.entry_bytes = NUMBER_BYTES * self.numbers
        self._around = _INLINE_AROUND if layout.has_inline_values else _ENTRY_AROUND
        self.stride = BLOCK_ROWS * self.entry_bytes
        self.span = self.stride + 2 * self.entry_bytes
        self.entries_at, self.values_at = layout.entries - self._start, layout.values - self._start
        self.first_at = self.entries_at + self.entry_bytes
        self.checksums = self._part(layout.checksums, layout.directory).cast("Q")
        self._numbers = self._part(layout.entries, layout.checksums).cast("q")
        end = (layout.rows + 1) * self.numbers
        self.hint_keys = self._numbers[self.numbers : end : self.numbers]
        buckets = (layout.highest - layout.lowest >> layout.shift) + 1
        end = layout.directory + 4 * (buckets + 1)
        self.directory = self._part(layout.directory, end).cast("i")
        if self.is_copied:
            self._check_entries(self._part(layout.entries, layout.checksums))
            if _checksum(self.directory, seed) != layout.directory_checksum:
                raise DamagedRunError(file, "the directory of a table is damaged")
            self.check_values()
        self.filter = bytes(self._part(layout.filter, layout.values))
        """A bit for each slot of 2^slot_shift keys from the lowest on, or nothing."""
        if _checksum(self.filter, seed) != layout.filter_checksum:
            raise DamagedRunError(file, "the filter of a table is damaged")

    def block(self, number: int) -> bytes:
        """The entries of a block, the row before and the row after."""
        start = self.entries_at + number * self.stride
        found = self.content[start : start + self.span]
        if _checksum(found, self.seed) != self.checksums[number]:
            raise DamagedRunError(self.file, f"block {number} of a table's entries is damaged")
        return found

    def possible(self, keys: Iterable[int]) -> list[int]:
        """Those of some keys that may be there, as far as that is known without reading."""
        lowest, highest, bits, shift = self.lowest, self.highest, self.filter, self.slot_shift
        if not bits:
            return [key for key in keys if lowest <= key <= highest]
        return [
            key
            for key in keys
            if lowest <= key <= highest
            and bits[(slot := key - lowest >> shift) >> 3] >> (slot & 7) & 1
        ]

    def has_key(self, key: int) -> bool:
        """Whether a key between lowest and highest is there."""
        return self.rows_of(key, _LAST_POSITION) is not None

    def rows_of(self, key: int, as_of: int) -> Sequence[int] | None:
        """The int64s of the entries with a key that is between lowest and highest, up to `as_of`.

        Those of the entry after them follow. The rows around their place show that there are none,
        whatever has led there.
        """
        directory, bucket = self.directory, key - self.lowest >> self.shift
        try:
            row = _bisect_left(self.hint_keys, key, directory[bucket], directory[bucket + 1])
        except (IndexError, ValueError):
            raise DamagedRunError(self.file, "the directory of a table is damaged") from None
        if row >= self.rows:
            raise DamagedRunError(self.file, "the directory of a table is damaged")
        if self.is_copied:
            around = self._around(self.content, self.entries_at + row * self.entry_bytes)
        else:
            block = self.block(row >> BLOCK_SHIFT)
            around = self._around(block, (row & _IN_BLOCK) * self.entry_bytes)
        found = around[1]
        if found < key or (row and around[0] >= key):
            raise DamagedRunError(self.file, "the entries or the directory of a table are damaged")
        if found != key:
            return None
        if around[1 + self.numbers] != key:
            # As most keys have: one row.
            return around[1:] if around[2] <= as_of else None
        return self._several_rows(row, directory[bucket + 1], key, as_of)

    def _several_rows(self, row: int, end: int, key: int, as_of: int) -> Sequence[int] | None:
        """What `rows_of` returns for a key whose rows begin with one and end before another."""
        numbers = self.numbers
        try:
            end = bisect.bisect_right(self.hint_keys, key, row + 1, end)
        except (IndexError, ValueError):
            raise DamagedRunError(self.file, "the entries of a table are damaged") from None
        if self.is_copied:
            view, before = self._numbers, 0
        else:
            first = row >> BLOCK_SHIFT
            blocks = self._blocks(first, end - 1 >> BLOCK_SHIFT)
            view, before = memoryview(blocks).cast("q"), first << BLOCK_SHIFT
        rows = view[(row - before + 1) * numbers : (end - before + 2) * numbers]
        if rows[-2 * numbers] != key or rows[-numbers] == key:
            raise DamagedRunError(self.file, "the entries of a table are damaged")
        positions = rows[1:-numbers:numbers]
        if positions[-1] > as_of:
            rows = rows[: (bisect.bisect_right(positions, as_of) + 1) * numbers]
        return rows.tolist() if len(rows) > numbers else None

    def _blocks(self, first: int, last: int) -> bytes:
        """The entries of some blocks, the row before and the row after."""
        start = self.entries_at + first * self.stride
        found = self.content[start : start + (last - first) * self.stride + self.span]
        view = memoryview(found)
        for number, checksum in enumerate(self.checksums[first : last + 1]):
            at = number * self.stride
            if _checksum(view[at : at + self.span], self.seed) != checksum:
                raise DamagedRunError(
                    self.file, f"block {first + number} of a table's entries is damaged"
                )
        return found

    def values_of(self, rows: Sequence[int]) -> list[bytes]:
        """The values of what `rows_of` gives."""
        if self.has_inline_values:
            values = rows[2 : -self.numbers : self.numbers]
            return [value.to_bytes(8, "little", signed=True) for value in values]
        content, at = self.content, self.values_at
        if self.is_copied:
            starts = rows[2::ENTRY_NUMBERS]
            return [content[at + start : at + end] for start, end in pairwise(starts)]
        found = []
        for first in range(0, len(rows) - ENTRY_NUMBERS, ENTRY_NUMBERS):
            key, position, start, checksum, following, _, end = rows[first : first + 7]
            value = content[at + start : at + end]
            seed = self.seed ^ SUPERSEDED if following == key else self.seed
            # The digest takes the lowest 64 bits. Multiplied, since it adds seeds to short values
            # as they are: a changed bit of a value could make up for another key or position.
            if _checksum(value, (key << 32 ^ position) * seed) != checksum & UNSIGNED:
                raise DamagedRunError(self.file, "a value is damaged")
            found.append(value)
        return found

    def batch(self) -> pa.RecordBatch:
        """The rows as RUN_SCHEMA; values of the mapped file: `check_values` when they are read."""
        import pyarrow as pa

        from eventstore.projections.run_batches import RUN_SCHEMA, int64_array

        rows, numbers, layout = self.rows, self.numbers, self._layout
        view = self._checked_numbers()
        keys, positions, thirds = (view[first::numbers] for first in range(3))
        arrays = [int64_array(keys[:rows]), int64_array(positions[:rows])]
        if self.has_inline_values:
            values = int64_array(thirds[:rows]).view(pa.binary(8)).cast(pa.large_binary())
        else:
            offsets = pa.py_buffer(thirds[: rows + 1].tobytes())
            held = pa.py_buffer(self._part(layout.values, layout.end))
            values = pa.Array.from_buffers(pa.large_binary(), rows, [None, offsets, held])
        return pa.RecordBatch.from_arrays([*arrays, values], schema=RUN_SCHEMA)

    def keys_and_positions(self) -> tuple[memoryview, memoryview]:
        """Those of all rows, in order."""
        view, end, step = self._checked_numbers(), self.rows * self.numbers, self.numbers
        return view[:end:step], view[1:end:step]

    def _checked_numbers(self) -> memoryview:
        """The int64s of all entries from the first row on."""
        if self.is_copied:
            return self._numbers[self.numbers :]
        # Not through the map, where all that is read counts as memory used.
        entries = self.file.read(self._layout.entries, self._layout.checksums)
        self._check_entries(entries)
        return memoryview(entries).cast("q")[self.numbers :]

    def check_values(self) -> None:
        """Check all values, as they are now."""
        layout, checksum = self._layout, xxh3_64(seed=self.seed)
        if self.has_inline_values:
            return
        if self.is_copied:
            checksum.update(self._part(layout.values, layout.end))
        else:
            for start in range(layout.values, layout.end, _CHECKED_BYTES):
                end = min(start + _CHECKED_BYTES, layout.end)
                checksum.update(self.file.read(start, end))
        if checksum.intdigest() != layout.values_checksum:
            raise DamagedRunError(self.file, "the values of a table are damaged")

    def _check_entries(self, entries: bytes | memoryview) -> None:
        if _checksum(entries, self.seed) != self._layout.entries_checksum:
            raise DamagedRunError(self.file, "the entries of a table are damaged")

    def _part(self, start: int, end: int) -> memoryview:
        """What is at these offsets in the file."""
        return memoryview(self.content)[start - self._start : end - self._start]
