"""The lock that orders the writers of all threads and processes."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from eventstore.log.forking import no_fork
from eventstore.log.regular_file import open_regular

_Answer = TypeVar("_Answer")


class NotLockedError(Exception):
    """The segment cannot be opened or locked, or is locked by another: `reason` says which."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(reason)
        self.reason = reason


class WritersLock:
    """A lock on the active segment itself.

    Any other file could be removed while a writer holds it, then made and locked by another. With
    the segment its commits would go, which everybody notices.

    What is to be done under it is called, and not a block of `with`: an interrupt that comes
    between a context manager written in Python and its block would leave it locked.
    """

    def __init__(self) -> None:
        self._threads = threading.RLock()
        self._thread: int | None = None
        """The thread that holds the lock or waits for other processes."""
        self._depth = 0
        self._path: Path | None = None
        self.descriptor = -1
        """An open file of its own: one that readers close would take the lock along."""
        self._other = -1
        """The file that takes its place once it is locked, and then the one before."""

    def hold(self, path: Path, act: Callable[[bool], _Answer], *, wait: bool = True) -> _Answer:
        """The answer of `act`, called while the segment at `path` is locked.

        It is told whether the segment was opened for this, and may hold the lock again. Raises
        NotLockedError, without `wait` also because another has the lock.
        """
        # Only looked at, since an interrupt can come just after it was taken in other ways. Whoever
        # takes it in between mostly has it for a moment.
        if not wait and self._thread not in (None, threading.get_ident()):
            raise NotLockedError(BlockingIOError())
        with self._threads:
            return self._hold_file(path, act, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))

    def move_to(self, path: Path, act: Callable[[], None]) -> None:
        """Lock another segment, too, while `act` is called, and from then on that one alone.

        Only while the lock is held. Raises NotLockedError.
        """
        self._lock_other(path, fcntl.LOCK_EX)
        act()
        self._take_other(path)

    def close(self) -> None:
        """Give the file back; with it goes the lock."""
        # First out of sight: the number may be another file's once it is closed.
        descriptor, self.descriptor, self._path = self.descriptor, -1, None
        if descriptor >= 0:
            os.close(descriptor)

    def _hold_file(self, path: Path, act: Callable[[bool], _Answer], operation: int) -> _Answer:
        depth = self._depth
        try:
            try:
                self._thread = threading.get_ident()
                is_opened = self._lock_file(path, operation)
                self._depth = depth + 1
                return act(is_opened)
            finally:
                self._unlock(depth)
        finally:
            # Once more, since an interrupt can come as that is called.
            self._unlock(depth)

    def _lock_file(self, path: Path, operation: int) -> bool:
        """Lock the segment at `path`; whether it was opened for this."""
        # Mostly the same object, which is faster to tell than whether two paths are equal.
        if path is self._path or path == self._path:
            if not self._depth:
                try:
                    fcntl.flock(self.descriptor, operation)
                except OSError as error:
                    raise NotLockedError(error) from None
            return False
        self._lock_other(path, operation)
        self._take_other(path)
        return True

    def _lock_other(self, path: Path, operation: int) -> None:
        try:
            with no_fork():
                self._other = open_regular(path, os.O_RDWR)
            fcntl.flock(self._other, operation)
        except OSError as error:
            self._close_other()
            raise NotLockedError(error) from None

    def _take_other(self, path: Path) -> None:
        with no_fork():
            # At once, for an interrupt can come between any two steps.
            self.descriptor, self._path, self._other = self._other, path, self.descriptor
        self._close_other()

    def _unlock(self, depth: int) -> None:
        """Go back to how often it was held before. To be repeated when it was interrupted."""
        self._depth = depth
        self._close_other()
        if depth:
            return
        self._thread = None
        if self.descriptor < 0:
            return
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        except OSError:
            # What was done under it is done, and is not to fail now.
            with suppress(OSError):
                self.close()

    def _close_other(self) -> None:
        if self._other >= 0:
            # First, since an interrupt in between would leave it open.
            with suppress(OSError):
                fcntl.flock(self._other, fcntl.LOCK_UN)
            descriptor, self._other = self._other, -1
            os.close(descriptor)

    def after_fork_in_child(self) -> None:
        """Let go of the lock, which is the parent's as long as the child does not unlock it."""
        self._threads = threading.RLock()
        self._thread = None
        self._depth = 0
        descriptor, self._other = self._other, -1
        if descriptor >= 0:
            os.close(descriptor)
        self.close()
