"""Write files of the caches: in a store that is there, each of them whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

from eventstore.log.file_lock import is_at, lock, try_exclusive
from eventstore.log.log import Log
from eventstore.log.regular_file import is_irregular, opened_to_read

TEMPORARY_SUFFIX: Final = ".tmp"
"""How the name of a file ends while it is written."""


class UnwantedFileError(OSError):
    """A file is not to take its place: it holds what was erased since, or somebody removed it."""


def make_cache_folder(folder: Path, log: Log) -> None:
    """Make a folder for caches of a log, if it is not there.

    Raises FileNotFoundError where the store was moved or removed while it was open: a new one
    could not be made in its place if there were caches.
    """
    if folder.is_dir():
        return
    kept = log.cache_folder()
    if kept is not None and (kept == folder or kept in folder.parents):
        log.cache_folder(make=True)
    folder.mkdir(exist_ok=True)


@contextlib.contextmanager
def temporary_beside(
    path: Path,
    named: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
) -> Iterator[IO[bytes]]:
    """A new file, made in a `named` context, which is to be moved to a path, or else is removed.

    It is locked meanwhile: one that is not locked was left by a process that died.
    """
    # Not named by process or thread: containers that share a folder have equal numbers.
    temporary = path.with_name(f"{path.name}.{os.urandom(8).hex()}{TEMPORARY_SUFFIX}")
    try:
        with named():
            file = _made_and_locked(temporary)
        with file:
            yield file
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _made_and_locked(path: Path) -> IO[bytes]:
    while True:
        file = path.open("xb")
        # Where files cannot be locked, nobody removes them either.
        with contextlib.suppress(OSError):
            lock(file.fileno())
        # Before it was locked it may have been taken for one that was left.
        if is_at(path, file.fileno()):
            return file
        file.close()


@contextlib.contextmanager
def written_whole(
    path: Path,
    named: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
) -> Iterator[IO[bytes]]:
    """A file to write, which takes its place once it is complete and on the disk.

    It is made, and takes its place, in a `named` context. Raises UnwantedFileError when somebody
    has removed it.
    """
    with temporary_beside(path, named) as file:
        yield file
        file.flush()
        # A file that was renamed but not written would be noticed only at a look-up.
        os.fsync(file.fileno())
        with named():
            _take_place(Path(file.name), path)


def _take_place(temporary: Path, path: Path) -> None:
    try:
        os.replace(temporary, path)
    except FileNotFoundError as error:
        if not path.parent.is_dir():
            raise
        raise UnwantedFileError(error.errno, error.strerror, os.fspath(temporary)) from None


def remove_abandoned(folder: Path) -> None:
    """Remove what processes that died were writing in a folder."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if name.endswith(TEMPORARY_SUFFIX):
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(folder / name)


def _remove_if_abandoned(path: Path) -> None:
    if is_irregular(path):
        path.unlink()
        return
    with opened_to_read(path) as file:
        if try_exclusive(file.fileno()):
            path.unlink()
