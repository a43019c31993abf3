"""Put a store in the place of another form of it, so that a crash at any moment can be settled.

What is to be at a path is made beside it, as `.NAME.new`, locked by the process that makes it. What
was at the path is moved to `.NAME.old` and removed at the end. Whoever comes upon one of them
without a living maker takes the replacement back, or finishes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from eventstore import errors
from eventstore.late_logger import late_logger
from eventstore.log.file_lock import close_locked, is_at, open_to_lock, try_exclusive
from eventstore.log.folder_tree import remove_tree
from eventstore.log.manifest import MANIFEST_NAME
from eventstore.log.regular_file import is_irregular, read_regular
from eventstore.log.syncing import sync_directory

_LOGGER = late_logger("eventstore.log")


@contextlib.contextmanager
def made_beside(path: Path, *, is_directory: bool) -> Iterator[Path]:
    """An empty file or directory beside a path, to be filled by this process alone.

    What is still there at the end is removed. Raises UnavailableError when another process is at
    work beside the path, OSError when the disk does not allow it.
    """
    settle(path)
    new = _new(path)
    # Before anybody finds it and takes it for a dead process's leftover.
    with _one_at_a_time(path.parent):
        descriptor = _locked(new, path, is_directory=is_directory)
    try:
        yield new
    finally:
        # What was made is at the path by now, unless the work has failed.
        with contextlib.suppress(OSError):
            if is_at(new, descriptor):
                _remove(new)
        close_locked(descriptor)


def replace(path: Path, new: Path) -> None:
    """Put what was made beside a path, and synced, in the place of what is there."""
    old = _old(path)
    with _one_at_a_time(path.parent):
        sync_directory(path.parent)
        os.rename(path, old)
        try:
            os.rename(new, path)
        except BaseException:
            os.rename(old, path)
            raise
        sync_directory(path.parent)
        _remove_old(old)


def settle(path: Path) -> None:
    """Take back, or finish, a replacement whose process died.

    Raises UnavailableError when that process lives and nothing is at the path for now.
    """
    if not path.name:
        # Nothing lies beside the root.
        return
    new, old = _new(path), _old(path)
    if not (os.path.lexists(new) or os.path.lexists(old)):
        return
    with _one_at_a_time(path.parent), _abandoned(path) as is_abandoned:
        if not is_abandoned:
            if os.path.lexists(path):
                return
            raise _in_use(path)
        if not os.path.lexists(old):
            pass
        elif not os.path.lexists(path):
            _LOGGER.warning("%s: taking back a change of its form that was interrupted", path)
            os.rename(old, path)
            sync_directory(path.parent)
        elif _store_id(old) in (None, _store_id(path)):
            sync_directory(path.parent)
            _remove_old(old)
        else:
            _LOGGER.warning("%s is another store than the one at %s: it is left alone", old, path)
        _remove(new)


def refuse_unsettled(path: Path) -> None:
    """Raise FailedPreconditionError when only `settle` brings back what was at a path."""
    if path.name and os.path.lexists(_old(path)) and not os.path.lexists(path):
        raise errors.FailedPreconditionError(
            f"{path}: packing or unpacking it was interrupted; open it for writing once, which "
            "takes that back"
        )


@contextlib.contextmanager
def _one_at_a_time(directory: Path) -> Iterator[None]:
    """Held while names in a directory change, so that two that settle do not do it twice."""
    descriptor = open_to_lock(directory, os.O_RDONLY)
    try:
        # Where directories cannot be locked, as over NFS, only the maker's own lock is there.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        close_locked(descriptor)


@contextlib.contextmanager
def _abandoned(path: Path) -> Iterator[bool]:
    """Whether no process is at work beside a path."""
    try:
        descriptor = open_to_lock(_new(path), os.O_RDONLY)
    except FileNotFoundError:
        yield True
        return
    try:
        yield try_exclusive(descriptor)
    finally:
        close_locked(descriptor)


def _locked(new: Path, path: Path, *, is_directory: bool) -> int:
    """Make an empty file or directory; a descriptor of it that holds its lock."""
    try:
        if is_directory:
            new.mkdir()
        else:
            new.touch(exist_ok=False)
    except FileExistsError:
        raise _in_use(path) from None
    descriptor = open_to_lock(new, os.O_RDONLY)
    try:
        if not try_exclusive(descriptor):
            raise _in_use(path)
    except BaseException:
        close_locked(descriptor)
        raise
    return descriptor


def _new(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _in_use(path: Path) -> errors.UnavailableError:
    return errors.UnavailableError(
        f"another process is packing, unpacking, importing or copying to {path}: wait for it"
    )


def _store_id(path: Path) -> str | None:
    """The id of the store in a directory or a packed file; None when it has no manifest."""
    import json
    import zipfile

    try:
        if path.is_dir():
            text = read_regular(path / MANIFEST_NAME)
        elif is_irregular(path):
            return f"unreadable: {path}"
        else:
            with zipfile.ZipFile(path) as archive:
                text = archive.read(MANIFEST_NAME)
        return str(json.loads(text)["manifest"]["store_id"])
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile):
        return f"unreadable: {path}"


def _remove_old(old: Path) -> None:
    try:
        if old.is_dir():
            # First, so that what is left of it when this process dies is no store.
            (old / MANIFEST_NAME).unlink(missing_ok=True)
        _remove(old)
    except OSError as error:
        _LOGGER.warning("removing %s failed (%s): the next opening does it", old, error)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)
