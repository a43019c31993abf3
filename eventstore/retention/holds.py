"""Legal holds: placed, proposed to be released, released. Each step is a record."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from eventstore.answers import Scope
from eventstore.errors import FailedPreconditionError, NotFoundError
from eventstore.log import Log
from eventstore.log.kinds import HOLD
from eventstore.proto import retention_pb2
from eventstore.retention.approval import refuse_same_person
from eventstore.retention.codes import check_code
from eventstore.retention.guards import Recorded, all_versions, versions
from eventstore.retention.scope_check import check_scope
from eventstore.retention.scopes import message_of, scope_of
from eventstore.store import Engine
from eventstore.store.erasures import actor_at
from eventstore.store.snapshot import Snapshot
from eventstore.store.transaction import Transaction
from eventstore.times import moment_of

_STAGES = {
    retention_pb2.Hold.PLACED: "placed",
    retention_pb2.Hold.RELEASE_PROPOSED: "release proposed",
    retention_pb2.Hold.RELEASED: "released",
}


class HoldAnswer(msgspec.Struct, frozen=True):
    """A legal hold: `stage` is `placed`, `release proposed` (it still holds) or `released`.

    `position` is of its last record, `placed_at_position`, `placed_at` (UTC) and `placed_by` are of
    its first. What did not come is None: a proposal, which only a hold that needs approval has, or
    the release. So is who did it where no actor was given.
    """

    number: int
    stage: str
    scope: Scope
    basis: str
    ticket: str
    release_ticket: str
    needs_approval: bool
    placed_at: datetime
    placed_at_position: int
    placed_by: str | None
    release_proposed_at: datetime | None
    release_proposed_by: str | None
    released_at: datetime | None
    released_by: str | None
    position: int


def place_hold(
    engine: Engine, scope: Scope, *, basis: str, ticket: str = "", needs_approval: bool = False
) -> int:
    """Record a hold, in force at once; its number.

    Raises InvalidArgumentError for a scope that nothing can be in, and for codes that are none.
    """
    check_code("basis", basis, is_required=True)
    check_code("ticket", ticket)

    def put(transaction: Transaction, _: Any) -> int:
        check_scope(engine.log, transaction, scope)
        (number,) = transaction.next_ids(HOLD.sequence)
        message = retention_pb2.Hold(
            id=number,
            scope=message_of(scope),
            stage=retention_pb2.Hold.PLACED,
            basis=basis,
            ticket=ticket,
            needs_approval=needs_approval,
        )
        transaction.write(HOLD, message)
        return number

    placed: int = engine.put(put, None)
    return placed


def release_hold(engine: Engine, number: int, *, ticket: str) -> HoldAnswer:
    """End a hold, or propose it where a second person has to agree, who calls this again.

    Raises NotFoundError for an unknown hold, FailedPreconditionError for one that was released, for
    whoever would approve what they proposed or has another ticket, InvalidArgumentError for a
    ticket that is no code.
    """
    check_code("ticket", ticket, is_required=True)

    def put(transaction: Transaction, _: Any) -> None:
        known = _known(transaction, number)
        current: retention_pb2.Hold = known[-1].message
        if current.stage == retention_pb2.Hold.RELEASED:
            raise FailedPreconditionError(
                f"hold {number} was released before, by the record at position {known[-1].position}"
            )
        message = retention_pb2.Hold()
        message.CopyFrom(current)
        message.release_ticket = ticket
        message.stage = retention_pb2.Hold.RELEASED
        # As it was placed, whatever a later record says.
        if known[0].message.needs_approval:
            if current.stage == retention_pb2.Hold.PLACED:
                message.stage = retention_pb2.Hold.RELEASE_PROPOSED
            else:
                what = f"the release of hold {number}"
                refuse_same_person(engine, known[-1].position, what)
                if ticket != current.release_ticket:
                    raise FailedPreconditionError(
                        f"{what} was proposed with the ticket {current.release_ticket!r}, at "
                        f"position {known[-1].position}, and {ticket!r} is another one: approve it "
                        "with the ticket it was proposed with"
                    )
        previous = (known[-1].position, known[-1].payload)
        transaction.write(HOLD, message, previous=previous)

    engine.put(put, None)
    return hold(engine.log, engine.snapshot(), number)


def hold(log: Log, snapshot: Snapshot, number: int) -> HoldAnswer:
    """A hold as of a snapshot. Raises NotFoundError for an unknown one."""
    return _answer(log, _known(snapshot, number))


def holds(log: Log, snapshot: Snapshot) -> list[HoldAnswer]:
    """All holds as of a snapshot, by number, those that were released, too."""
    return [_answer(log, known) for known in all_versions(snapshot, HOLD)]


def _known(snapshot: Snapshot, number: int) -> list[Recorded]:
    known = versions(snapshot, HOLD, number)
    if not known:
        raise NotFoundError(f"there is no hold {number}")
    return known


def _answer(log: Log, known: list[Recorded]) -> HoldAnswer:
    current: retention_pb2.Hold = known[-1].message
    steps = {_STAGES[step.message.stage]: _step(log, step.position) for step in known[1:]}
    placed_at, placed_by = _step(log, known[0].position)
    proposed_at, proposed_by = steps.get("release proposed", (None, None))
    released_at, released_by = steps.get("released", (None, None))
    return HoldAnswer(
        number=current.id,
        stage=_STAGES[current.stage],
        scope=scope_of(known[0].message.scope),
        basis=current.basis,
        ticket=current.ticket,
        release_ticket=current.release_ticket,
        needs_approval=known[0].message.needs_approval,
        placed_at=placed_at,
        placed_at_position=known[0].position,
        placed_by=placed_by,
        release_proposed_at=proposed_at,
        release_proposed_by=proposed_by,
        released_at=released_at,
        released_by=released_by,
        position=known[-1].position,
    )


def _step(log: Log, position: int) -> tuple[datetime, str | None]:
    """When the record at a position was put, and by whom."""
    return moment_of(log.recorded_at(position)), actor_at(log, position)
