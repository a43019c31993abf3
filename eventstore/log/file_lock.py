"""Locks between processes on files. The operating system frees them when a process ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventstore import errors

_OPENINGS_MAX = 100


_held: set[int] = set()
"""The descriptors of the files that are locked."""


@contextmanager
def exclusive(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a file, which is made if need be.

    A file that was removed while this waited locks nobody out: then the new one is locked. Raises
    OSError, and unless it shall `wait` BlockingIOError when the file is locked.
    """
    for _ in range(_OPENINGS_MAX):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        _held.add(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if is_at(path, descriptor):
                yield
                return
        finally:
            _held.discard(descriptor)
            # Said, for a child forked meanwhile may have the file open, too.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)
    raise errors.UnavailableError(
        f"{path} was removed {_OPENINGS_MAX} times while it was to be locked: find out what removes"
        " it, and retry"
    )


def try_exclusive(descriptor: int) -> bool:
    """Take the lock if nobody has it; whether it was free. It is kept until the file is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_at(path: Path, *descriptors: int) -> bool:
    """Whether all of these are open files of what is at `path` now."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return all(os.path.samestat(status, os.fstat(descriptor)) for descriptor in descriptors)


def _release_in_child() -> None:
    """Keep a forked child from holding locks that only threads of its parent release."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)
