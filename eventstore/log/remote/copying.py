"""Copy a log from what keeps it into a directory: the same records, heads and segments."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from uuid import UUID

from eventstore import errors
from eventstore.log import acknowledged
from eventstore.log.backup import new_directory
from eventstore.log.closed_segments import SegmentMovedError
from eventstore.log.creation import LOG_FOLDER, start_segment
from eventstore.log.directory_reader import open_reader
from eventstore.log.ipc_message import UndecodableError, message_envelope
from eventstore.log.log import Progress, VerifyReport
from eventstore.log.manifest import Manifest, Segment, write_manifest
from eventstore.log.remote.keeper import Keeper
from eventstore.log.remote.sealed_segments import damaged
from eventstore.log.syncing import sync_directory
from eventstore.log.verification import verify_directory
from eventstore.long_work import long_work


@long_work("Copying")
def back_up(
    keeper: Keeper, store_id: UUID, target: Path, progress: Progress | None = None
) -> VerifyReport:
    """Copy the log into a new directory, and verify the copy: see `Log.backup`.

    Each record counts twice in the progress.
    """
    with new_directory(target) as made:
        made.mkdir()
        position = copy_log(keeper, store_id, made)

        def tell(done: int, _: int) -> None:
            if progress is not None:
                progress(position + min(done, position), 2 * position)

        tell(0, 0)
        report = verify_directory(made, tell)
        if not report.ok:
            raise errors.DataLossError(
                f"{keeper.name} is damaged: {report.findings[0].what}; nothing was copied: run "
                "`eventstore verify` on it"
            )
        _acknowledge(made)
    return report


def copy_log(keeper: Keeper, store_id: UUID, directory: Path) -> int:
    """Write the log as a store in an empty directory, durably; its position.

    What is damaged is copied as it is. Raises DataLossError where a segment is missing.
    """
    created_at = keeper.created_at()
    folder = directory / LOG_FOLDER
    folder.mkdir()
    segments = _fetched(keeper, folder)
    newest = segments[-1] if segments else None
    position = newest.last_position if newest else 0
    active = start_segment(folder, store_id, len(segments) + 1, first_position=position + 1)
    with open(folder / active.file, "ab") as file:
        for message in keeper.messages_after(newest):
            file.write(message)
            with contextlib.suppress(UndecodableError):
                position = message_envelope(memoryview(message)).last_position
        file.flush()
        os.fsync(file.fileno())
    sync_directory(folder)
    # Last: what has no manifest is no store.
    write_manifest(
        directory,
        Manifest(
            store_id=store_id,
            created_at=created_at,
            generation=1,
            segments=segments,
            active=active,
        ),
    )
    sync_directory(directory)
    return position


def _fetched(keeper: Keeper, folder: Path) -> tuple[Segment, ...]:
    """Fetch the files of all segments, durably; their entries."""
    missing = None
    while True:
        segments = keeper.segments()
        try:
            for segment in segments:
                path = folder / segment.file
                if not path.exists():
                    keeper.fetch(segment, path)
                    with open(path, "rb") as file:
                        os.fsync(file.fileno())
        except SegmentMovedError as error:
            # An erasure may have replaced it since its entry was read.
            if error.segment == missing:
                raise damaged(
                    keeper.name, error.segment, f"{keeper.file_of(error.segment)} is missing"
                ) from None
            missing = error.segment
            continue
        names = {segment.file for segment in segments}
        for path in folder.iterdir():
            if path.name not in names:
                path.unlink()
        return segments


def _acknowledge(directory: Path) -> None:
    """Say how far a sound copy goes, so that one that is cut later can be told."""
    with contextlib.closing(open_reader(directory)) as log:
        path = directory / LOG_FOLDER / acknowledged.FILE_NAME
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            log.acknowledge_copy(descriptor)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    sync_directory(path.parent)
