"""Write a log's tiles and entries into a folder, from which any web server can serve them.

Tiles are written first, each whole and synced, and the checkpoint that needs them last. So whatever
interrupts this, a checkpoint that is published has all of its tiles; the next run goes on.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from eventstore.audit.checkpoint import Checkpoint
from eventstore.audit.cosignature import COSIGNED_BYTES
from eventstore.audit.signed_note import Note
from eventstore.audit.statement import ORIGIN_PREFIX
from eventstore.audit.tiles import (
    CHECKPOINT_NAME,
    TILE_WIDTH,
    TileRows,
    bundle_of,
    hashes_of,
    tile_path,
    tile_widths,
)
from eventstore.errors import DataLossError, FailedPreconditionError, InvalidArgumentError
from eventstore.log import Log, Progress, Record
from eventstore.log.cache_file import TEMPORARY_SUFFIX, remove_abandoned, written_whole
from eventstore.log.commit import records_of
from eventstore.log.file_lock import alone_in
from eventstore.log.leaf import LEAF_BYTES, leaf_bytes, leaf_hashes
from eventstore.log.merkle import HASH_BYTES, Frontier
from eventstore.log.os_errors import translated
from eventstore.log.regular_file import read_regular
from eventstore.log.syncing import sync_directory
from eventstore.wording import counted

_TILE_BYTES: Final = TILE_WIDTH * HASH_BYTES
# An entry is a leaf without its first byte, after its length in two.
_BUNDLE_BYTES: Final = TILE_WIDTH * (LEAF_BYTES + 1)
_PUBLISHED: Final = re.compile(
    rf"{ORIGIN_PREFIX}(?P<store_id>[0-9a-f-]{{36}})\n"
    r"(?P<size>[1-9][0-9]{0,18})\n"
    r"(?P<root>[A-Za-z0-9+/]{43}=)\n"
)


@dataclass(frozen=True, slots=True)
class Publication:
    """What a publication has done: how many files it wrote, of so many records in all."""

    records: int
    records_before: int
    files_written: int


def publish_tiles(
    log: Log, checkpoint: Checkpoint, folder: Path, progress: Progress | None = None
) -> Publication:
    """Write the tiles that a checkpoint needs and the folder lacks, then the checkpoint.

    Where the very checkpoint is published already, all tiles are compared, and those that are not
    as they were written are written again. `progress` counts records.

    Raises NotFoundError when the checkpoint is another store's, FailedPreconditionError when a
    later one is published there, the same with cosignatures that this one lacks, or a file that is
    no checkpoint of this store; DataLossError when the log is not what is signed, or not what is
    published.
    """
    if checkpoint.of_store(log.store_id).size > log.position:
        raise DataLossError(
            f"the checkpoint states {counted(checkpoint.size, 'record')}, the store has "
            f"{log.position}: some that were there when it was signed are missing"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone_in(folder, "publishing into"):
            return _published(log, checkpoint, folder, progress)
    except OSError as error:
        raise translated(error, "publishing into", folder) from None


def _published(
    log: Log, checkpoint: Checkpoint, folder: Path, progress: Progress | None
) -> Publication:
    before = _Before.read(folder, log)
    if before.size > checkpoint.size:
        raise FailedPreconditionError(
            f"{folder} has a checkpoint of {counted(before.size, 'record')}, this one states "
            f"{checkpoint.size}: publish a newer one"
        )
    before.refuse_to_lose_cosignatures(checkpoint, folder)
    files = _Files(folder)
    is_again = before.text == checkpoint.text
    rows = TileRows() if is_again else before.rows(folder)
    if rows.size == 0:
        before.refuse_other_history(log, folder)
    elif not _is_written(log, checkpoint, before, rows, files, progress):
        # What lies in the folder is not what was written there: all of it is looked at.
        before.refuse_other_history(log, folder)
        rows = TileRows()
    if rows.size == 0 and not _is_written(log, checkpoint, before, rows, files, progress):
        raise DataLossError(
            f"nothing is published: the first {counted(checkpoint.size, 'record')} are not "
            f"those that {checkpoint.signer} signed; run `eventstore verify`"
        )
    files.sync()
    files.write(CHECKPOINT_NAME, checkpoint.text.encode())
    files.sync()
    return Publication(checkpoint.size, before.size, files.written)


@dataclass(frozen=True, slots=True)
class _Before:
    """What the checkpoint in the folder states. Its signature does not matter: the log decides."""

    size: int
    root: bytes
    text: str

    @classmethod
    def read(cls, folder: Path, log: Log) -> _Before:
        path = folder / CHECKPOINT_NAME
        try:
            text = read_regular(path).decode("utf-8", "replace")
        except FileNotFoundError:
            return cls(0, b"", "")
        found = _PUBLISHED.match(text)
        if found is None or found["store_id"] != str(log.store_id):
            raise FailedPreconditionError(
                f"{path} is no checkpoint of store {log.store_id}: publish into another folder"
            )
        return cls(int(found["size"]), base64.b64decode(found["root"]), text)

    def refuse_to_lose_cosignatures(self, checkpoint: Checkpoint, folder: Path) -> None:
        """Raise FailedPreconditionError when this state is published with more of them."""
        if (self.size, self.root) != (checkpoint.size, checkpoint.root):
            return
        lost = sorted(_cosigners(self.text) - _cosigners(checkpoint.text))
        if lost:
            raise FailedPreconditionError(
                f"{folder} has a checkpoint of this state that {' and '.join(lost)} cosigned, "
                "unlike this one: add the cosignatures (`eventstore cosign --add`), or move "
                f"{folder / CHECKPOINT_NAME} away to do without"
            )

    def refuse_other_history(self, log: Log, folder: Path) -> None:
        """Raise DataLossError unless the log begins with what is published."""
        frontier = Frontier()
        for batch in log.scan(0, self.size, Record.__struct_fields__):
            frontier.extend(leaf_hashes(log.store_id, records_of(batch)))
        if self.size and frontier.head() != self.root:
            raise DataLossError(
                f"nothing is published: the checkpoint in {folder} states another history of "
                f"{counted(self.size, 'record')} than this store has; keep it, and find out who "
                "changed which"
            )

    def rows(self, folder: Path) -> TileRows:
        """The tree up to the last whole tile of leaves, as the folder's own tiles have it.

        Without a leaf where a tile is missing or of another size: all are to be looked at.
        """
        if not self._are_there(folder):
            return TileRows()
        rows: list[list[bytes]] = []
        for level, index, width in tile_widths(self.size):
            if level and width:
                path = tile_path(str(level), index, width)
                try:
                    rows.append(hashes_of(read_regular(folder / path), width, path))
                except (OSError, DataLossError):
                    return TileRows()
            elif level:
                rows.append([])
        return TileRows(self.size - self.size % TILE_WIDTH, rows)

    def _are_there(self, folder: Path) -> bool:
        """Whether every whole tile has its size."""
        whole = [("entries", self.size // TILE_WIDTH, _BUNDLE_BYTES)] + [
            (str(level), index, _TILE_BYTES) for level, index, _ in tile_widths(self.size)
        ]
        try:
            return all(
                (folder / tile_path(level, index, TILE_WIDTH)).stat().st_size == size
                for level, count, size in whole
                for index in range(count)
            )
        except OSError:
            return False


def _cosigners(text: str) -> set[str]:
    """Who has cosigned a checkpoint, by the length of the lines alone."""
    try:
        note = Note.parse(text)
    except InvalidArgumentError:
        return set()
    return {name for name, signed in note.signatures if len(signed) == COSIGNED_BYTES}


def _is_written(
    log: Log,
    checkpoint: Checkpoint,
    before: _Before,
    rows: TileRows,
    files: _Files,
    progress: Progress | None,
) -> bool:
    """Write the tiles that go on from these rows.

    False when the rows do not give the head that is published, before anything is written, or with
    the log's leaves the one that is signed.
    """
    if rows.size == before.size and before.size and rows.head() != before.root:
        return False
    for leaves in _blocks(log, rows.size, checkpoint.size):
        index, hashes = rows.size // TILE_WIDTH, [hashlib.sha256(leaf).digest() for leaf in leaves]
        further = before.size - rows.size
        is_between = 0 < further <= len(leaves) and further < TILE_WIDTH
        if is_between and rows.head(hashes[:further]) != before.root:
            return False
        entries = [leaf[1:] for leaf in leaves]
        files.write(tile_path("entries", index, len(entries)), bundle_of(entries))
        for tile in rows.extend(hashes):
            files.write(tile.path, tile.content)
        if progress is not None:
            progress(rows.size, checkpoint.size)
    if rows.head() != checkpoint.root:
        return False
    for tile in rows.partial():
        files.write(tile.path, tile.content)
    return True


def _blocks(log: Log, start: int, end: int) -> Iterator[list[bytes]]:
    """The bytes that leaves are hashes of, a tile's at a time."""
    leaves = (
        leaf
        for batch in log.scan(start, end, Record.__struct_fields__)
        for leaf in leaf_bytes(log.store_id, records_of(batch))
    )
    while block := list(islice(leaves, TILE_WIDTH)):
        yield block


class _Files:
    """The files of a publication, each written whole, and only where it is not there yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written = 0
        self._folders: dict[Path, None] = {}

    def write(self, name: str, content: bytes) -> None:
        path = self.folder / name
        for parent in path.parents:
            self._folders[parent] = None
            if parent == self.folder:
                break
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size == len(content) and read_regular(path) == content:
                return
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as file:
            file.write(content)
        self.written += 1

    def sync(self) -> None:
        """Make the names of all files durable that are written or were there, and tidy up."""
        for folder in self._folders:
            if folder == self.folder:
                # Other files of the user's may lie beside it.
                for left in folder.glob(f"{CHECKPOINT_NAME}.*{TEMPORARY_SUFFIX}"):
                    left.unlink(missing_ok=True)
            else:
                remove_abandoned(folder)
            sync_directory(folder)
        self._folders.clear()
