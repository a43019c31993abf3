"""Records an erasure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eventstore.log import Log
from eventstore.log.kinds import ERASURE
from eventstore.projections.index_tables import TABLES_OF
from eventstore.proto import retention_pb2 as retention
from eventstore.retention.planning import Plan, Wanted, chosen_versions, plan
from eventstore.retention.precedence import refuse
from eventstore.store.engine import Engine
from eventstore.store.snapshot import Snapshot
from eventstore.store.transaction import Transaction

Choice = Callable[[Snapshot], Plan]
"""Plans an erasure on the state that it is recorded on."""


def plan_of(
    log: Log, entities: Sequence[tuple[str, int]], wanted: Wanted, version: int | None = None
) -> Choice:
    """Plans the erasure of all versions of some entities, or of the one at a position."""

    def choose(snapshot: Snapshot) -> Plan:
        versions = chosen_versions(log, snapshot, entities, wanted, version)
        return plan(log, snapshot, versions, wanted)

    return choose


def request_erasure(engine: Engine, choose: Choice) -> tuple[int | None, Plan]:
    """Record an erasure, which is in effect then; its number and plan.

    The number is None where nothing is left to erase. Raises FailedPreconditionError when anything
    outranks it.
    """

    def put(transaction: Transaction, _: None) -> tuple[int | None, Plan]:
        made = choose(transaction)
        refuse(made.refused)
        return (append_erasure(transaction, made) if made.ranges else None), made

    answer: tuple[int | None, Plan] = engine.put(put, None)
    return answer


def append_erasure(transaction: Transaction, made: Plan) -> int:
    """Draft an erasure that is in effect, and after it the replacements; its number."""
    (number,) = transaction.next_ids(ERASURE.sequence)
    first = transaction.position + len(transaction.drafts) + 2
    transaction.write(ERASURE, made.erasure(number, retention.Erasure.REQUESTED, first))
    for kind, message, base in made.replacements:
        transaction.rely_on(kind, message.id, base)
        before = transaction.newest(TABLES_OF[kind].stored, message.id)
        transaction.write(kind, message, previous=before)
    return number
