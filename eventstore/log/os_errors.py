"""Turn the operating system's errors into the API's, naming the path and what to do."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from eventstore import errors
from eventstore.log.regular_file import NotRegularFileError, read_regular

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
_FORBIDDEN = frozenset((errno.EACCES, errno.EPERM, errno.EROFS))
_LOST = frozenset(
    getattr(errno, name)
    for name in ("ENOENT", "ENOTDIR", "EISDIR", "ELOOP", "ENXIO", "EIO", "EBADMSG", "EUCLEAN")
    if hasattr(errno, name)
)
_IN_THE_PLACE = frozenset((errno.EISDIR, errno.ELOOP, errno.EEXIST, errno.ENOTEMPTY))
_NO_THREAD = "Failed to launch worker thread"


@contextlib.contextmanager
def translating(doing: str, path: Path) -> Iterator[None]:
    """Raise what is met inside as `translated` does."""
    try:
        yield
    except OSError as error:
        raise translated(error, doing, path) from None


@contextlib.contextmanager
def taking(doing: str, path: Path, expected: str) -> Iterator[None]:
    """As `translating`, around the use of a file that somebody has named and that is no store's.

    Raises InvalidArgumentError for a pipe, socket or device; it says what is `expected`.
    """
    with translating(doing, path):
        try:
            yield
        except NotRegularFileError as error:
            if error.filename != str(path):
                raise
            raise errors.InvalidArgumentError(
                f"{path} is no ordinary file: name {expected}"
            ) from None


@contextlib.contextmanager
def starting_thread() -> Iterator[None]:
    """Raise ResourceExhaustedError where the system lets no thread begin; Python's is bare."""
    try:
        yield
    except RuntimeError as error:
        raise _short_of_threads(error) from None


def refuse_lack_of_threads(error: BaseException) -> None:
    """Raise ResourceExhaustedError where Arrow could start no thread: nothing is damaged then.

    Arrow tells it by its words alone.
    """
    if _NO_THREAD in str(error):
        raise _short_of_threads(error) from None


def _short_of_threads(error: BaseException) -> errors.ResourceExhaustedError:
    return errors.ResourceExhaustedError(
        f"{error}: this process or its user has as many as the system allows; retry when some "
        "have ended"
    )


def check_can_open(doing: str, path: Path | str) -> None:
    """Raise UnavailableError where no more files can be opened: DuckDB ends a process then."""
    with translating(doing, Path(path)):
        os.close(os.open(os.devnull, os.O_RDONLY))


def refuse_no_path(path: Path) -> None:
    """Raise InvalidArgumentError for a text that cannot name a store's file, whatever there is."""
    text = str(path)
    if "\0" in text:
        raise errors.InvalidArgumentError(f"{text!r} is no path: it holds a NUL")
    try:
        os.path.abspath(text).encode()
    except UnicodeEncodeError:
        raise errors.InvalidArgumentError(
            f"{text!r} is no path in UTF-8, and Arrow and DuckDB open no other: choose another; if "
            "it is one elsewhere, set PYTHONUTF8=1"
        ) from None


def resolved(path: Path) -> Path:
    """The path without links. One of links that lead to each other stays: using it fails.

    Python before 3.13 raises a RuntimeError for such a one in Path.resolve.
    """
    return Path(os.path.realpath(path))


def tells_of_damage(error: OSError) -> bool:
    """Whether what was to be read is missing, something else, or no longer given by the disk.

    Otherwise nothing can be said about it: this process may not read it, or can open no more files.
    """
    return isinstance(error, NotRegularFileError) or error.errno in _LOST


def translated(error: OSError, doing: str, path: Path) -> errors.StatusError:
    """The error to raise for `error`, met while `doing` something (a verb in -ing) to `path`."""
    what = "" if error.filename in (None, str(path)) else f"{error.filename}: "
    if isinstance(error, NotRegularFileError):
        return errors.DataLossError(
            f"{doing} {path} failed: {what}{error.strerror}; move it away, and restore what was "
            "there from a backup"
        )
    reason = os.strerror(error.errno) if error.errno else str(error)
    text = f"{doing} {path} failed: {reason}"
    if error.errno in _FULL:
        return errors.ResourceExhaustedError(f"{text}; free some space and retry, nothing was lost")
    if error.errno == errno.EFBIG:
        return errors.ResourceExhaustedError(
            f"{text}; allow larger files (`ulimit -f`, or another file system) and retry, nothing "
            "was lost"
        )
    if error.errno in _FORBIDDEN:
        return errors.PermissionDeniedError(f"{text}; check the owner and mode of the path")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return errors.NotFoundError(f"{text}; check the path")
    if error.errno in _IN_THE_PLACE:
        return errors.UnavailableError(
            f"{doing} {path} failed: {what}{reason}; move it away, and restore from a backup what "
            "the store then lacks"
        )
    return errors.UnavailableError(text)


def read_to_check(path: Path) -> bytes:
    """The content of a file. Raises OSError where that is damage, else a class of the API's."""
    try:
        return read_regular(path)
    except OSError as error:
        if tells_of_damage(error):
            raise
        raise translated(error, "reading", path) from None
