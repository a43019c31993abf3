"""Check a log in a SQL database: every row, and the store that they make up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from eventstore import errors
from eventstore.log.closed_segments import ClosedSegments
from eventstore.log.commit import commits_of, has_valid_checksum
from eventstore.log.creation import LOG_FOLDER
from eventstore.log.ipc_message import UndecodableError, commit_of_message, message_envelope
from eventstore.log.log import Finding, Progress, SignedHead, VerifyReport
from eventstore.log.manifest import Manifest, Segment, read_manifest
from eventstore.log.merkle import EMPTY_HEAD
from eventstore.log.record import Commit, Record
from eventstore.log.sql.copying import commit_rows, copy_log
from eventstore.log.sql.database import Database
from eventstore.log.temporary_folder import TemporaryFolder
from eventstore.log.verification import verify_directory

_COLUMNS = [*Record.__struct_fields__, "tree_head"]


def verify_database(
    database: Database,
    store_id: UUID,
    progress: Progress | None = None,
    *,
    after: int = 0,
    upto: int | None = None,
    signed_heads: Sequence[SignedHead] = (),
) -> VerifyReport:
    """Check the log as `verify_directory` does, in a folder that it is copied into, and its rows.

    Raises what that raises; damage is reported.
    """
    with TemporaryFolder() as temporary:
        directory = temporary / "store"
        directory.mkdir()
        try:
            copy_log(database, store_id, directory)
        except errors.DataLossError as error:
            return VerifyReport(False, 0, 0, 0, EMPTY_HEAD.hex(), [Finding(error.message)])
        report = verify_directory(
            directory, progress, after=after, upto=upto, signed_heads=signed_heads
        )
        findings = [_without_folder(finding, directory, database) for finding in report.findings]
        if not findings:
            findings = [*_in_rows(database, directory, read_manifest(directory))]
    return msgspec.structs.replace(report, ok=not findings, findings=findings)


def _without_folder(finding: Finding, directory: Path, database: Database) -> Finding:
    """The finding without names of files that were made for the check alone."""
    what = finding.what.replace(str(directory), database.name)
    return msgspec.structs.replace(finding, what=what, file=None)


def _in_rows(database: Database, directory: Path, manifest: Manifest) -> Iterator[Finding]:
    """What rows of commits say that the segments, which are sound, do not."""
    closed = ClosedSegments(directory / LOG_FOLDER)
    commit = 0
    for segment in manifest.segments:
        commit = segment.last_commit
        rows = commit_rows(database, after=segment.first_commit - 1, upto=commit)
        for row, stored in zip_longest(rows, _commits(closed, segment)):
            fault = _fault(row, stored)
            if fault is not None:
                number = stored.number if stored is not None else row.number
                yield Finding(f"commit {number}: {fault}", segment=segment.number, commit=number)
                return
    for row in commit_rows(database, after=commit):
        commit += 1
        fault = _fault_of_row(row, commit)
        if fault is not None:
            yield Finding(f"commit {commit}: {fault}", commit=commit)
            return


def _commits(closed: ClosedSegments, segment: Segment) -> Iterator[Commit]:
    after, upto = segment.first_position - 1, segment.last_position
    return commits_of(closed.batches(segment, after, upto, _COLUMNS, derived=False))


def _fault(row: Any, stored: Commit | None) -> str | None:
    """What is wrong with the row of a commit that a segment has."""
    if row is None or stored is None or row.number != stored.number:
        return "it has no row, or more than one"
    said = (row.first_position, row.last_position, row.recorded_at, bytes(row.tree_head))
    known = (stored.first_position, stored.last_position, stored.recorded_at, stored.tree_head)
    if said != known:
        return "its row says something else than its sealed segment"
    if row.message is None:
        return None
    message = bytes(row.message)
    if not has_valid_checksum(memoryview(message)):
        return "its message does not match its checksum"
    if commit_of_message(message) != stored:
        return "its message has something else than its sealed segment"
    return None


def _fault_of_row(row: Any, number: int) -> str | None:
    """What is wrong with the row of a commit that is in no segment; its message is sound."""
    if row.message is None:
        return "its row has no message, and no segment has it"
    try:
        envelope = message_envelope(memoryview(bytes(row.message)))
    except UndecodableError as error:
        return str(error)
    said = (row.number, row.last_position, row.recorded_at, row.first_position)
    if tuple(envelope) != said or row.number != number:
        return "its row says something else than its message"
    commit = commit_of_message(bytes(row.message))
    if commit is None or commit.tree_head != bytes(row.tree_head):
        return "its row has another tree head than its message"
    return None
