"""What an erasure is told as: what it erases, and what it cannot reach."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from eventstore.answers import (
    ErasedBefore,
    ErasedFile,
    ErasedVersion,
    ErasureReport,
    SecondPerson,
)
from eventstore.history.marks import marks_of
from eventstore.log import Log
from eventstore.log.erased import Erased
from eventstore.projections.point_index import PointIndex
from eventstore.proto import retention_pb2 as retention
from eventstore.retention.planning import Plan
from eventstore.retention.precedence import approval_demanded
from eventstore.store.erasures import erasure_as_of
from eventstore.store.snapshot import Snapshot

OUTSIDE: Final = (
    "exports, proofs and reports that were made before",
    "backups, packed stores and other copies of the store, snapshots of its file system, and older "
    "versions of objects in a bucket",
    "what queries of killed processes left in `eventstore-*` of directories for temporary files",
    "a swap file, and dumps of processes that crashed",
    "what programs have read: messages, data frames, outputs of notebooks, their logs",
    "what the uris of artifacts name: a store has metadata alone",
    "the blocks of files that are removed, until the disk writes over them",
)
"""What the store does not reach."""

PLANNED: Final = "planned"
NOTHING: Final = "nothing to erase"
_STAGES: Final = {
    retention.Erasure.PROPOSED: "proposed",
    retention.Erasure.REQUESTED: "requested",
    retention.Erasure.COMPLETED: "completed",
    retention.Erasure.WITHDRAWN: "withdrawn",
}


def planned_report(log: Log, snapshot: Snapshot, made: Plan) -> ErasureReport:
    """What a plan would erase, and by which rule a second person would have to agree."""
    stage = PLANNED if made.ranges else NOTHING
    before = _before(log, snapshot.index, made, None)
    report = _report(made, None, stage, _files_of(log, made.erased), before)
    rule = approval_demanded(snapshot, made.versions)
    if rule is None:
        return report
    said = rule.message
    demanded = SecondPerson(said.id, rule.position, said.basis, said.ticket)
    return replace(report, second_person=demanded)


def erasure_report(log: Log, index: PointIndex, made: Plan, number: int | None) -> ErasureReport:
    """What the erasure that a plan was recorded as has erased by now.

    Its number is None where nothing was left to erase.
    """
    before = _before(log, index, made, number)
    stored = None if number is None else erasure_as_of(index, number, index.position)
    if stored is None:
        return _report(made, None, NOTHING, [], before)
    message = stored.message
    if message.stage != retention.Erasure.COMPLETED:
        files = _files_of(log, stored.erased)
    else:
        files = [
            ErasedFile(
                file.segment, old_sha256=file.old_sha256.hex(), new_sha256=file.new_sha256.hex()
            )
            for file in message.files
        ]
    return _report(made, message, _STAGES[message.stage], files, before)


def _report(
    made: Plan,
    message: retention.Erasure | None,
    stage: str,
    files: list[ErasedFile],
    before: list[ErasedBefore],
) -> ErasureReport:
    erased = made.erased
    return ErasureReport(
        number=None if message is None else message.id,
        stage=stage,
        basis=made.wanted.basis,
        ticket=made.wanted.ticket,
        versions=_versions(made, message),
        contents_erased=len(erased.content),
        whos_erased=len(erased.who),
        files=files,
        outside=list(OUTSIDE) if made.ranges else [],
        refused=list(made.refused),
        erased_before=before,
    )


def _before(log: Log, index: PointIndex, made: Plan, number: int | None) -> list[ErasedBefore]:
    """What other erasures took of the versions that a plan passes over."""
    if not made.passed_over:
        return []
    marks, found = marks_of(log, index), []
    for version in made.passed_over:
        answer = index.erasures.answer_of(version.position)
        for mark in marks.of(version.position):
            if mark.number != number:
                stage = "requested" if mark.number in index.erasures.pending else "completed"
                found.append(
                    ErasedBefore(
                        version.kind,
                        version.id,
                        version.position,
                        mark.number,
                        stage,
                        mark.content,
                        mark.who,
                        list(mark.redacted),
                        None if answer is None else answer[1] or None,
                    )
                )
    return found


def _versions(made: Plan, message: retention.Erasure | None) -> list[ErasedVersion]:
    found, spans, number = [], made.ranges, 0
    for chosen in made.versions:
        while spans[number].last < chosen.position:
            number += 1
        replaced_by = 0 if message is None else message.ranges[number].replaced_by
        found.append(
            ErasedVersion(
                chosen.kind,
                chosen.id,
                chosen.position,
                chosen.content,
                chosen.who,
                list(spans[number].redacted),
                replaced_by or None,
            )
        )
    return found


def _files_of(log: Log, erased: Erased) -> list[ErasedFile]:
    """The files that have any of these records."""
    return [
        ErasedFile(
            segment.number,
            segment.file_name,
            segment.file_bytes,
        )
        for segment in log.segments()
        if erased.within(segment.first_position, segment.last_position)
    ]
