"""Make an empty store, and the first bytes of each segment."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from eventstore import errors
from eventstore.log import ipc_stream
from eventstore.log.file_lock import exclusive
from eventstore.log.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    ActiveSegment,
    Manifest,
    closed_name,
    write_durably,
    write_manifest,
)
from eventstore.log.no_store import refuse_encrypted_backup
from eventstore.log.os_errors import translated
from eventstore.log.sealing import is_temporary, remove_temporary_files
from eventstore.log.syncing import sync_directory
from eventstore.times import now_in_microseconds

LOG_FOLDER: Final = "log"
CACHE_FOLDER: Final = "projections"
LOCK_NAME: Final = "lock"


def create_store(directory: Path, store_id: UUID | None = None) -> Manifest:
    """Make an empty store in a directory that does not exist or is empty; its manifest.

    It is a copy of another store where that one's id is given.

    Raises AlreadyExistsError when there is a store, DataLossError when it lacks its manifest,
    FailedPreconditionError when there is anything else.
    """
    folder = directory / LOG_FOLDER
    try:
        make_directory(directory)
        # A creation that died may have made the directory but not this.
        with contextlib.suppress(PermissionError):
            sync_directory(directory.absolute().parent)
        # First without the lock, whose file would be left in somebody's folder.
        _refuse_occupied(directory)
        with exclusive(directory / LOCK_NAME):
            _refuse_occupied(directory)
            remove_temporary_files(directory, folder)
            folder.mkdir(exist_ok=True)
            store_id = store_id or uuid4()
            manifest = Manifest(
                store_id=store_id,
                created_at=now_in_microseconds(),
                generation=1,
                segments=(),
                active=start_segment(folder, store_id, 1, first_position=1),
            )
            write_manifest(directory, manifest)
    except OSError as error:
        raise translated(error, "creating a store in", directory) from None
    return manifest


def start_segment(
    folder: Path, store_id: UUID, number: int, *, first_position: int
) -> ActiveSegment:
    """Write the file of a new active segment, durably; its entry for the manifest.

    Raises DataLossError when there is a segment of that number that has commits.
    """
    header = ipc_stream.schema_message(
        {
            "eventstore.format_version": str(FORMAT_VERSION),
            "eventstore.store_id": str(store_id),
            "eventstore.segment": str(number),
            "eventstore.first_position": str(first_position),
        }
    )
    path = folder / closed_name(number)
    with contextlib.suppress(FileNotFoundError):
        # A writer that died before the manifest named the segment has left the header alone.
        if path.stat().st_size > len(header):
            raise errors.DataLossError(
                f"{path} holds commits, but the {MANIFEST_NAME} of its store is missing or older: "
                "nothing was put; restore the newest one from a backup"
            )
    write_durably(path, header)
    return ActiveSegment(
        number=number,
        file=path.name,
        header_bytes=len(header),
        header_sha256=hashlib.sha256(header).hexdigest(),
        first_position=first_position,
    )


def make_directory(directory: Path) -> None:
    """Make a directory and those above it, so that it outlives a loss of power."""
    if directory.is_dir():
        return
    make_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    sync_directory(directory.parent)


def _refuse_occupied(directory: Path) -> None:
    if (directory / MANIFEST_NAME).exists():
        raise errors.AlreadyExistsError(f"there is a store at {directory} already: open it")
    refuse_encrypted_backup(directory)
    names = sorted(path.name for path in directory.iterdir())
    folder = directory / LOG_FOLDER
    kept = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    # All that a creation can leave when it dies; a store that was ever opened has more.
    if any(not name.startswith(closed_name(1)) for name in kept):
        raise errors.DataLossError(
            f"{directory} is a store without its {MANIFEST_NAME}: restore it from a backup"
        )
    if any(name not in (LOCK_NAME, LOG_FOLDER) and not is_temporary(name) for name in names):
        raise errors.FailedPreconditionError(
            f"{directory} is neither empty nor a store (it holds {', '.join(names[:3])}): choose "
            "another directory"
        )
