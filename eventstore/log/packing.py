"""A store in one file: an uncompressed zip archive of the manifest and of what is in `log/`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from eventstore import errors
from eventstore.log.creation import LOG_FOLDER
from eventstore.log.folder_tree import entries_below
from eventstore.log.forking import renew_in_children
from eventstore.log.manifest import MANIFEST_NAME, read_manifest
from eventstore.log.os_errors import resolved, translated
from eventstore.log.regular_file import opened_to_read, read_regular
from eventstore.log.replacing import made_beside, replace
from eventstore.log.syncing import sync_directory
from eventstore.log.writers_lock import NotLockedError, WritersLock

PACKED_VERSION = 0

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def is_packed(path: Path) -> bool:
    """Whether a path is a store in one file."""
    if not path.is_file():
        return False
    import zipfile

    return zipfile.is_zipfile(path)


def unpack(path: Path) -> None:
    """Turn a packed store into its directory, at the same path.

    If the process dies half-way, the next opening settles it.

    Raises DataLossError when the archive or what is in it is damaged; the file is kept then.
    """
    import zipfile

    from eventstore.log.verification import verify_directory

    path = resolved(path)
    try:
        with made_beside(path, is_directory=True) as unpacked:
            with zipfile.ZipFile(path) as archive:
                archive.extractall(unpacked)
            report = verify_directory(unpacked)
            if not report.ok:
                raise errors.DataLossError(f"the packed store {path}: {report.findings[0].what}")
            _sync_all(unpacked)
            replace(path, unpacked)
    except zipfile.BadZipFile as error:
        raise errors.DataLossError(f"the packed store {path} is damaged: {error}") from None
    except OSError as error:
        raise translated(error, "unpacking", path) from None


def pack(path: Path) -> None:
    """Turn a store, all of which is sealed, into one file at the same path.

    Nobody else may have it open. If the process dies half-way, the next opening settles it. Raises
    AbortedError when anything was put since it was sealed.
    """
    try:
        with made_beside(path, is_directory=False) as packing:
            _without_writers(path, lambda: _pack_into(packing, path))
    except OSError as error:
        raise translated(error, "packing", path) from None


def _pack_into(packing: Path, path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(packing, "w", zipfile.ZIP_STORED) as archive:
        for source in (path / MANIFEST_NAME, *sorted((path / LOG_FOLDER).iterdir())):
            member = zipfile.ZipInfo(source.relative_to(path).as_posix(), _ZIP_TIME)
            archive.writestr(member, read_regular(source))
    _sync(packing)
    replace(path, packing)


def _without_writers(path: Path, do: Callable[[], None]) -> None:
    """Call `do` under a store's writers' lock.

    Raises AbortedError when anything was put since it was sealed.
    """
    manifest, lock = read_manifest(path), WritersLock()
    renew_in_children(lock)
    segment = path / LOG_FOLDER / manifest.active.file

    def do_unless_changed(_: bool) -> None:
        is_changed = read_manifest(path).active != manifest.active
        if is_changed or any(read_regular(segment)[manifest.active.header_bytes :]):
            raise errors.AbortedError(
                f"another process puts into {path}: stop it, then pack the store"
            )
        do()

    with contextlib.closing(lock):
        try:
            lock.hold(segment, do_unless_changed)
        except NotLockedError as error:
            raise error.reason from None


def _sync_all(directory: Path) -> None:
    for entry in entries_below(directory):
        if entry.is_dir(follow_symlinks=False):
            sync_directory(Path(entry.path))
        else:
            _sync(Path(entry.path))
    sync_directory(directory)


def _sync(file: Path) -> None:
    with opened_to_read(file) as opened:
        os.fsync(opened.fileno())
