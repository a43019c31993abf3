"""Erase what has expired by the rules: one erasure for each rule."""

from __future__ import annotations

from functools import partial

from eventstore.log import Log
from eventstore.log.kinds import RETENTION_RULE
from eventstore.retention.erasing import request_erasure
from eventstore.retention.expiry import due
from eventstore.retention.guards import versions
from eventstore.retention.planning import Plan, Wanted, plan
from eventstore.retention.precedence import ChosenVersion
from eventstore.store import Engine
from eventstore.store.snapshot import Snapshot


def request_expired(engine: Engine) -> list[tuple[int, Plan]]:
    """Record the erasure of all that has expired; the numbers and plans, in the order of the rules.

    What is held, locked or in use stays. Where a rule demands a second person, an erasure is
    proposed. To destroy what is erased is up to the caller.
    """
    rules = sorted({expired.rule for expired in due(engine.log, engine.snapshot()).due})
    # Under one request id the second would be another put. Whoever calls again erases what is left.
    made = (
        request_erasure(engine, partial(_plan, engine.log, number), is_of_request=False)
        for number in rules
    )
    # What another process was faster with is left out.
    return [(number, planned) for number, planned in made if number is not None]


def _plan(log: Log, rule_number: int, snapshot: Snapshot) -> Plan:
    """The erasure of what has expired by a rule, on the state that it is recorded on."""
    expired = [found for found in due(log, snapshot).due if found.rule == rule_number]
    rule = versions(snapshot, RETENTION_RULE, rule_number)[-1]
    wanted = Wanted(
        basis=rule.message.basis, ticket=rule.message.ticket, rule_position=rule.position
    )
    chosen = [ChosenVersion(found.kind, found.id, found.position) for found in expired]
    return plan(log, snapshot, chosen, wanted)
