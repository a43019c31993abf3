"""A store by its place: whether it is there, opened, made, and seen unopened."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

from eventstore import errors
from eventstore.log.closed_segments import sealed_files
from eventstore.log.creation import LOG_FOLDER, make_directory
from eventstore.log.directory import DirectoryLog
from eventstore.log.log import Log, Progress, SealedFile, SignedHead, VerifyReport
from eventstore.log.manifest import (
    MANIFEST_NAME,
    read_manifest,
    stored_manifest,
)
from eventstore.log.os_errors import refuse_no_path, resolved, translating
from eventstore.log.places import Place, StoreUrl, open_at
from eventstore.log.replacing import made_beside, refuse_unsettled
from eventstore.log.replacing import settle as settle_replacing
from eventstore.log.syncing import sync_directory


def is_store(path: Path) -> bool:
    """Whether a directory has the files of a store, sound or not."""
    return os.path.lexists(path / MANIFEST_NAME) and os.path.isdir(path / LOG_FOLDER)


def open_log(
    place: Place, *, read_only: bool = False, creates: bool = False, store_id: UUID | None = None
) -> Log:
    """Open the log of a store, which with `creates` is made where there is none.

    It is a copy of another store where that one's id is given.
    Raises what `DirectoryLog.open` and `DirectoryLog.create` do, or `open_at`.
    """
    if isinstance(place, StoreUrl):
        return open_at(place, read_only=read_only, creates=creates, store_id=store_id)
    path = place
    if creates and not (path / MANIFEST_NAME).exists():
        # Another process may be faster to create it.
        with contextlib.suppress(errors.AlreadyExistsError):
            return DirectoryLog.create(path, store_id=store_id)
    return DirectoryLog.open(path, read_only=read_only)


@contextlib.contextmanager
def new_store(path: Path) -> Iterator[DirectoryLog]:
    """An empty log to fill, which is at `path` once the block has ended, and only then.

    There must be nothing but an empty directory. What is written by a block that fails is removed.
    Raises UnavailableError when another process is making a store there, OSError when the disk does
    not allow it.
    """
    make_directory(path.parent)
    with made_beside(path, is_directory=True) as unfinished:
        with contextlib.closing(DirectoryLog.create(unfinished)) as log:
            yield log
        os.replace(unfinished, path)
        sync_directory(path.parent)


def settle(path: Path, *, read_only: bool = False) -> None:
    """Finish or take back what a process left that died while it packed, unpacked or imported.

    Raises FailedPreconditionError where that would be needed and the store is only to be read.
    """
    refuse_no_path(path)
    with translating("opening", path):
        path = resolved(path)
        if read_only:
            refuse_unsettled(path)
            return
        settle_replacing(path)
        if path.exists():
            # Whoever moved the store here, as an import does at its end, may have died before this.
            with contextlib.suppress(PermissionError):
                sync_directory(path.parent)


def store_id_of(place: Place) -> UUID:
    """The id of a store that is to be verified."""
    if isinstance(place, StoreUrl):
        with _opened(place) as log:
            return log.store_id
    return stored_manifest(place).store_id


def sealed_files_of(place: Place) -> list[SealedFile]:
    """`Log.sealed_files` of a store; one in a directory is not opened for it."""
    if isinstance(place, StoreUrl):
        with _opened(place) as log:
            return log.sealed_files()
    manifest = read_manifest(place)
    return sealed_files(place / LOG_FOLDER, manifest.segments)


def back_up(place: Place, target: Path, progress: Progress | None = None) -> VerifyReport:
    """`Log.backup` of a store; one in a directory is not opened for it."""
    if isinstance(place, StoreUrl):
        with _opened(place) as log:
            return log.backup(target, progress)
    from eventstore.log.backup import copy_store

    return copy_store(place, target, progress)


def verify_store(
    place: Place,
    progress: Progress | None,
    *,
    after: int,
    upto: int | None,
    signed_heads: Sequence[SignedHead],
) -> VerifyReport:
    """`Log.verify` of a store; in a directory it need not be sound enough to be opened."""
    if isinstance(place, StoreUrl):
        with _opened(place) as log:
            return log.verify(progress, after=after, upto=upto, signed_heads=signed_heads)
    from eventstore.log.verification import verify_directory

    return verify_directory(place, progress, after=after, upto=upto, signed_heads=signed_heads)


@contextlib.contextmanager
def _opened(url: StoreUrl) -> Iterator[Log]:
    """A log to read."""
    log = open_at(url, read_only=True)
    try:
        yield log
    finally:
        log.close()
