"""Copy a store, even while it is written to, so that the copy is whole or not there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from eventstore import errors
from eventstore.log import acknowledged
from eventstore.log.closed_segments import segment_of
from eventstore.log.creation import LOG_FOLDER
from eventstore.log.directory_reader import DirectoryReader, open_reader
from eventstore.log.log import Progress, VerifyReport
from eventstore.log.manifest import (
    Segment,
    read_manifest,
    write_durably,
    write_manifest,
)
from eventstore.log.os_errors import refuse_no_path, resolved, translated, translating
from eventstore.log.regular_file import opened_to_read
from eventstore.log.replacing import made_beside
from eventstore.log.syncing import sync_directory
from eventstore.log.verification import verify_directory
from eventstore.long_work import long_work

_CHUNK_BYTES = 4 * 1024 * 1024
_LOOKS_MAX = 100


@long_work("Copying")
def copy_store(source: Path, target: Path, progress: Progress | None = None) -> VerifyReport:
    """Copy the store in `source` with all that was acknowledged by now, and verify the copy.

    The source is only read. The copy is made, synced and checked beside `target`, and takes its
    name when it is whole. Each record counts twice in the progress. Caches are not copied. Raises
    AlreadyExistsError when there is anything but an empty directory at `target`, NotFoundError when
    there is no store, or no directory for the copy, DataLossError that names the damaged file of
    the source, UnavailableError while another process copies to `target`.
    """
    refuse_no_path(source)
    refuse_no_path(target)
    for _ in range(_LOOKS_MAX):
        with translating("opening", source):
            log = open_reader(source)
        try:
            with translating("copying to", target):
                _refuse_target(target)
                _refuse_inside(source, target)
                path = resolved(target)
                with made_beside(path, is_directory=True) as partial:
                    return _copied(log, partial, path, progress)
        except _OvertakenError:
            continue
        finally:
            log.close()
    raise errors.UnavailableError(f"{source} is compacted all the time: try again")


def _copied(
    log: DirectoryReader, partial: Path, target: Path, progress: Progress | None
) -> VerifyReport:
    position = log.position

    def tell(done: int) -> None:
        if progress is not None:
            progress(done, 2 * position)

    folder = partial / LOG_FOLDER
    folder.mkdir()
    manifest = log.manifest
    segments = _copied_segments(log, folder, tell)
    write_durably(folder / manifest.active.file, log.active_bytes())
    tell(position)
    _acknowledge(folder, log)
    sync_directory(folder)
    # Last: what has no manifest is no store.
    write_manifest(partial, msgspec.structs.replace(manifest, segments=tuple(segments)))
    report = verify_directory(partial, lambda done, _: tell(position + min(done, position)))
    if not report.ok:
        found = report.findings[0]
        name = "" if found.file is None else Path(found.file).name
        raise errors.DataLossError(
            f"{log.directory / LOG_FOLDER / name} is damaged: {found.what}; nothing was copied: run"
            " `eventstore verify` on it"
        )
    _take_name(partial, target)
    return report


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """A path to make a directory at, which is at `target` once the block has ended, and only then.

    What is in it has to be synced by then. What a block has made that fails is removed. Raises
    AlreadyExistsError when there is anything but an empty directory, NotFoundError when there is no
    directory for it, UnavailableError while another process makes something there.
    """
    refuse_no_path(target)
    with translating("writing", target):
        _refuse_target(target)
        target = resolved(target)
        with made_beside(target, is_directory=True) as partial:
            # One below: the folder itself is locked, and what is copied into it locks its own.
            folder = partial / "made"
            folder.mkdir()
            yield folder / target.name
            _take_name(folder / target.name, target)


def _refuse_target(target: Path) -> None:
    if target.is_dir() and not any(target.iterdir()):
        pass
    elif os.path.lexists(target):
        raise errors.AlreadyExistsError(
            f"there is something at {target} already: choose another path, or remove it"
        )
    parent = target.absolute().parent
    if not parent.is_dir():
        raise errors.NotFoundError(f"there is no directory {parent}: make it")


def _refuse_inside(source: Path, target: Path) -> None:
    if resolved(source) in resolved(target).parents:
        raise errors.InvalidArgumentError(
            f"{target} is inside of the store {source}: choose a path outside of it"
        )


class _OvertakenError(Exception):
    """What was active as the copy began has been merged with what comes before it."""


def _copied_segments(
    log: DirectoryReader, folder: Path, tell: Callable[[int], None]
) -> list[Segment]:
    """Copy all closed and sealed segments; their entries, which others may have merged since."""
    segments: list[Segment] = []
    known, end = log.manifest.segments, log.manifest.active.first_position - 1
    while (position := segments[-1].last_position if segments else 0) < end:
        segment = segment_of(known, position + 1)
        assert segment is not None, f"position {position + 1} is in no segment"
        copied = _copied_segment(log.directory, segment, folder)
        if copied.last_position > end:
            raise _OvertakenError
        while segments and segments[-1].last_position >= copied.first_position:
            (folder / segments.pop().file).unlink()
        segments.append(copied)
        tell(copied.last_position)
    return segments


def _copied_segment(directory: Path, segment: Segment, folder: Path) -> Segment:
    """Copy a closed or sealed segment, durably; its entry, which another may have sealed."""
    for _ in range(_LOOKS_MAX):
        path = directory / LOG_FOLDER / segment.file
        try:
            digest = _copied_file(path, folder / segment.file)
        except FileNotFoundError:
            found = segment_of(read_manifest(directory).segments, segment.first_position)
            if found is None or found == segment:
                raise errors.DataLossError(
                    f"segment {segment.number} is missing: {path}; restore it from a backup"
                ) from None
            segment = found
            continue
        if digest != segment.file_sha256:
            raise errors.DataLossError(
                f"segment {segment.number}, {path}, is damaged: it does not match the SHA-256 in "
                "the manifest; nothing was copied: run `eventstore verify`"
            )
        return segment
    raise errors.UnavailableError(f"{directory} changes all the time: try again")


def _copied_file(path: Path, target: Path) -> str:
    """Copy a file, durably; the SHA-256 of what was read."""
    digest = hashlib.sha256()
    with opened_to_read(path) as read, open(target, "xb") as written:
        while chunk := read.read(_CHUNK_BYTES):
            digest.update(chunk)
            written.write(chunk)
        written.flush()
        os.fsync(written.fileno())
    return digest.hexdigest()


def _acknowledge(folder: Path, log: DirectoryReader) -> None:
    """Say how far the copy goes, so that one that is cut later can be told."""
    path = folder / acknowledged.FILE_NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        log.acknowledge_copy(descriptor)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take_name(partial: Path, target: Path) -> None:
    try:
        # An empty directory is replaced, anything else is not.
        os.rename(partial, target)
    except OSError as error:
        if os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir())):
            raise errors.AlreadyExistsError(
                f"something has appeared at {target}: choose another path, or remove it"
            ) from None
        raise translated(error, "moving the copy to", target) from None
    sync_directory(target.parent)
