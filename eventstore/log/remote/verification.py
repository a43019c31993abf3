"""Check a log that a server keeps: the store that its parts make up, and what else they say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from uuid import UUID

import msgspec

from eventstore import errors
from eventstore.log.closed_segments import ClosedSegments
from eventstore.log.commit import commits_of
from eventstore.log.creation import LOG_FOLDER
from eventstore.log.log import Finding, Progress, SignedHead, VerifyReport
from eventstore.log.manifest import Segment, read_manifest
from eventstore.log.merkle import EMPTY_HEAD
from eventstore.log.record import Commit, Record
from eventstore.log.remote.copying import copy_log
from eventstore.log.remote.keeper import Keeper
from eventstore.log.temporary_folder import TemporaryFolder
from eventstore.log.verification import verify_directory

_COLUMNS = [*Record.__struct_fields__, "tree_head"]


def verify_kept(
    keeper: Keeper,
    store_id: UUID,
    progress: Progress | None = None,
    *,
    after: int = 0,
    upto: int | None = None,
    signed_heads: Sequence[SignedHead] = (),
) -> VerifyReport:
    """Check the log as `verify_directory` does, in a folder that it is copied into, and the rest.

    Raises what that raises; damage is reported.
    """
    with TemporaryFolder() as temporary:
        directory = temporary / "store"
        directory.mkdir()
        try:
            copy_log(keeper, store_id, directory)
        except errors.DataLossError as error:
            return VerifyReport(False, 0, 0, 0, EMPTY_HEAD.hex(), [Finding(error.message)])
        report = verify_directory(
            directory, progress, after=after, upto=upto, signed_heads=signed_heads
        )
        files = {s.number: keeper.file_of(s) for s in read_manifest(directory).segments}
        findings = [
            msgspec.structs.replace(
                finding,
                what=finding.what.replace(str(directory), keeper.name),
                file=files.get(finding.segment or 0),
            )
            for finding in report.findings
        ]
        not_checked = report.not_checked
        if not findings:
            closed, manifest = ClosedSegments(directory / LOG_FOLDER), read_manifest(directory)
            more: list[str] = []
            findings = [*keeper.faults(closed, manifest, more.append)]
            not_checked = [*not_checked, *more]
    return msgspec.structs.replace(
        report, ok=not findings, findings=findings, not_checked=not_checked
    )


def commits_in(closed: ClosedSegments, segment: Segment) -> Iterator[Commit]:
    """The commits of a sealed segment, for `Keeper.faults` to compare with."""
    after, upto = segment.first_position - 1, segment.last_position
    return commits_of(closed.batches(segment, after, upto, _COLUMNS, derived=False))
