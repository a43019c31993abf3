"""What an erasure is told as: what it erases, and what it cannot reach."""

from __future__ import annotations

from typing import Final

from eventstore.answers import ErasedFile, ErasedVersion, ErasureReport
from eventstore.log import Log
from eventstore.log.erased import Erased
from eventstore.proto import retention_pb2 as retention
from eventstore.retention.planning import Plan
from eventstore.store.erasures import StoredErasure

OUTSIDE: Final = (
    "exports, proofs and reports that were made before",
    "backups, packed stores and other copies of the store, and snapshots of its file system",
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


def planned_report(log: Log, made: Plan) -> ErasureReport:
    """What a plan would erase."""
    return _report(made, None, PLANNED if made.ranges else NOTHING, _files_of(log, made.erased))


def erasure_report(log: Log, made: Plan, stored: StoredErasure | None) -> ErasureReport:
    """What an erasure that was made of a plan has erased, as far as it is."""
    if stored is None:
        return _report(made, None, NOTHING, [])
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
    return _report(made, message, _STAGES[message.stage], files)


def _report(
    made: Plan, message: retention.Erasure | None, stage: str, files: list[ErasedFile]
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
    )


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
            None if segment.path is None else segment.path.name,
            segment.file_bytes,
        )
        for segment in log.segments()
        if erased.within(segment.first_position, segment.last_position)
    ]
