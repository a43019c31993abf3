"""The lock that orders the writers of all threads and processes."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class WritersLock:
    """A lock on the active segment itself.

    Whatever else were locked could be removed while a writer holds it, and made anew and locked by
    another; with the segment go its commits, which everybody notices.
    """

    def __init__(self) -> None:
        self._threads = threading.RLock()
        self._depth = 0
        self._path: Path | None = None
        self.descriptor = -1
        """An open file of its own: one that readers close would take the lock along."""

    def acquire(self, path: Path, *, wait: bool = True) -> bool:
        """Lock the segment at `path`; whether it was opened for this. One thread may do so again.

        Raises OSError when it cannot be opened or locked, unless it shall `wait` BlockingIOError
        when it is locked by another.
        """
        if not self._threads.acquire(blocking=wait):
            raise BlockingIOError
        try:
            # Mostly the same object, which is told sooner than that two paths are equal.
            is_opened = path is not self._path and path != self._path
            if is_opened:
                self._take(path, os.open(path, os.O_RDWR))
            if is_opened or not self._depth:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            self._depth += 1
        except BaseException:
            self._threads.release()
            raise
        return is_opened

    def release(self) -> None:
        """Unlock the segment that is locked, which may be the successor of the one acquired."""
        try:
            self._depth -= 1
            if self.descriptor >= 0 and not self._depth:
                fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    @contextmanager
    def moving_to(self, path: Path) -> Iterator[None]:
        """Lock another segment, too, and at the end of the block that one alone.

        Only while the lock is held. Raises OSError when that cannot be opened or locked.
        """
        descriptor = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        except BaseException:
            os.close(descriptor)
            raise
        self._take(path, descriptor)

    def close(self) -> None:
        """Give the file back; with it goes the lock."""
        # First out of sight: the number may be another file's once it is closed.
        descriptor, self.descriptor, self._path = self.descriptor, -1, None
        if descriptor >= 0:
            os.close(descriptor)

    def after_fork_in_child(self) -> None:
        """Let go of the lock, which is the parent's as long as the child does not unlock it."""
        self._threads = threading.RLock()
        self._depth = 0
        self.close()

    def _take(self, path: Path, descriptor: int) -> None:
        self.close()
        self._path, self.descriptor = path, descriptor
