"""The keys of encrypted backups: two for each record, in one file, each of which can be destroyed.

The file is a header of 64 bytes (`ESKEYS`, two zeros, the store's id, zeros) and 64 bytes for each
position: the key of the record's content, and that of who put it. A key of ones (`FF`) is
destroyed. All backups of a store share the keys, so that a key is destroyed once for all of them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import UUID

from eventstore import errors
from eventstore.log.erased import Erased, Spans
from eventstore.log.file_lock import exclusive
from eventstore.log.os_errors import taking
from eventstore.log.regular_file import read_between

KEY_BYTES: Final = 32

_MAGIC: Final = b"ESKEYS\0\0"
_HEADER_BYTES: Final = 64
_ENTRY_BYTES: Final = 2 * KEY_BYTES
_DESTROYED: Final = b"\xff" * KEY_BYTES
_POSITIONS_AT_ONCE: Final = 65_536


class Keyring:
    """An open file of keys, locked."""

    def __init__(self, path: Path, file: io.FileIO) -> None:
        self._path = path
        self._descriptor = file.fileno()

    @property
    def positions(self) -> int:
        """Up to which position there are keys."""
        return (os.fstat(self._descriptor).st_size - _HEADER_BYTES) // _ENTRY_BYTES

    def keys(self, first: int, last: int) -> Iterator[tuple[bytes | None, bytes | None]]:
        """The keys of content and of who, of the records from `first` to `last`; None if destroyed.

        Raises NotFoundError for positions that there are no keys for.
        """
        if last > self.positions:
            raise errors.NotFoundError(
                f"{self._path} has keys up to position {self.positions}, not up to {last}: it is "
                "older than the backup; take the file of keys that the backup was made with"
            )
        start, end = _offset(first), _offset(last + 1)
        entries = read_between(self._descriptor, start, end)
        for at in range(0, end - start, _ENTRY_BYTES):
            content = entries[at : at + KEY_BYTES]
            who = entries[at + KEY_BYTES : at + _ENTRY_BYTES]
            yield _if_there(content), _if_there(who)

    def destroyed(self, position: int) -> Erased:
        """What has lost its key, of the records up to a position. Raises what `keys` does."""
        parts: tuple[list[tuple[int, int]], ...] = ([], [])
        for start in range(1, position + 1, _POSITIONS_AT_ONCE):
            some = self.keys(start, min(start + _POSITIONS_AT_ONCE - 1, position))
            for at, keys in enumerate(some, start):
                for found, key in zip(parts, keys, strict=True):
                    if key is None:
                        found.append((at, at))
        return Erased(*map(Spans.of, parts))

    def make_up_to(self, position: int) -> None:
        """Make the keys that lack for records up to a position, durably."""
        known = self.positions
        while known < position:
            count = min(position - known, _POSITIONS_AT_ONCE)
            _write(self._descriptor, os.urandom(count * _ENTRY_BYTES), _offset(known + 1))
            known += count
        os.fsync(self._descriptor)

    def destroy(self, erased: Erased) -> int:
        """Overwrite the keys of what is erased, durably; how many were there yet."""
        destroyed = 0
        for spans, start in ((erased.content, 0), (erased.who, KEY_BYTES)):
            for position in spans.within(1, self.positions).positions():
                at = _offset(position) + start
                if read_between(self._descriptor, at, at + KEY_BYTES) != _DESTROYED:
                    _write(self._descriptor, _DESTROYED, at)
                    destroyed += 1
        os.fsync(self._descriptor)
        return destroyed


@contextmanager
def opened_keyring(path: Path, store_id: UUID, *, makes: bool = False) -> Iterator[Keyring]:
    """The keys of a store's backups, for one process at a time; with `makes` a new file if need be.

    Raises NotFoundError when there is no file, FailedPreconditionError when it is of another store,
    DataLossError when it is none of keys, InvalidArgumentError for a pipe, socket or device.
    """
    header = (_MAGIC + store_id.bytes).ljust(_HEADER_BYTES, b"\0")
    with taking("opening", path, "the file of keys that the backup was made with"):
        if makes and not os.path.lexists(path):
            _make(path, header)
        if not path.exists():
            raise errors.NotFoundError(
                f"there is no file of keys at {path}: name the one that the backup was made with"
            )
        with exclusive(path) as file:
            found = read_between(file.fileno(), 0, _HEADER_BYTES)
            if found != header:
                if found[: len(_MAGIC)] == _MAGIC and len(found) == _HEADER_BYTES:
                    other = UUID(bytes=found[len(_MAGIC) : len(_MAGIC) + 16])
                    raise errors.FailedPreconditionError(
                        f"{path} has the keys of another store, {other}: this is {store_id}"
                    )
                raise errors.DataLossError(f"{path} is damaged, or no file of keys")
            yield Keyring(path, file)


def _make(path: Path, header: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        _write(descriptor, header, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, content: bytes, at: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, at)
        content, at = content[written:], at + written


def _offset(position: int) -> int:
    return _HEADER_BYTES + (position - 1) * _ENTRY_BYTES


def _if_there(key: bytes) -> bytes | None:
    return None if key == _DESTROYED else key
