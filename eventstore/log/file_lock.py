"""An exclusive lock between processes on an open file. The operating system frees it on exit."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager


def try_exclusive(descriptor: int) -> bool:
    """Take the lock if nobody has it; whether it was free. It is kept until the file is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def exclusive(descriptor: int) -> Iterator[None]:
    """Hold the lock, waiting for it."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
