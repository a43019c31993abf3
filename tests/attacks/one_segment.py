"""One segment of a store, checked alone, and its files written anew for attacks."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from eventstore.log import DirectoryLog
from eventstore.log.ipc_stream import schema_message_bytes
from eventstore.log.manifest import read_manifest, write_manifest
from eventstore.log.rows_check import CheckedSegment
from eventstore.log.segment_check import SegmentJob, check_segment
from tests.builders import append, draft, rotate

Found = list[tuple[str, int | None, int | None]]


def three_segments(directory: Path) -> Path:
    """Make a store with a sealed, a closed and an active segment; the last two of two commits each.

    The commits end at positions 2, 4, 5, 7 and 8.
    """
    log = DirectoryLog.create(directory)
    append(log, draft(1), draft(2))
    log.seal()
    append(log, draft(3), draft(4))
    append(log, draft(5))
    rotate(log)
    append(log, draft(6), draft(7))
    append(log, draft(8))
    log.close()
    return directory


def job(directory: Path, which: int, /, **changes: Any) -> SegmentJob:
    """What is asked of a segment, with what the manifest says of it changed."""
    manifest = read_manifest(directory)
    before = manifest.segments[which - 2] if which > 1 else None
    entry, active = None, None
    if which > len(manifest.segments):
        active = msgspec.structs.replace(manifest.active, **changes)
    else:
        entry = msgspec.structs.replace(manifest.segments[which - 1], **changes)
    return SegmentJob(str(directory), manifest.store_id, entry, active, before)


def checked(directory: Path, number: int, **changes: Any) -> CheckedSegment:
    return check_segment(job(directory, number, **changes))


def found(directory: Path, number: int, **changes: Any) -> Found:
    """All findings: words, commit and position."""
    findings = checked(directory, number, **changes).findings
    assert all(finding.segment == number for finding in findings)
    return [(finding.what, finding.commit, finding.position) for finding in findings]


def places(directory: Path, number: int, words: str, **changes: Any) -> tuple[Any, Any]:
    """The commit and position of the only finding, which says `words`."""
    ((what, commit, position),) = found(directory, number, **changes)
    assert words in what
    return commit, position


def path_of(directory: Path, number: int) -> Path:
    manifest = read_manifest(directory)
    files = [*(entry.file for entry in manifest.segments), manifest.active.file]
    return directory / "log" / files[number - 1]


def rewrite(directory: Path, number: int, content: bytes) -> None:
    """Put other content into a segment's file, and make the manifest fit it."""
    path_of(directory, number).write_bytes(content)
    manifest = read_manifest(directory)
    if number > len(manifest.segments):
        header = content[: schema_message_bytes(memoryview(content))]
        digest = hashlib.sha256(header).hexdigest()
        active = msgspec.structs.replace(
            manifest.active, header_bytes=len(header), header_sha256=digest
        )
        write_manifest(directory, msgspec.structs.replace(manifest, active=active))
        return
    digest = hashlib.sha256(content).hexdigest()
    segments = [*manifest.segments]
    segments[number - 1] = msgspec.structs.replace(
        segments[number - 1], file_bytes=len(content), file_sha256=digest
    )
    write_manifest(directory, msgspec.structs.replace(manifest, segments=tuple(segments)))
