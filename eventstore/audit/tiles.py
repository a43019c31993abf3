"""A log as files that any web server serves: C2SP's tiles (c2sp.org/tlog-tiles).

A tile is up to 256 hashes in a row: on level 0 those of leaves, on each further level the heads of
the full tiles below. Beside them there are bundles of the entries that the leaves are hashes of.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from eventstore.errors import DataLossError
from eventstore.log.merkle import HASH_BYTES, Frontier, tree_head

TILE_WIDTH: Final = 256
CHECKPOINT_NAME: Final = "checkpoint"
ENTRY_BYTES_MAX: Final = 2**16 - 1
BUNDLE_BYTES_MAX: Final = TILE_WIDTH * (2 + ENTRY_BYTES_MAX)

_ENTRY_LENGTH: Final = struct.Struct(">H")
_LEVEL_BITS: Final = 8


@dataclass(frozen=True, slots=True)
class Tile:
    """Hashes in a row, as the file has them; fewer than 256 make a partial tile."""

    level: int
    index: int
    content: bytes

    @property
    def path(self) -> str:
        """Where the tile lies."""
        return tile_path(str(self.level), self.index, len(self.content) // HASH_BYTES)


def tile_path(level: str, index: int, width: int) -> str:
    """Where a tile lies; the level is a number or `entries`."""
    name = f"{index % 1000:03}"
    while index := index // 1000:
        name = f"x{index % 1000:03}/{name}"
    return f"tile/{level}/{name}" + (f".p/{width}" if width < TILE_WIDTH else "")


def tile_widths(size: int) -> Iterator[tuple[int, int, int]]:
    """Of the last tile of each level that a tree of this size has: level, index and width.

    A level whose last tile is full has 0 as the width, of the tile that comes next.
    """
    level = 0
    while size:
        yield level, size // TILE_WIDTH, size % TILE_WIDTH
        level, size = level + 1, size // TILE_WIDTH


class TileRows:
    """The right edge of a tree as its tiles have it: what is in the unfinished tile of each level.

    It begins with a whole number of tiles on level 0, of which `rows` has the levels from 1 on.
    """

    def __init__(self, size: int = 0, rows: Sequence[Sequence[bytes]] = ()) -> None:
        assert size % TILE_WIDTH == 0, size
        self.size = size
        self._rows = [[], *(list(row) for row in rows)]

    def extend(self, leaves: Sequence[bytes]) -> list[Tile]:
        """Add the hashes of up to a tile's leaves; the tiles that are full with them."""
        assert len(self._rows[0]) + len(leaves) <= TILE_WIDTH
        self._rows[0] += leaves
        self.size += len(leaves)
        full, level = [], 0
        while len(self._rows[level]) == TILE_WIDTH:
            row, self._rows[level] = self._rows[level], []
            index = (self.size >> (_LEVEL_BITS * (level + 1))) - 1
            full.append(Tile(level, index, b"".join(row)))
            level += 1
            if level == len(self._rows):
                self._rows.append([])
            self._rows[level].append(tree_head(row))
        return full

    def partial(self) -> list[Tile]:
        """The tiles that are not full."""
        return [
            Tile(level, self.size >> (_LEVEL_BITS * (level + 1)), b"".join(row))
            for level, row in enumerate(self._rows)
            if row
        ]

    def head(self, further: Sequence[bytes] = ()) -> bytes:
        """The tree's head; with further leaves, which leave the tile unfinished."""
        first, *others = self._rows
        assert len(first) + len(further) < TILE_WIDTH
        subtrees: list[bytes] = []
        for row in (*reversed(others), [*first, *further]):
            start = 0
            for bit in reversed(range(len(row).bit_length())):
                if len(row) >> bit & 1:
                    subtrees.append(tree_head(row[start : start + (1 << bit)]))
                    start += 1 << bit
        return Frontier(self.size + len(further), subtrees).head()


def hashes_of(content: bytes, width: int, path: str) -> list[bytes]:
    """The hashes of a tile, or of the full one in its place; DataLossError for anything else."""
    if len(content) not in (width * HASH_BYTES, TILE_WIDTH * HASH_BYTES):
        raise DataLossError(f"{path} is not a tile of {width} hashes")
    return [content[i : i + HASH_BYTES] for i in range(0, width * HASH_BYTES, HASH_BYTES)]


def bundle_of(entries: Sequence[bytes]) -> bytes:
    """Entries as a file has them."""
    return b"".join(_ENTRY_LENGTH.pack(len(entry)) + entry for entry in entries)


def entries_of(bundle: bytes, path: str) -> list[bytes]:
    """The entries of a bundle. Raises DataLossError for anything else."""
    entries: list[bytes] = []
    place = 0
    while place < len(bundle):
        start = place + _ENTRY_LENGTH.size
        length = int.from_bytes(bundle[place:start], "big")
        place = start + length
        if place > len(bundle) or len(entries) == TILE_WIDTH:
            raise DataLossError(f"{path} is not a bundle of entries")
        entries.append(bundle[start:place])
    return entries


def entry_hash(entry: bytes) -> bytes:
    """The hash of an entry's leaf: RFC 6962, section 2.1."""
    return hashlib.sha256(b"\x00" + entry).digest()
