"""Locks between processes on files. The operating system frees them when a process ends."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from eventstore import errors
from eventstore.log.forking import no_fork
from eventstore.log.os_errors import translating
from eventstore.log.regular_file import open_regular

_OPENINGS_MAX = 100
_TRIED_EVERY_SECONDS: Final = 0.01
_LOCKS: Final = Path("/proc/locks")

_held: set[int] = set()
"""The descriptors of the files that are locked, or about to be."""

_locked: weakref.WeakSet[io.FileIO] = weakref.WeakSet()
"""The same of `exclusive`."""


def exclusive(path: Path, *, wait: bool = True) -> io.FileIO:
    """A file, made if need be, that is locked until it is closed, as at the end of its `with`.

    Python closes it without a step at which an interrupt could come. A file that was removed while
    this waited locks nobody out: then the new one is locked. Raises OSError, and without `wait`
    BlockingIOError when the file is locked.
    """
    return _locked_file(path, "r+", fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def exclusive_in_time(
    path: Path, doing: str, seconds: float, progress: Callable[[], object] = lambda: None
) -> io.FileIO:
    """The same, but for a holder that does not go on, such as a stopped process.

    It goes on as long as what `progress` gives changes. Raises UnavailableError, which says who has
    been `doing` so for some seconds without that.
    """
    seen, since = progress(), time.monotonic()
    while True:
        try:
            return exclusive(path, wait=False)
        except BlockingIOError:
            if (now := progress()) != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > seconds:
                numbers = ", ".join(map(str, _processes_with(path)))
                raise errors.UnavailableError(
                    f"{f'process {numbers}' if numbers else 'another process'} has been {doing} "
                    f"for {seconds:.0f} s: see whether it was stopped or hangs"
                ) from None
            time.sleep(_TRIED_EVERY_SECONDS)


def _processes_with(path: Path) -> list[int]:
    """Who has a file locked, as far as the operating system tells."""
    found = set()
    with contextlib.suppress(OSError, ValueError):
        status = os.stat(path)
        device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        for line in _LOCKS.read_text().splitlines():
            words = line.split()
            # One that waits has an arrow first.
            if device in words and words[1] == "FLOCK":
                found.add(int(words[4]))
    return sorted(found)


def shared(path: Path) -> io.FileIO:
    """The same for many at once, while nobody has it `exclusive`: a user may only read the file."""
    return _locked_file(path, "r", fcntl.LOCK_SH)


def _locked_file(path: Path, mode: str, operation: int) -> io.FileIO:
    for _ in range(_OPENINGS_MAX):
        with no_fork():
            file = io.FileIO(path, mode, opener=_made)
            _locked.add(file)
        try:
            fcntl.flock(file, operation)
            if is_at(path, file.fileno()):
                return file
        except BaseException:
            file.close()
            raise
        file.close()
    raise errors.UnavailableError(
        f"{path} was removed {_OPENINGS_MAX} times while it was to be locked: find out what removes"
        " it, and retry"
    )


def _made(path: str, flags: int) -> int:
    return open_regular(path, flags | os.O_CREAT)


def open_to_lock(path: Path, flags: int) -> int:
    """Open a file or folder to lock it, to be closed by `close_locked`.

    A child that is forked meanwhile closes it at once, and holds no lock of its parent.
    """
    with no_fork():
        # At once, even if it is a pipe.
        descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
        _held.add(descriptor)
    return descriptor


def close_locked(descriptor: int) -> None:
    """Close what `open_to_lock` has opened; with it goes its lock."""
    with no_fork():
        _held.discard(descriptor)
        os.close(descriptor)


def lock(descriptor: int) -> None:
    """Wait for the lock, and keep it until the file is closed."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def try_exclusive(descriptor: int) -> bool:
    """Take the lock if nobody has it; whether it was free. It is kept until the file is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def try_shared(descriptor: int) -> bool:
    """Share the lock with others, unless somebody has it alone; whether it was taken."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def alone_in(folder: Path, doing: str) -> Iterator[None]:
    """Let no other process do the same in a folder meanwhile.

    Raises UnavailableError when one does.
    """
    with translating("opening", folder):
        descriptor = open_to_lock(folder, os.O_RDONLY)
    try:
        if not try_exclusive(descriptor):
            raise errors.UnavailableError(f"another process is {doing} {folder}: retry")
        yield
    finally:
        close_locked(descriptor)


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
    for file in list(_locked):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)
