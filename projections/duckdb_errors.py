"""What errors of DuckDB mean: damage, a full disk, a file in use, a lack of memory."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

import duckdb

from eventstore import errors
from eventstore.log.os_errors import translated
from eventstore.log.temporary_folder import temporary_directory

_WRITE_ERRORS: Final = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
)
_DAMAGE: Final = (
    duckdb.IOException,
    duckdb.FatalException,
    duckdb.InternalException,
    duckdb.SerializationException,
)
_NAMED: Final[dict[str, type[duckdb.Error]]] = {
    "Corrupt database file": duckdb.Error,
    "IO Error": duckdb.IOException,
    "FATAL Error": duckdb.FatalException,
    "INTERNAL Error": duckdb.InternalException,
    "Serialization Error": duckdb.SerializationException,
    "Out of Memory Error": duckdb.OutOfMemoryException,
}


def write_failure(error: duckdb.Error, path: Path | None) -> errors.StatusError | None:
    """The error to raise for one that says that the disk is full; None for any other."""
    text = str(error)
    where = path or temporary_directory()
    for number in _WRITE_ERRORS:
        if os.strerror(number) in text:
            return translated(OSError(number, os.strerror(number)), "folding into", where)
    if isinstance(error, duckdb.TransactionException) or "fsync failed" in text:
        return errors.UnavailableError(f"folding into {where} failed: {error}")
    return None


def failed(error: duckdb.Error, path: Path | None) -> errors.StatusError:
    """What to raise for an error of the tables for which there is no way on."""
    if isinstance(error, duckdb.OutOfMemoryException):
        return errors.ResourceExhaustedError(
            f"this needs more memory than it may take; ask for less of it: {error}"
        )
    return write_failure(error, path) or errors.InternalError(
        f"the projections' tables fail: {error}; run `eventstore rebuild`"
    )


def as_duckdb_error(error: Exception) -> duckdb.Error:
    """DuckDB's error; while rows are handed over it comes as one of Arrow's, named in its text."""
    if isinstance(error, duckdb.Error):
        return error
    text = str(error)
    for beginning, found in _NAMED.items():
        if text.startswith(beginning):
            return found(text)
    return duckdb.InvalidInputException(text)


def is_damage(error: duckdb.Error) -> bool:
    """Whether the error of a user's query says that the database itself is unsound."""
    # A block whose checksum is wrong raises the base class itself.
    return type(error) is duckdb.Error or isinstance(error, _DAMAGE)


def is_in_use(error: Exception) -> bool:
    """Whether another process has a file, or this one with another configuration."""
    return isinstance(error, duckdb.ConnectionException) or "set lock on file" in str(error)
