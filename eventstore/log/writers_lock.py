"""The lock that orders the writers of all threads and processes."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eventstore.log.forking import no_fork


class WritersLock:
    """A lock on the active segment itself.

    Any other file could be removed while a writer holds it, then made and locked by another. With
    the segment its commits would go, which everybody notices.
    """

    def __init__(self) -> None:
        self._threads = threading.RLock()
        self._depth = 0
        self._path: Path | None = None
        self.descriptor = -1
        """An open file of its own: one that readers close would take the lock along."""
        self._next = -1
        """The file that takes its place once it is locked."""

    def acquire(self, path: Path, *, wait: bool = True) -> bool:
        """Lock the segment at `path`; whether it was opened for this. One thread may do so again.

        Raises OSError when it cannot be opened or locked, without `wait` BlockingIOError when it is
        locked by another.
        """
        if not self._threads.acquire(blocking=wait):
            raise BlockingIOError
        try:
            # Mostly the same object, which is faster to tell than whether two paths are equal.
            is_opened = path is not self._path and path != self._path
            operation = fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)
            if is_opened:
                with self._locking(path, operation):
                    pass
            elif not self._depth:
                fcntl.flock(self.descriptor, operation)
            self._depth += 1
        except BaseException:
            try:
                # An interrupt can come just after it was locked.
                if self.descriptor >= 0 and not self._depth:
                    with suppress(OSError):
                        fcntl.flock(self.descriptor, fcntl.LOCK_UN)
            finally:
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
    def held(self, path: Path) -> Iterator[None]:
        """Hold the lock of the segment at `path`. Raises what `acquire` does."""
        self.acquire(path)
        try:
            yield
        finally:
            self.release()

    @contextmanager
    def moving_to(self, path: Path) -> Iterator[None]:
        """Lock another segment, too, and at the end of the block that one alone.

        Only while the lock is held. Raises OSError when that cannot be opened or locked.
        """
        with self._locking(path, fcntl.LOCK_EX):
            yield

    def close(self) -> None:
        """Give the file back; with it goes the lock."""
        # First out of sight: the number may be another file's once it is closed.
        descriptor, self.descriptor, self._path = self.descriptor, -1, None
        if descriptor >= 0:
            os.close(descriptor)

    @contextmanager
    def _locking(self, path: Path, operation: int) -> Iterator[None]:
        """Lock another file, too, and hold that one alone from the end of the block on."""
        before = -1
        try:
            with no_fork():
                self._next = os.open(path, os.O_RDWR)
            fcntl.flock(self._next, operation)
            yield
            with no_fork():
                # At once, for an interrupt can come between any two steps.
                (before, self.descriptor, self._path, self._next) = (
                    self.descriptor,
                    self._next,
                    path,
                    -1,
                )
        finally:
            if before >= 0:
                os.close(before)
            else:
                self._close_next()

    def _close_next(self) -> None:
        descriptor, self._next = self._next, -1
        if descriptor >= 0:
            os.close(descriptor)

    def after_fork_in_child(self) -> None:
        """Let go of the lock, which is the parent's as long as the child does not unlock it."""
        self._threads = threading.RLock()
        self._depth = 0
        self._close_next()
        self.close()
