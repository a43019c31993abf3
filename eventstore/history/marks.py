"""What was erased of a record: by which erasure, who asked for it, when, and on which basis."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from operator import attrgetter
from typing import Final
from weakref import WeakKeyDictionary

from eventstore.log import Log
from eventstore.projections.point_index import PointIndex
from eventstore.proto import retention_pb2 as retention
from eventstore.store.erasures import StoredErasure, actor_at, in_effect
from eventstore.times import moment_of

_FIRST: Final = attrgetter("first_position")


@dataclass(frozen=True, slots=True)
class ErasedBy:
    """What an erasure took of a record: its `content`, or of that what is `redacted`, and `who`.

    `number` is the erasure's, `position` that of the record which put it into effect, `actor` who
    did, and `requested_at` when, in UTC. Where it took two persons, they are `proposed_by` and
    `approved_by`, who is the `actor`. `basis` and `ticket` are the codes that were given.
    `replaced_by` is the position of the record with what is left of redacted content.
    """

    number: int
    position: int
    requested_at: datetime
    actor: str | None
    basis: str
    ticket: str
    content: bool
    who: bool
    redacted: tuple[str, ...]
    replaced_by: int | None
    proposed_by: str | None = None
    approved_by: str | None = None

    @property
    def what(self) -> str:
        """What it took, in words: `content`, `owner and who`."""
        content = [", ".join(self.redacted) or "content"] if self.content else []
        return " and ".join([*content, *(["who"] if self.who else [])])

    @property
    def by(self) -> str:
        """Who erased it, in words: `ana`, `proposed by ana, approved by ben`."""
        if self.approved_by is None:
            return self.actor or "somebody unnamed"
        return f"proposed by {self.proposed_by}, approved by {self.approved_by}"


class Marks:
    """The erasures of a store, by the records that they are about."""

    def __init__(self, log: Log, erasures: Iterable[StoredErasure]) -> None:
        self._erasures = [
            _Erasure(log, erasure, sorted(erasure.message.ranges, key=_FIRST))
            for erasure in erasures
        ]

    def of(self, position: int) -> tuple[ErasedBy, ...]:
        """What was erased of a record, the first erasure first."""
        found = (erasure.mark(position) for erasure in self._erasures)
        return tuple(mark for mark in found if mark is not None)

    def replaced_at(self, position: int) -> int | None:
        """Where the erased record is that the one at a position took the place of."""
        return self._replaced.get(position)

    @cached_property
    def _replaced(self) -> dict[int, int]:
        return {
            planned.replaced_by: planned.first_position
            for erasure in self._erasures
            for planned in erasure.ranges
            if planned.replaced_by
        }


class _Erasure:
    def __init__(
        self, log: Log, stored: StoredErasure, ranges: list[retention.ErasedRange]
    ) -> None:
        self._log = log
        self._stored = stored
        self.ranges = ranges
        self._firsts = [planned.first_position for planned in ranges]

    def mark(self, position: int) -> ErasedBy | None:
        before = bisect_right(self._firsts, position) - 1
        if before < 0 or position > self.ranges[before].last_position:
            return None
        planned, (requested_at, actor, proposed_by) = self.ranges[before], self._asked
        return ErasedBy(
            self._stored.number,
            self._stored.requested_at or self._stored.position,
            requested_at,
            actor,
            self._stored.message.basis,
            self._stored.message.ticket,
            planned.content,
            planned.who,
            tuple(planned.redacted_properties),
            planned.replaced_by or None,
            proposed_by,
            None if self._stored.proposed_at is None else actor,
        )

    @cached_property
    def _asked(self) -> tuple[datetime, str | None, str | None]:
        log, proposed = self._log, self._stored.proposed_at
        position = self._stored.requested_at or self._stored.position
        return (
            moment_of(log.recorded_at(position)),
            actor_at(log, position),
            None if proposed is None else actor_at(log, proposed),
        )


_KNOWN: WeakKeyDictionary[PointIndex, tuple[int, Marks]] = WeakKeyDictionary()
"""By index, the newest record of an erasure that was known, and the marks by then."""


def marks_of(log: Log, index: PointIndex) -> Marks:
    """The marks of all erasures that are known by now."""
    newest = index.erasures.position
    known = _KNOWN.get(index)
    if known is None or known[0] != newest:
        made = Marks(log, in_effect(index, index.position))
        known = _KNOWN[index] = newest, made
    return known[1]
