"""A sorted run: a stretch of the point index as an immutable file, bisected."""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from os import SEEK_END, lseek
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from xxhash import xxh3_64_intdigest

from eventstore.projections.limits import LIMITS, IndexLimits
from eventstore.projections.run_file import RunFile
from eventstore.projections.run_table import ENTRY_BYTES, ENTRY_NUMBERS, UNSIGNED, RunTable

if TYPE_CHECKING:
    import pyarrow as pa

_place_of_value: Final = struct.Struct("<8xqqQ16xq8x").unpack_from
"""Position, start and checksum of an entry without its key; start of the one after it."""

_ONE_ENTRY: Final = 2 * ENTRY_NUMBERS
"""How many int64s `rows_of` gives of a key with one entry whose value is elsewhere."""

_entry: Final = struct.Struct("<qqq8xq8xq8x").unpack_from
"""Key, position and start of an entry; key and start of the one after it."""


class SortedRun:
    """A run opened for look-ups. Safe to use from several threads.

    Its answers are checked as they are read: where the file has changed, DamagedRunError is raised.
    """

    def __init__(
        self, path: Path, limits: IndexLimits = LIMITS.index, opened: IO[bytes] | None = None
    ) -> None:
        """See `RunFile`."""
        self.path = path
        file = RunFile(path, limits, opened)
        self.file = file
        self._tables = file.tables
        self._refuse_cut = file.refuse_cut
        self._descriptor, self._size = file.descriptor, file.size
        self.metadata = file.metadata
        self.first_position = self.metadata.first_position
        self.last_position = self.metadata.last_position
        self.highest_ids: Mapping[str, int] = self.metadata.highest_ids
        self.records = self.last_position - self.first_position + 1

    def newest(self, table: int, key: int, as_of: int) -> tuple[int, bytes] | None:
        opened = self._tables[table]
        if opened is None or not opened.lowest <= key <= opened.highest:
            return None
        is_copied = opened.is_copied
        if opened.is_dense and (is_copied or lseek(self._descriptor, 0, SEEK_END) == self._size):
            # For most nodes what `_newest` does, without calling anything and without the block:
            # the checksum is that of this key, of this position, and of its newest value alone.
            content, at = opened.content, opened.values_at
            position, start, checksum, end = _place_of_value(
                content, opened.first_at + (key - opened.lowest) * ENTRY_BYTES
            )
            if position <= as_of:
                value = content[at + start : at + end]
                if is_copied or (
                    xxh3_64_intdigest(value, (key << 32 ^ position) * opened.seed) == checksum
                ):
                    return position, value
        # Most runs do not have the key: told without calling functions, too.
        bits, distance = opened.filter, key - opened.lowest
        if bits and not bits[(slot := distance >> opened.slot_shift) >> 3] >> (slot & 7) & 1:
            return None
        self._refuse_cut()
        return _newest(opened, key, as_of)

    def newest_of_each(
        self, table: int, keys: Sequence[int], as_of: int
    ) -> dict[int, tuple[int, bytes]]:
        """By key what `newest` returns, for those of `keys` that have an entry."""
        opened = self._whole(table)
        if opened is None:
            return {}
        lowest, is_dense, is_copied = opened.lowest, opened.is_dense, opened.is_copied
        content, seed = opened.content, opened.seed
        first, values = opened.first_at, opened.values_at
        found = {}
        for key in opened.possible(keys):
            # For most keys what `_newest` does, without its steps: as in `newest`.
            if is_dense:
                position, start, checksum, end = _place_of_value(
                    content, first + (key - lowest) * ENTRY_BYTES
                )
                if position <= as_of:
                    value = content[values + start : values + end]
                    if is_copied or (
                        xxh3_64_intdigest(value, (key << 32 ^ position) * seed) == checksum
                    ):
                        found[key] = (position, value)
                        continue
            newest = _newest(opened, key, as_of)
            if newest is not None:
                found[key] = newest
        return found

    def entries(self, table: int, key: int, as_of: int) -> Sequence[tuple[int, bytes]]:
        opened = self._tables[table]
        if opened is None or not opened.lowest <= key <= opened.highest:
            return ()
        bits, distance = opened.filter, key - opened.lowest
        if bits and not bits[(slot := distance >> opened.slot_shift) >> 3] >> (slot & 7) & 1:
            return ()
        if opened.is_plain:
            # For most keys what is done below, without its steps.
            found, position, start, following, end = _first_entry(opened, key)
            if found != key:
                return ()
            if following != key and position <= as_of:
                at = opened.values_at
                return ((position, opened.content[at + start : at + end]),)
        else:
            self._refuse_cut()
        rows = opened.rows_of(key, as_of)
        if rows is None:
            return ()
        if len(rows) == _ONE_ENTRY:
            # As most keys have: what `values_of` does.
            at, position = opened.values_at, rows[1]
            value = opened.content[at + rows[2] : at + rows[6]]
            checksum = xxh3_64_intdigest(value, (key << 32 ^ position) * opened.seed)
            if checksum == rows[3] & UNSIGNED:
                return ((position, value),)
        return [*zip(rows[1 :: opened.numbers], opened.values_of(rows), strict=False)]

    def ids(self, table: int, key: int, as_of: int) -> Sequence[int]:
        """The values of what `entries` returns, of a table of ids."""
        opened = self._tables[table]
        if opened is None or not opened.lowest <= key <= opened.highest:
            return ()
        # Most runs do not have the key: told without calling functions, too.
        bits, distance = opened.filter, key - opened.lowest
        if bits and not bits[(slot := distance >> opened.slot_shift) >> 3] >> (slot & 7) & 1:
            return ()
        if not opened.is_copied:
            self._refuse_cut()
        rows = opened.rows_of(key, as_of)
        return () if rows is None else rows[2 : -opened.numbers : opened.numbers]

    def values_of_each(self, table: int, keys: Sequence[int], as_of: int) -> dict[int, list[bytes]]:
        """By key the values of what `entries` returns, for those of `keys` that have any."""
        opened = self._whole(table)
        if opened is None:
            return {}
        rows_of, values_of = opened.rows_of, opened.values_of
        rows = ((key, rows_of(key, as_of)) for key in opened.possible(keys))
        return {key: values_of(found) for key, found in rows if found is not None}

    def known_keys(self, table: int, keys: Collection[int]) -> set[int]:
        """Those of `keys` that the table has."""
        opened = self._tables[table]
        if opened is None:
            return set()
        possible = opened.possible(keys)
        if opened.has_all_keys:
            # The footer says so, which was checked when it was read.
            return {*possible}
        self._refuse_cut()
        return {*filter(opened.has_key, possible)}

    def keys(self, table: int, as_of: int) -> Iterator[int]:
        """The distinct keys that have an entry at or before `as_of`, ascending."""
        opened = self._whole(table)
        if opened is None:
            return iter(())
        return _distinct(*opened.keys_and_positions(), as_of)

    def key_span(self, table: int, as_of: int) -> range | None:
        """The keys that `keys` gives, if no key between them is missing; as the footer says."""
        layout = self._tables.layouts.get(table)
        if layout is None:
            return range(0)
        if self.last_position > as_of or not layout.has_all_keys:
            return None
        return range(layout.lowest, layout.highest + 1)

    def entry_count(self, table: int, as_of: int) -> int:
        """How many entries there are at or before `as_of`."""
        opened = None if self.last_position <= as_of else self._whole(table)
        if opened is not None:
            _, positions = opened.keys_and_positions()
            return sum(position <= as_of for position in positions)
        layout = self._tables.layouts.get(table)
        return 0 if layout is None else layout.rows

    def entry_columns(self, table: int) -> tuple[pa.Array, pa.Array]:
        """The positions and values of all entries of a table; as `batch` gives them."""
        batch = self.batch(table)
        return batch.column(1), batch.column(2)

    def batch(self, table: int) -> pa.RecordBatch:
        """The rows of a table as RUN_SCHEMA.

        The values are those of the file itself: `check_values` afterwards.
        """
        from eventstore.projections.run_batches import run_batch

        opened = self._whole(table)
        return run_batch([], [], []) if opened is None else opened.batch()

    def check_values(self, table: int) -> None:
        """Check all values of a table, as they are now."""
        opened = self._whole(table)
        if opened is not None and not opened.is_copied:
            opened.check_values()

    def _whole(self, table: int) -> RunTable | None:
        """A table, of a file that is as long as it was."""
        opened = self._tables[table]
        if opened is not None:
            self._refuse_cut()
        return opened


def _newest(table: RunTable, key: int, as_of: int) -> tuple[int, bytes] | None:
    if table.is_plain:
        # For most keys what is done below, without its steps.
        found, position, start, following, end = _first_entry(table, key)
        if found != key:
            return None
        if following != key and position <= as_of:
            at = table.values_at
            return position, table.content[at + start : at + end]
    rows = table.rows_of(key, as_of)
    if rows is None:
        return None
    last = rows[-2 * table.numbers :]
    return last[1], table.values_of(last)[0]


def _first_entry(table: RunTable, key: int) -> tuple[int, int, int, int, int]:
    """What `_entry` gives of the first entry of a plain table that has no lower key."""
    bucket, directory = key - table.lowest >> table.shift, table.directory
    row = bisect_left(table.hint_keys, key, directory[bucket], directory[bucket + 1])
    return _entry(table.content, table.first_at + row * ENTRY_BYTES)


def _distinct(keys: Sequence[int], positions: Sequence[int], as_of: int) -> Iterator[int]:
    last_key = None
    for key, position in zip(keys, positions, strict=True):
        # The first entry of a key is its oldest.
        if key != last_key:
            last_key = key
            if position <= as_of:
                yield key
