"""Folders in the system's temporary directory, which do not outlive the processes that use them.

Each holds a file that its owner has locked. Whoever makes one removes those of this user that
nobody has locked: their owners were killed. Numbers of processes would not tell, for containers
that share a directory have equal ones.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from types import TracebackType
from typing import Final

from eventstore import errors
from eventstore.log.file_lock import close_locked, is_at, open_to_lock, try_exclusive
from eventstore.log.os_errors import translated

_PREFIX: Final = "eventstore-"
_LOCK_NAME: Final = "in-use"
_TRIES_MAX: Final = 10


class TemporaryFolder:
    """A new folder, removed when it is closed, collected, or the process ends.

    Raises `eventstore.errors` classes when there can be none.
    """

    def __init__(self) -> None:
        remove_abandoned_folders()
        try:
            self.path, descriptor = _made()
        except OSError as error:
            raise _unusable(error) from None
        self._removal = weakref.finalize(self, _remove, self.path, descriptor, os.getpid())

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder with all that is in it."""
        self._removal()

    def leave_to_the_parent(self) -> None:
        """Keep a forked child from removing what is its parent's."""
        self._removal.detach()


def temporary_directory() -> Path:
    """Where temporary folders are made, for an error to name; it may be of no use."""
    try:
        return Path(tempfile.gettempdir())
    except OSError:
        return Path(os.environ.get("TMPDIR", os.curdir))


def _made() -> tuple[Path, int]:
    """A new folder, and a descriptor that has it locked."""
    for _ in range(_TRIES_MAX):
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = path / _LOCK_NAME
        try:
            descriptor = open_to_lock(lock, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:
            continue
        # Where files cannot be locked, nobody removes them either.
        with contextlib.suppress(OSError):
            if not try_exclusive(descriptor) or not is_at(lock, descriptor):
                # Another process has found it just before it was locked, and removes it.
                close_locked(descriptor)
                continue
        return path, descriptor
    raise errors.UnavailableError(
        f"folders made in {temporary_directory()} vanish at once: find out what removes them"
    )


def _remove(path: Path, descriptor: int, owner: int) -> None:
    # A forked child has no part in it, and the number may be that of another file there.
    if os.getpid() != owner:
        return
    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        close_locked(descriptor)


def remove_abandoned_folders() -> None:
    """Remove the folders of this user's processes that were killed."""
    with contextlib.suppress(OSError):
        for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):
                if folder.lstat().st_uid == os.geteuid() and not folder.is_symlink():
                    _remove_if_abandoned(folder)


def _remove_if_abandoned(folder: Path) -> None:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = open_to_lock(folder / _LOCK_NAME, flags)
    try:
        if try_exclusive(descriptor) and is_at(folder / _LOCK_NAME, descriptor):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        close_locked(descriptor)


def _unusable(error: OSError) -> errors.StatusError:
    failure = translated(error, "making a temporary folder in", temporary_directory())
    return errors.make_exception(
        f"{failure.message}; or let TMPDIR name a folder that can be written", failure.error_code
    )
