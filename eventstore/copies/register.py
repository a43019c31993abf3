"""The register of erasures: what was erased of a store, kept apart from it and its backups.

A line of JSON for each erasure that is in effect. A backup that is older than an erasure still has
what was erased; restoring it with the register erases it again before anything is answered.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from uuid import UUID

import msgspec

from eventstore import errors
from eventstore.log import Log
from eventstore.log.erased import Erased, Spans
from eventstore.log.os_errors import translating
from eventstore.log.regular_file import read_regular
from eventstore.proto import retention_pb2
from eventstore.store.erasures import erasures_as_of
from eventstore.store.snapshot import Snapshot
from eventstore.times import moment_of


class RegisteredRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Positions from the first to the last, and what of their records is erased."""

    first: int
    last: int
    content: bool
    who: bool


class RegisteredErasure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An erasure of a store: its number, the record that has put it into effect, and what it is of.

    It holds positions and codes, and nothing of what was erased.
    """

    store_id: UUID
    number: int
    position: int
    recorded_at: datetime
    basis: str
    ticket: str
    ranges: tuple[RegisteredRange, ...]

    @property
    def erased(self) -> Erased:
        return Erased(
            Spans.of((span.first, span.last) for span in self.ranges if span.content),
            Spans.of((span.first, span.last) for span in self.ranges if span.who),
        )


def registered_erasures(log: Log, snapshot: Snapshot) -> list[RegisteredErasure]:
    """The erasures that are in effect as of a snapshot, by number."""
    return [
        _registered(log, erasure.requested_at, erasure.message)
        for erasure in erasures_as_of(snapshot.index, snapshot.position)
        if erasure.requested_at is not None
    ]


def register_text(erasures: Iterable[RegisteredErasure]) -> str:
    """The register as it is kept."""
    return "".join(msgspec.json.encode(erasure).decode() + "\n" for erasure in erasures)


def read_register(path: Path, store_id: UUID) -> list[RegisteredErasure]:
    """The erasures of a store in a register, which may have those of others, too.

    Raises DataLossError for a line that is none, and FailedPreconditionError where there are other
    stores' alone: to pass over one would bring back what was erased.
    """
    with translating("reading", path):
        text = read_regular(path)
    found, others = [], set()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            erasure = msgspec.json.decode(line, type=RegisteredErasure)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise errors.DataLossError(
                f"{path}, line {number}: {error}; take the register as it was written"
            ) from None
        if any(not 1 <= span.first <= span.last < erasure.position for span in erasure.ranges):
            raise errors.DataLossError(f"{path}, line {number}: its positions cannot be")
        if erasure.store_id == store_id:
            found.append(erasure)
        else:
            others.add(str(erasure.store_id))
    if others and not found:
        raise errors.FailedPreconditionError(
            f"{path} has erasures of other stores alone ({', '.join(sorted(others))}), and none of "
            f"{store_id}: take the register of this one, or an empty file if nothing of it was "
            "ever erased"
        )
    return found


def _registered(log: Log, position: int, erasure: retention_pb2.Erasure) -> RegisteredErasure:
    return RegisteredErasure(
        log.store_id,
        erasure.id,
        position,
        moment_of(log.recorded_at(position)),
        erasure.basis,
        erasure.ticket,
        tuple(
            RegisteredRange(span.first_position, span.last_position, span.content, span.who)
            for span in erasure.ranges
        ),
    )
