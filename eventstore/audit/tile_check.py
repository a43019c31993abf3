"""Check what is published as tiles, without asking the store.

All entries are hashed again and compared with the tiles, and these with the checkpoint. Whoever
kept the last checkpoint that was checked looks only at what has come since: the tiles show that
history goes on from there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from eventstore.audit.checkpoint import Checkpoint, Trust
from eventstore.audit.tile_source import TileSource
from eventstore.audit.tiles import (
    BUNDLE_BYTES_MAX,
    CHECKPOINT_NAME,
    TILE_WIDTH,
    Tile,
    TileRows,
    entries_of,
    entry_hash,
    hashes_of,
    tile_path,
    tile_widths,
)
from eventstore.errors import DataLossError, InvalidArgumentError, NotFoundError
from eventstore.log import Progress
from eventstore.log.merkle import HASH_BYTES
from eventstore.log.os_errors import starting_thread
from eventstore.times import microseconds_of
from eventstore.wording import counted

_CHECKPOINT_BYTES_MAX: Final = 2**20
_TILE_BYTES: Final = TILE_WIDTH * HASH_BYTES
_AT_ONCE: Final = 16
_ENTRY_BEGINNING: Final = struct.Struct(">16sqqq")


@dataclass(frozen=True, slots=True)
class TileCheck:
    """What was found to hold: the checkpoint, and from which position on entries were looked at."""

    checkpoint: Checkpoint
    first_position: int


def check_tiles(
    source: TileSource,
    trust: Trust,
    older: Checkpoint | None = None,
    progress: Progress | None = None,
) -> TileCheck:
    """Check the checkpoint that is published, its tiles, and the entries since `older`.

    `progress` counts entries. Raises NotFoundError where nothing is published, DataLossError when
    the checkpoint does not hold by itself or is gone although there is `older`, when tiles are
    missing or are not what was signed, or history does not go on from `older`; UnavailableError
    when the source cannot be read now.
    """
    checkpoint = _checkpoint(source, trust, older)
    if older is not None:
        _refuse_older(checkpoint, older)
    start = 0 if older is None else older.size - older.size % TILE_WIDTH
    rows = TileRows(start, _rows(source, start, checkpoint.size))
    entries = _Entries(checkpoint)
    for bundle, hashes in _blocks(source, start, checkpoint.size):
        for position, entry in enumerate(bundle, rows.size + 1):
            entries.look_at(entry, position)
        if older is not None and 0 <= older.size - rows.size < TILE_WIDTH:
            _refuse_other(rows.head(hashes[: older.size - rows.size]), older, checkpoint)
        for tile in rows.extend(hashes)[1:]:
            _refuse_other_tile(source, tile)
        if progress is not None:
            progress(rows.size, checkpoint.size)
    for stated in (older, checkpoint):
        if stated is not None and stated.size == rows.size:
            _refuse_other(rows.head(), stated, checkpoint)
    entries.end()
    for tile in rows.partial():
        if tile.level:
            _refuse_other_tile(source, tile)
    return TileCheck(checkpoint, start + 1)


def _checkpoint(source: TileSource, trust: Trust, older: Checkpoint | None) -> Checkpoint:
    content = source.get(CHECKPOINT_NAME, _CHECKPOINT_BYTES_MAX)
    if content is None and older is not None:
        raise DataLossError(
            f"{source.name} has no {CHECKPOINT_NAME}, and had one of "
            f"{counted(older.size, 'record')}: it was taken away, or this is not the place"
        )
    if content is None:
        raise NotFoundError(f"{source.name} has no {CHECKPOINT_NAME}: nothing is published there")
    try:
        return Checkpoint.parse(content.decode("utf-8"), trust)
    except UnicodeDecodeError:
        reason = "it is no text"
    except InvalidArgumentError as error:
        reason = str(error)
    raise DataLossError(f"the {CHECKPOINT_NAME} of {source.name} does not hold: {reason}")


def _refuse_older(checkpoint: Checkpoint, older: Checkpoint) -> None:
    if checkpoint.store_id != older.store_id:
        raise DataLossError(
            f"the older checkpoint is of store {older.store_id}, what is published of "
            f"{checkpoint.store_id}"
        )
    if checkpoint.size < older.size:
        raise DataLossError(
            f"what is published states {counted(checkpoint.size, 'record')}, the older checkpoint "
            f"{older.size}: it was taken back, or the checkpoint is the newer one"
        )


def _refuse_other(head: bytes, stated: Checkpoint, published: Checkpoint) -> None:
    if head == stated.root:
        return
    what = f"the first {counted(stated.size, 'record')} that are published are not those that"
    if (stated.size, stated.root) == (published.size, published.root):
        raise DataLossError(
            f"{what} {stated.signer} signed in the checkpoint beside them; keep all of it, and ask "
            "whoever publishes it to publish it again"
        )
    raise DataLossError(
        f"{what} {stated.signer} signed in the older checkpoint; keep both checkpoints and the "
        "tiles, they show it"
    )


def _rows(source: TileSource, start: int, size: int) -> list[list[bytes]]:
    """What the unfinished tiles of the levels from 1 on have, in a tree that ends at `start`."""
    rows = []
    for level, index, width in tile_widths(start):
        if level:
            there = min((size >> 8 * level) - index * TILE_WIDTH, TILE_WIDTH)
            rows.append(_hashes(source, level, index, there)[:width] if width else [])
    return rows


def _hashes(source: TileSource, level: int, index: int, width: int) -> list[bytes]:
    path = tile_path(str(level), index, width)
    return hashes_of(_tile(source, path, _TILE_BYTES), width, path)


def _tile(source: TileSource, path: str, most_bytes: int) -> bytes:
    """A tile, or the full one, which may stand for a partial one that was removed."""
    content = source.get(path, most_bytes)
    if content is None and ".p/" in path:
        content = source.get(path.partition(".p/")[0], most_bytes)
    if content is None:
        raise DataLossError(f"{source.name} lacks {path}, which its checkpoint needs")
    return content


def _refuse_other_tile(source: TileSource, tile: Tile) -> None:
    width = len(tile.content) // HASH_BYTES
    if b"".join(_hashes(source, tile.level, tile.index, width)) != tile.content:
        raise DataLossError(f"{tile.path} of {source.name} is not the tile that its entries give")


def _blocks(source: TileSource, start: int, size: int) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """The entries of a tile at a time, and their hashes, which the tile of level 0 has, too."""

    def read(index: int) -> tuple[list[bytes], list[bytes]]:
        width = min(size - index * TILE_WIDTH, TILE_WIDTH)
        path = tile_path("entries", index, width)
        entries = entries_of(_tile(source, path, BUNDLE_BYTES_MAX), path)[:width]
        hashes = [entry_hash(entry) for entry in entries]
        if len(entries) < width or hashes != _hashes(source, 0, index, width):
            raise DataLossError(f"{path} of {source.name} has not the entries of its tile")
        return entries, hashes

    indexes = range(start // TILE_WIDTH, -(-size // TILE_WIDTH))
    with ThreadPoolExecutor(_AT_ONCE // 2) as pool:
        # In portions, so that not all of a history is held at once.
        for first in range(0, len(indexes), _AT_ONCE):
            with starting_thread():
                found = pool.map(read, indexes[first : first + _AT_ONCE])
            yield from found


class _Entries:
    """What entries say at their beginning, compared with their place and with each other."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._last: tuple[int, int] | None = None

    def look_at(self, entry: bytes, position: int) -> None:
        if len(entry) < _ENTRY_BEGINNING.size:
            raise DataLossError(f"the entry of position {position} is none of a record")
        store, stated, commit, at = _ENTRY_BEGINNING.unpack_from(entry)
        if store != self._checkpoint.store_id.bytes or stated != position:
            raise DataLossError(f"the entry of position {position} is of another place or store")
        last = self._last or ((0, at) if position == 1 else (commit, at))
        if commit not in (last[0], last[0] + 1) or commit < 1 or at < last[1]:
            raise DataLossError(f"the entry of position {position} does not follow the one before")
        self._last = commit, at

    def end(self) -> None:
        stated = (self._checkpoint.commit, microseconds_of(self._checkpoint.recorded_at))
        if self._last is not None and self._last != stated:
            raise DataLossError("the checkpoint states another commit or time than its last entry")
