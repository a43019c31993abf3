"""Retention rules: how long records are kept at least, and at most."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from eventstore.answers import RuleAnswer, Scope
from eventstore.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from eventstore.log import Log
from eventstore.log.kinds import RETENTION_RULE
from eventstore.log.retention_stages import SECONDS_MAX
from eventstore.proto import retention_pb2
from eventstore.retention.codes import check_code
from eventstore.retention.guards import Recorded, all_versions, versions
from eventstore.retention.scope_check import check_scope
from eventstore.retention.scopes import message_of, scope_of
from eventstore.store import Engine
from eventstore.store.snapshot import Snapshot
from eventstore.store.transaction import Transaction
from eventstore.times import moment_of
from eventstore.wording import duration


def put_rule(
    engine: Engine,
    scope: Scope,
    *,
    keep_at_least: timedelta | None = None,
    keep_at_most: timedelta | None = None,
    includes_current: bool = False,
    needs_approval: bool = False,
    basis: str,
    ticket: str = "",
    number: int | None = None,
) -> int:
    """Record a rule, or put another one in the place of that with a number; its number.

    What an earlier version of the rule locks stays locked, so the lock only ever lengthens. Raises
    InvalidArgumentError for a rule that says nothing or contradicts itself, NotFoundError for an
    unknown number, FailedPreconditionError for a shorter lock, for a rule that asks for a second
    person no more, and for one that was withdrawn.
    """
    check_code("basis", basis, is_required=True)
    check_code("ticket", ticket)
    at_least = _seconds("keep_at_least", keep_at_least)
    at_most = _seconds("keep_at_most", keep_at_most)
    _refuse_senseless(at_least, at_most, includes_current, needs_approval)

    def put(transaction: Transaction, _: Any) -> int:
        check_scope(engine.log, transaction, scope)
        known = [] if number is None else _known(transaction, number)
        message = retention_pb2.RetentionRule(
            id=number or transaction.next_ids(RETENTION_RULE.sequence)[0],
            scope=message_of(scope),
            keep_at_least_seconds=at_least,
            keep_at_most_seconds=at_most,
            includes_current=includes_current,
            needs_approval=needs_approval,
            basis=basis,
            ticket=ticket,
        )
        _write(transaction, message, known)
        return int(message.id)

    recorded: int = engine.put(put, None)
    return recorded


def withdraw_rule(engine: Engine, number: int, *, ticket: str) -> RuleAnswer:
    """End a rule: nothing expires by it any more, and what is recorded later is not locked by it.

    Raises NotFoundError for an unknown rule, FailedPreconditionError for one withdrawn before,
    InvalidArgumentError for a ticket that is no code.
    """
    check_code("ticket", ticket, is_required=True)

    def put(transaction: Transaction, _: Any) -> None:
        known = _known(transaction, number)
        message = retention_pb2.RetentionRule()
        message.CopyFrom(known[-1].message)
        message.is_withdrawn, message.ticket = True, ticket
        _write(transaction, message, known)

    engine.put(put, None)
    return rule(engine.log, engine.snapshot(), number)


def rule(log: Log, snapshot: Snapshot, number: int) -> RuleAnswer:
    """A rule as of a snapshot. Raises NotFoundError for an unknown one."""
    return _answer(log, _known(snapshot, number))


def rules(log: Log, snapshot: Snapshot) -> list[RuleAnswer]:
    """All rules as of a snapshot, by number, withdrawn ones, too."""
    return [_answer(log, known) for known in all_versions(snapshot, RETENTION_RULE)]


def _seconds(name: str, span: timedelta | None) -> int | None:
    if span is None:
        return None
    seconds = span // timedelta(seconds=1) if isinstance(span, timedelta) else 0
    if not 0 < seconds <= SECONDS_MAX:
        raise InvalidArgumentError(
            f"{name} is {span!r}: use a timedelta of a second to a thousand years"
        )
    return seconds


def _refuse_senseless(
    at_least: int | None, at_most: int | None, includes_current: bool, needs_approval: bool
) -> None:
    if at_least is None and at_most is None and not needs_approval:
        raise InvalidArgumentError(
            "the rule says nothing: give keep_at_least, keep_at_most or needs_approval"
        )
    if includes_current and at_most is None:
        raise InvalidArgumentError("includes_current is about keep_at_most: give that, too")
    if at_least is not None and at_most is not None and at_most < at_least:
        raise InvalidArgumentError(
            f"keep_at_most ({duration(at_most)}) is shorter than keep_at_least "
            f"({duration(at_least)}): nothing could be done about both"
        )


def _write(
    transaction: Transaction, message: retention_pb2.RetentionRule, known: list[Recorded]
) -> None:
    if not known:
        transaction.write(RETENTION_RULE, message)
        return
    _refuse_weaker(known, message.keep_at_least_seconds, message.needs_approval)
    previous = (known[-1].position, known[-1].payload)
    transaction.write(RETENTION_RULE, message, previous=previous)


def check_replacement(
    snapshot: Snapshot, number: int, keep_at_least: timedelta | None, needs_approval: bool
) -> None:
    """Raise what `put_rule` raises for a rule in the place of that with a number."""
    at_least = _seconds("keep_at_least", keep_at_least)
    _refuse_weaker(_known(snapshot, number), at_least or 0, needs_approval)


def _refuse_weaker(known: list[Recorded], at_least: int, needs_approval: bool) -> None:
    current: retention_pb2.RetentionRule = known[-1].message
    if current.is_withdrawn:
        raise FailedPreconditionError(
            f"retention rule {current.id} was withdrawn at position {known[-1].position}: record "
            "another one"
        )
    longest = max(recorded.message.keep_at_least_seconds for recorded in known)
    if at_least < longest:
        raise FailedPreconditionError(
            f"retention rule {current.id} keeps records at least {duration(longest)}, and a lock "
            "only ever lengthens: withdraw the rule and record another one for what comes later"
        )
    if current.needs_approval and not needs_approval:
        raise FailedPreconditionError(
            f"retention rule {current.id} asks for a second person's approval, and that stays so: "
            "withdraw the rule and record another one for what comes later"
        )


def _known(snapshot: Snapshot, number: int) -> list[Recorded]:
    known = versions(snapshot, RETENTION_RULE, number)
    if not known:
        raise NotFoundError(f"there is no retention rule {number}")
    return known


def _answer(log: Log, known: list[Recorded]) -> RuleAnswer:
    current: retention_pb2.RetentionRule = known[-1].message
    return RuleAnswer(
        number=current.id,
        scope=scope_of(current.scope),
        keep_at_least_seconds=current.keep_at_least_seconds or None,
        keep_at_most_seconds=current.keep_at_most_seconds or None,
        includes_current=current.includes_current,
        needs_approval=current.needs_approval,
        basis=current.basis,
        ticket=current.ticket,
        is_withdrawn=current.is_withdrawn,
        recorded_at=moment_of(log.recorded_at(known[-1].position)),
        position=known[-1].position,
    )
