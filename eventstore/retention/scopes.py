"""Which nodes, links and types a rule or a hold is about, at any moment since it was recorded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise

import msgspec

from eventstore.answers import Scope
from eventstore.errors import InvalidArgumentError
from eventstore.log.kinds import (
    CONTEXT,
    LinkKind,
    NodeKind,
    TypeKind,
)
from eventstore.log.readable import read_message
from eventstore.log.record import Position
from eventstore.projections.filter import FilterSql, compile_filter
from eventstore.projections.index_tables import (
    CHILDREN_BY_CONTEXT,
    CONTEXTS_OF,
    EVENTS_OF,
    MEMBERS_OF,
    PARENTS_BY_CONTEXT,
    TABLES_OF,
    decode_id,
)
from eventstore.projections.listing import Listing, NodeIds
from eventstore.proto import retention_pb2
from eventstore.store.snapshot import Snapshot


def new_scope(
    kinds: Sequence[str],
    type_ids: Sequence[int],
    context_ids: Sequence[int],
    entities: Sequence[tuple[str, int]],
    filter_query: str,
) -> Scope:
    """A scope of what a caller gives. Raises InvalidArgumentError for values of other types."""
    try:
        return msgspec.convert(
            {
                "kinds": _listed("kinds", kinds),
                "type_ids": _listed("type_ids", type_ids),
                "context_ids": _listed("context_ids", context_ids),
                "entities": _listed("entities", entities),
                "filter_query": filter_query,
            },
            Scope,
        )
    except msgspec.ValidationError as error:
        raise InvalidArgumentError(f"the scope is none: {error}") from None


def _listed(name: str, values: Sequence[object]) -> list[object]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise InvalidArgumentError(f"{name} is {values!r}: give a list")
    return list(values)


def message_of(scope: Scope) -> retention_pb2.Scope:
    """A scope as it is recorded."""
    return retention_pb2.Scope(
        kinds=scope.kinds,
        type_ids=scope.type_ids,
        context_ids=scope.context_ids,
        entities=[retention_pb2.Entity(kind=kind, id=id_) for kind, id_ in scope.entities],
        filter=scope.filter_query,
    )


def scope_of(message: retention_pb2.Scope) -> Scope:
    """A scope as it was recorded."""
    return Scope(
        kinds=tuple(message.kinds),
        type_ids=tuple(message.type_ids),
        context_ids=tuple(message.context_ids),
        entities=tuple((entity.kind, entity.id) for entity in message.entities),
        filter_query=message.filter,
    )


def nodes_in_scope(
    snapshot: Snapshot, scope: Scope, kind: NodeKind, node_ids: Collection[int], since: int
) -> set[int]:
    """Those of some nodes that the scope was about at any position from `since` to the snapshot's.

    Whoever changes what a filter looks at does not get a node out of its scope. A context by which
    a filter finds others is in scope with them: erased, it would tell no more that they are.
    """
    found = _fitting(snapshot, scope, kind, node_ids, since)
    if kind is CONTEXT and "contexts_" in scope.filter_query:
        found |= {
            context_id
            for context_id in set(node_ids) - found
            if any(
                _fitting(snapshot, scope, of, ids, since)
                for of, ids in nodes_beside(snapshot, context_id).items()
            )
        }
    return found


def nodes_beside(snapshot: Snapshot, context_id: int) -> dict[NodeKind, set[int]]:
    """The nodes in a context, and its parents and children: whose filters look at it."""
    found = {kind: set(snapshot.ids(table, context_id)) for kind, table in MEMBERS_OF.items()}
    relatives = (PARENTS_BY_CONTEXT, CHILDREN_BY_CONTEXT)
    found[CONTEXT] = {id_ for table in relatives for id_ in snapshot.ids(table, context_id)}
    return found


def _fitting(
    snapshot: Snapshot, scope: Scope, kind: NodeKind, node_ids: Collection[int], since: int
) -> set[int]:
    if scope.kinds and kind.name not in scope.kinds:
        return set()
    found = set(node_ids)
    if scope.entities:
        found &= {id_ for of_kind, id_ in scope.entities if of_kind == kind.name}
    if scope.context_ids:
        contexts = set(scope.context_ids)
        found = {id_ for id_ in found if not contexts.isdisjoint(_contexts(snapshot, kind, id_))}
    if scope.type_ids:
        wanted = set(scope.type_ids)
        found = {id_ for id_ in found if type_id_of(snapshot, kind, id_) in wanted}
    if scope.filter_query and found:
        found = _found_by_filter(snapshot, scope.filter_query, kind, found, since)
    return found


def is_link_in_scope(
    scope: Scope,
    entities: AbstractSet[tuple[str, int]],
    kind: LinkKind,
    entity_id: int,
    context_ids: set[int],
) -> bool:
    """Whether the scope is about a link by itself; `context_ids` are those that it leads to.

    `entities` are the scope's: there may be very many.
    """
    return (
        (not scope.kinds or kind.name in scope.kinds)
        and (not entities or (kind.name, entity_id) in entities)
        and (not scope.context_ids or not context_ids.isdisjoint(scope.context_ids))
        and not scope.type_ids
        and not scope.filter_query
    )


def is_type_in_scope(
    scope: Scope, entities: AbstractSet[tuple[str, int]], kind: TypeKind, type_id: int
) -> bool:
    """Whether the scope, with these entities, is about a type by itself."""
    return (
        (not scope.kinds or kind.name in scope.kinds)
        and (not entities or (kind.name, type_id) in entities)
        and (not scope.type_ids or type_id in scope.type_ids)
        and not scope.context_ids
        and not scope.filter_query
    )


def _contexts(snapshot: Snapshot, kind: NodeKind, node_id: int) -> Sequence[int]:
    if kind is CONTEXT:
        return (node_id,)
    return snapshot.ids(CONTEXTS_OF[kind], node_id)


def type_id_of(snapshot: Snapshot, kind: NodeKind, node_id: int) -> int | None:
    """The type of a node, which stays; None where there is none of this id."""
    payload = snapshot.node_payload(kind, node_id)
    return None if payload is None else int(read_message(kind.message, payload).type_id)


def _found_by_filter(
    snapshot: Snapshot, text: str, kind: NodeKind, node_ids: set[int], since: int
) -> set[int]:
    try:
        where = compile_filter(text, kind.name)
    except InvalidArgumentError:
        # It is for nodes of another kind.
        return set()
    found: set[int] = set()
    for position in (snapshot.position, min(since, snapshot.position)):
        found |= _holding(snapshot, where, kind, node_ids - found, position)
    for position, ids in _moments(snapshot, kind, node_ids - found, since).items():
        found |= _holding(snapshot, where, kind, ids - found, position)
    return found


def _moments(
    snapshot: Snapshot, kind: NodeKind, node_ids: Collection[int], since: int
) -> dict[int, set[int]]:
    """As few positions as there can be at which to look at nodes, to see each as it ever was.

    How it was at `since` and how it is now are left out.
    """
    stretches = sorted(
        (after - 1, first, node_id)
        for node_id in node_ids
        for first, after in pairwise(_turning_points(snapshot, kind, node_id, since))
    )
    found: dict[int, set[int]] = {}
    position = 0
    for last, first, node_id in stretches:
        if first > position:
            position = last
        found.setdefault(position, set()).add(node_id)
    return found


def _holding(
    snapshot: Snapshot, where: FilterSql, kind: NodeKind, node_ids: set[int], position: int
) -> set[int]:
    """The nodes that a filter holds for as of a position, and those it cannot be computed for."""
    if not node_ids:
        return set()
    among = NodeIds(sorted(node_ids))
    listing = Listing(kind, Position(position), among=among, where=where)
    try:
        return {node_id for node_id, _ in snapshot.projections.planner.find(listing).rows}
    except InvalidArgumentError:
        # Such as an overflow of one of them. It is not to be a way out of a hold.
        if len(node_ids) == 1:
            return node_ids
        half = len(node_ids) // 2
        return _holding(snapshot, where, kind, {*among.node_ids[:half]}, position) | _holding(
            snapshot, where, kind, {*among.node_ids[half:]}, position
        )


def _turning_points(snapshot: Snapshot, kind: NodeKind, node_id: int, since: int) -> Iterable[int]:
    """The positions after `since` at which what a filter says of a node may have changed.

    A filter of MLMD looks at the node, its events and contexts, and at a context's relatives.
    """
    positions = {position for position, _ in snapshot.entries(TABLES_OF[kind].stored, node_id)}
    related: set[int] = set()
    link_tables: tuple[int, ...] = (PARENTS_BY_CONTEXT, CHILDREN_BY_CONTEXT)
    if kind is not CONTEXT:
        link_tables = (CONTEXTS_OF[kind],)
        positions.update(p for p, _ in snapshot.entries(EVENTS_OF[kind], node_id))
    for table in link_tables:
        for position, value in snapshot.entries(table, node_id):
            positions.add(position)
            related.add(decode_id(value))
    for context_id in related:
        stored = TABLES_OF[CONTEXT].stored
        positions.update(position for position, _ in snapshot.entries(stored, context_id))
    return sorted(position for position in positions if position > since)
