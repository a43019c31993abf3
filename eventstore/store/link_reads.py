"""Reads of events and of what is linked to contexts. What answers an RPC fills its response."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

from eventstore.cancellation import current_waiter
from eventstore.errors import InvalidArgumentError, NotFoundError
from eventstore.log.kinds import CONTEXT, NodeKind
from eventstore.projections.index_tables import CONTEXTS_OF, PARENTS_BY_CONTEXT
from eventstore.projections.lineage import events_of
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store.snapshot import Snapshot, distinct_ids
from eventstore.store.wire import fill_repeated

_IDS_AT_ONCE: Final = 1024


def get_events(snapshot: Snapshot, kind: NodeKind, request: Any, response: Any) -> None:
    node_ids = getattr(request, f"{kind.name}_ids")
    waiter = current_waiter()
    remaining = iter(distinct_ids(node_ids))
    # Some at a time, so that what is too long is noticed before all of it is in memory.
    while ids := [*islice(remaining, _IDS_AT_ONCE)]:
        events = events_of(snapshot.index, snapshot.position, kind, ids)
        if waiter is not None:
            waiter.take(sum(event.ByteSize() for event in events))
        response.events.extend(events)


def get_contexts_of(snapshot: Snapshot, kind: NodeKind, request: Any, response: Any) -> None:
    node_id = getattr(request, f"{kind.name}_id")
    context_ids = snapshot.linked_ids(CONTEXTS_OF[kind], node_id)
    if not context_ids:
        raise NotFoundError(f"{kind.name} {node_id} is in no context")
    fill_repeated(response, "contexts", _context_payloads(snapshot, context_ids))


def get_relatives(snapshot: Snapshot, table: int, request: Any, response: Any) -> None:
    """The parents or children of a context, whichever the table is of."""
    context_ids = snapshot.linked_ids(table, request.context_id)
    fill_repeated(response, "contexts", _context_payloads(snapshot, context_ids))


def get_relatives_of_each(snapshot: Snapshot, table: int, request: Any, response: Any) -> None:
    """The parents or children of some contexts, whichever the table is of."""
    if not request.context_ids:
        raise InvalidArgumentError("the request names no context: fill context_ids")
    field = "parent_contexts" if table == PARENTS_BY_CONTEXT else "children_contexts"
    for context_id in sorted(set(request.context_ids)):
        ids = snapshot.linked_ids(table, context_id)
        if ids:
            payloads = _context_payloads(snapshot, ids)
            fill_repeated(response.contexts[context_id], field, payloads)


def events_of_nodes(
    snapshot: Snapshot, kind: NodeKind, node_ids: Iterable[int]
) -> list[mlmd.Event]:
    """The events of some nodes in the order of `lineage.events_of`, those of each node once."""
    return events_of(snapshot.index, snapshot.position, kind, distinct_ids(node_ids))


def _context_payloads(snapshot: Snapshot, context_ids: Iterable[int]) -> list[bytes]:
    payloads = (snapshot.node_payload(CONTEXT, context_id) for context_id in context_ids)
    return [payload for payload in payloads if payload is not None]
