"""Open files of a store at once, and nothing else in their places.

A pipe that nobody writes to would keep whoever opens or reads it waiting for ever.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import Final

IRREGULAR: Final = "a pipe, socket or device"


class NotRegularFileError(OSError):
    """A pipe, socket or device is where a file should be."""


def open_regular(path: str | os.PathLike[str], flags: int, mode: int = 0o666) -> int:
    """A descriptor of a file. Raises OSError, NotRegularFileError where it is no file."""
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK, mode)
    except OSError as error:
        # So it is for sockets, and for a pipe that nobody reads.
        if error.errno == errno.ENXIO:
            raise _not_regular(path) from None
        raise
    try:
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(kind):
            raise _not_regular(path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def opened_to_read(path: Path) -> io.FileIO:
    """A file to read. Raises what `open_regular` does."""
    return io.FileIO(path, "rb", opener=open_regular)


def read_regular(path: Path) -> bytes:
    """What is in a file. Raises what `open_regular` does."""
    with opened_to_read(path) as file:
        return file.readall()


def read_between(descriptor: int, start: int, end: int) -> bytes:
    """The bytes [start, end) of an open file, as far as it has them."""
    parts = []
    while start < end:
        part = os.pread(descriptor, end - start, start)
        if not part:
            break
        parts.append(part)
        start += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def is_irregular(path: Path) -> bool:
    """Whether there is something at a path that is neither a file nor a folder."""
    try:
        kind = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))


def _not_regular(path: str | os.PathLike[str]) -> NotRegularFileError:
    return NotRegularFileError(errno.ENXIO, f"it is {IRREGULAR}, not a file", os.fspath(path))
