"""The erasures of a store, as their records say."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from eventstore.log import Log
from eventstore.log.erased import Erased, Spans
from eventstore.log.kinds import ERASURE
from eventstore.log.readable import read_message
from eventstore.log.record import Position
from eventstore.log.retention_stages import IN_EFFECT
from eventstore.projections.index_tables import RETENTION_TABLES
from eventstore.projections.point_index import PointIndex
from eventstore.proto import retention_pb2 as retention

_TABLE = RETENTION_TABLES[ERASURE]


class StoredErasure(msgspec.Struct, frozen=True):
    """An erasure, and where its records are.

    `requested_at` is the position of the record from which on it is in effect, None before.
    `proposed_at` is that of the record by which it waited for a second person, None where it never
    did.
    """

    number: int
    position: Position
    requested_at: Position | None
    proposed_at: Position | None
    message: retention.Erasure

    @property
    def is_pending(self) -> bool:
        """Whether it is in effect, and what it erases may still be in files."""
        return bool(self.message.stage == retention.Erasure.REQUESTED)

    @property
    def erased(self) -> Erased:
        """What it erases, once it is in effect."""
        return erased_by(self.message.ranges)


def erasures_as_of(index: PointIndex, as_of: int) -> list[StoredErasure]:
    """The erasures that were known at a position, by number."""
    found = (erasure_as_of(index, number, as_of) for number in index.keys(_TABLE, as_of))
    return [erasure for erasure in found if erasure is not None]


def erasure_as_of(index: PointIndex, number: int, as_of: int) -> StoredErasure | None:
    """One of them, None when there is none of this number."""
    return stored_erasure(number, index.entries(_TABLE, number, as_of))


def stored_erasure(number: int, records: Iterable[tuple[int, bytes]]) -> StoredErasure | None:
    """One of which these are the records: their positions and payloads, in order."""
    proposed = requested = message = None
    position = Position(0)
    for at, payload in records:
        position, message = Position(at), read_message(retention.Erasure, payload)
        if message.stage == retention.Erasure.PROPOSED:
            proposed = proposed or position
        elif message.stage in IN_EFFECT:
            requested = requested or position
    if message is None:
        return None
    return StoredErasure(number, position, requested, proposed, message)


def actor_at(log: Log, position: int) -> str | None:
    """Who put the record of an erasure, hold or rule, which is never erased itself."""
    (batch,) = log.scan(position - 1, position, ["actor"])
    actor: str | None = batch["actor"][0].as_py()
    return actor


def in_effect(index: PointIndex, as_of: int) -> list[StoredErasure]:
    """The erasures that were in effect at a position, by number."""
    return [e for e in erasures_as_of(index, as_of) if e.requested_at is not None]


def erased_as_of(index: PointIndex, as_of: int) -> Erased:
    """What they erase together."""
    return all_erased(in_effect(index, as_of))


def all_erased(erasures: Iterable[StoredErasure]) -> Erased:
    """What some erasures erase together."""
    return erased_by(given for erasure in erasures for given in erasure.message.ranges)


def erased_by(ranges: Iterable[retention.ErasedRange]) -> Erased:
    """The records that some ranges are of."""
    known = list(ranges)
    return Erased(
        Spans.of((r.first_position, r.last_position) for r in known if r.content),
        Spans.of((r.first_position, r.last_position) for r in known if r.who),
    )
