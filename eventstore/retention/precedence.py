"""What forbids an erasure: a hold, then a lock. Whatever else asks for one comes after these."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain

import msgspec

from eventstore.answers import Refusal, Scope
from eventstore.errors import FailedPreconditionError
from eventstore.log import Log
from eventstore.log.kinds import (
    CONTEXT,
    ENTITY_KINDS,
    NODE_KINDS,
    LinkKind,
    NodeKind,
    TypeKind,
)
from eventstore.log.record import LATEST
from eventstore.projections.index_tables import TABLES_OF
from eventstore.projections.listing import Listing
from eventstore.proto import retention_pb2
from eventstore.retention.downstream import Downstream
from eventstore.retention.guards import Recorded, holds_in_force, rule_versions
from eventstore.retention.scopes import (
    is_link_in_scope,
    is_type_in_scope,
    nodes_beside,
    nodes_in_scope,
    scope_of,
)
from eventstore.store.snapshot import Snapshot
from eventstore.times import Microseconds, moment_of

_MICROSECONDS = 1_000_000
_NAMED_MAX = 5
"""How many refusals an error names."""


class ChosenVersion(msgspec.Struct, frozen=True):
    """A record that is to lose its content, or who put it. `ends` are the nodes of a link."""

    kind: str
    id: int
    position: int
    content: bool = True
    who: bool = False
    ends: tuple[tuple[str, int], ...] = ()


def refuse(refusals: Sequence[Refusal]) -> None:
    """Raise FailedPreconditionError that names what forbids an erasure, if anything does."""
    if refusals:
        named = "; ".join(map(str, refusals[:_NAMED_MAX]))
        more = len(refusals) - _NAMED_MAX
        rest = f"; and {more} more" if more > 0 else ""
        raise FailedPreconditionError(f"nothing was erased: {named}{rest}")


def refusals(
    log: Log,
    snapshot: Snapshot,
    chosen: Sequence[ChosenVersion],
    *,
    now: Microseconds | None = None,
) -> list[Refusal]:
    """What forbids the erasure of these records: one refusal a record, a hold before a lock.

    Locks end by the time that is `Log.now`, or by another one that is given.
    """
    if not chosen:
        return []
    found = {refusal.position: refusal for refusal in locks(log, snapshot, chosen, now)}
    found.update((refusal.position, refusal) for refusal in _held(snapshot, chosen))
    return [found[position] for position in sorted(found)]


def approval_demanded(snapshot: Snapshot, chosen: Sequence[ChosenVersion]) -> Recorded | None:
    """The rule by which a second person has to agree to the erasure; None where none says so."""
    for rule in rule_versions(snapshot):
        if rule.message.needs_approval:
            scope = scope_of(rule.message.scope)
            among = [one for one in chosen if _is_bound(rule, one)]
            if _in_scope(snapshot, scope, among, rule.position):
                return rule
    return None


def _is_bound(rule: Recorded, chosen: ChosenVersion) -> bool:
    """Whether a record was there in a rule's time, so that it may be in its scope."""
    end = rule.position if rule.message.is_withdrawn else rule.replaced_at
    return end is None or chosen.position < end


def locks(
    log: Log, snapshot: Snapshot, chosen: Sequence[ChosenVersion], now: Microseconds | None
) -> Iterable[Refusal]:
    """By which rules some records are locked; a record may be locked by several."""
    for rule in rule_versions(snapshot):
        seconds = rule.message.keep_at_least_seconds
        if not seconds:
            continue
        if now is None:
            now = log.now()
        ends = {
            one.position: _last_recorded_at(log, snapshot, rule, one) + seconds * _MICROSECONDS
            for one in chosen
            if _is_bound(rule, one)
        }
        among = [one for one in chosen if ends.get(one.position, 0) > now]
        for one in _in_scope(snapshot, scope_of(rule.message.scope), among, rule.position):
            until = moment_of(Microseconds(min(ends[one.position], LATEST)))
            yield _refusal(rule, one, until)


def _last_recorded_at(
    log: Log, snapshot: Snapshot, rule: Recorded, chosen: ChosenVersion
) -> Microseconds:
    """When the last of the records was put that a rule locks as long as it finds this one.

    What a filter found by one version, or by a context, would not be found without.
    """
    kind, last = ENTITY_KINDS[chosen.kind], chosen.position
    if rule.message.scope.filter and isinstance(kind, NodeKind):
        nodes = {kind: {chosen.id}}
        if kind is CONTEXT:
            beside = nodes_beside(snapshot, chosen.id)
            nodes = {of: ids | nodes.get(of, set()) for of, ids in beside.items()}
        for of, ids in nodes.items():
            newest = snapshot.newest_of_each(TABLES_OF[of].stored, sorted(ids))
            last = max([last, *(position for position, _ in newest.values())])
    return log.recorded_at(last)


def _held(snapshot: Snapshot, chosen: Sequence[ChosenVersion]) -> Iterable[Refusal]:
    holds = list(holds_in_force(snapshot))
    if not holds:
        return
    nodes = _nodes_of(snapshot, chosen)
    downstream = Downstream(snapshot, chain.from_iterable(nodes.values()))
    for first, current in holds:
        scope = scope_of(first.message.scope)
        proposed_at = None if current is first else current.position
        held = downstream.leading_to(
            {
                (kind.name, id_)
                for kind in NODE_KINDS
                for id_ in nodes_in_scope(
                    snapshot, scope, kind, downstream.ids[kind.name], first.position
                )
            }
        )
        named = _named(scope, chosen)
        for one in chosen:
            if one.position in named or not held.isdisjoint(nodes[one.position]):
                yield _refusal(first, one, release_proposed_at=proposed_at)


def _nodes_of(
    snapshot: Snapshot, chosen: Iterable[ChosenVersion]
) -> dict[int, set[tuple[str, int]]]:
    """By position the nodes whose hold covers the record: itself, a link's ends, a type's nodes."""
    found: dict[int, set[tuple[str, int]]] = {}
    for one in chosen:
        kind = ENTITY_KINDS[one.kind]
        if isinstance(kind, LinkKind):
            found[one.position] = set(one.ends)
        elif isinstance(kind, TypeKind):
            of_type = next(node_kind for node_kind in NODE_KINDS if node_kind.type is kind)
            listing = Listing(of_type, snapshot.position, type_id=one.id)
            rows = snapshot.projections.planner.find(listing).rows
            found[one.position] = {(of_type.name, node_id) for node_id, _ in rows}
        else:
            found[one.position] = {(one.kind, one.id)}
    return found


def _in_scope(
    snapshot: Snapshot, scope: Scope, chosen: Sequence[ChosenVersion], since: int
) -> list[ChosenVersion]:
    """Those of the records that a scope is about."""
    node_ids: dict[str, set[int]] = defaultdict(set)
    for one in chosen:
        node_ids[one.kind].add(one.id)
    nodes = {
        (kind.name, id_)
        for kind in NODE_KINDS
        for id_ in nodes_in_scope(snapshot, scope, kind, node_ids[kind.name], since)
    }
    named = _named(scope, chosen)
    return [one for one in chosen if (one.kind, one.id) in nodes or one.position in named]


def _named(scope: Scope, chosen: Iterable[ChosenVersion]) -> set[int]:
    """The positions of those records of links and types that a scope is about by themselves."""
    entities = frozenset(scope.entities)
    return {one.position for one in chosen if _is_named(scope, entities, one)}


def _is_named(scope: Scope, entities: frozenset[tuple[str, int]], chosen: ChosenVersion) -> bool:
    kind = ENTITY_KINDS[chosen.kind]
    if isinstance(kind, LinkKind):
        context_ids = {id_ for of_kind, id_ in chosen.ends if of_kind == CONTEXT.name}
        return is_link_in_scope(scope, entities, kind, chosen.id, context_ids)
    return isinstance(kind, TypeKind) and is_type_in_scope(scope, entities, kind, chosen.id)


def _refusal(
    guard: Recorded,
    chosen: ChosenVersion,
    until: datetime | None = None,
    release_proposed_at: int | None = None,
) -> Refusal:
    is_rule = isinstance(guard.message, retention_pb2.RetentionRule)
    return Refusal(
        by="lock" if is_rule else "hold",
        number=guard.message.id,
        recorded_at_position=guard.position,
        kind=chosen.kind,
        id=chosen.id,
        position=chosen.position,
        basis=guard.message.basis,
        ticket=guard.message.ticket,
        until=until,
        release_proposed_at=release_proposed_at,
    )
