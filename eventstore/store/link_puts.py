"""Puts of links: events, attributions, associations and parent contexts. Links never change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from eventstore.errors import AlreadyExistsError, InvalidArgumentError
from eventstore.log.kinds import (
    ARTIFACT,
    ASSOCIATION,
    ATTRIBUTION,
    CONTEXT,
    EXECUTION,
    PARENT_CONTEXT,
    NodeKind,
)
from eventstore.projections import index_tables as tables
from eventstore.projections.index_tables import CONTEXTS_OF, TABLES_OF, event_key
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store.transaction import Transaction

if TYPE_CHECKING:
    from eventstore.proto import metadata_store_service_pb2 as service

_TO_CONTEXTS: Final = {ARTIFACT: ATTRIBUTION, EXECUTION: ASSOCIATION}


def put_events(
    transaction: Transaction, request: service.PutEventsRequest, _: service.PutEventsResponse
) -> None:
    put_all_events(transaction, request.events)


def put_all_events(transaction: Transaction, events: Sequence[mlmd.Event]) -> None:
    """Append events; the time of those that have none becomes now."""
    artifact_ids = [event.artifact_id for event in events]
    execution_ids = [event.execution_id for event in events]
    keys = [*map(event_key, artifact_ids, execution_ids, [event.type for event in events])]
    if len(events) > 1:
        # Looking up each by itself would be most of the cost of putting many.
        transaction.note_known(TABLES_OF[ARTIFACT].stored, artifact_ids)
        transaction.note_known(TABLES_OF[EXECUTION].stored, execution_ids)
        transaction.note_known(tables.EVENT_KEYS, keys)
    for event, artifact_id, execution_id, key in zip(
        events, artifact_ids, execution_ids, keys, strict=True
    ):
        _put_event(transaction, event, artifact_id, execution_id, key)


def put_attributions_and_associations(
    transaction: Transaction,
    request: service.PutAttributionsAndAssociationsRequest,
    _: service.PutAttributionsAndAssociationsResponse,
) -> None:
    artifacts = [(link.context_id, link.artifact_id) for link in request.attributions]
    executions = [(link.context_id, link.execution_id) for link in request.associations]
    for kind, links in ((ARTIFACT, artifacts), (EXECUTION, executions)):
        if len(links) > 1:
            transaction.note_known(TABLES_OF[CONTEXT].stored, [id_ for id_, _ in links])
            node_ids = [node_id for _, node_id in links]
            transaction.note_known(TABLES_OF[kind].stored, node_ids)
            transaction.note_known(CONTEXTS_OF[kind], node_ids)
        link = f"an {_TO_CONTEXTS[kind].name}"
        for context_id, node_id in links:
            _require(transaction, CONTEXT, context_id, link)
            _require(transaction, kind, node_id, link)
            put_in_context(transaction, context_id, kind, node_id)


def put_parent_contexts(
    transaction: Transaction,
    request: service.PutParentContextsRequest,
    _: service.PutParentContextsResponse,
) -> None:
    for link in request.parent_contexts:
        for field in ("child_id", "parent_id"):
            if not link.HasField(field):
                raise InvalidArgumentError(f"a parent context link has no {field}: set it")
        child, parent = link.child_id, link.parent_id
        _require(transaction, CONTEXT, child, "a parent context link")
        _require(transaction, CONTEXT, parent, "a parent context link")
        if parent in transaction.linked_ids(tables.PARENTS_BY_CONTEXT, child):
            raise AlreadyExistsError(f"context {parent} is already a parent of context {child}")
        if _is_self_or_descendant(transaction, parent, of=child):
            raise InvalidArgumentError(
                f"context {parent} cannot be a parent of context {child}: it is that context or "
                "one of its descendants, and parent contexts must not form a cycle"
            )
        transaction.write(PARENT_CONTEXT, mlmd.ParentContext(child_id=child, parent_id=parent))


def _put_event(
    transaction: Transaction, event: mlmd.Event, artifact_id: int, execution_id: int, key: int
) -> None:
    for field, node_id in (("artifact_id", artifact_id), ("execution_id", execution_id)):
        if not node_id and not event.HasField(field):
            raise InvalidArgumentError(
                f"an event has no {field}: set it to the id of a stored node"
            )
    if event.type == mlmd.Event.UNKNOWN:
        raise InvalidArgumentError(
            f"the event of artifact {artifact_id} and execution {execution_id} has no "
            "type: set one other than UNKNOWN"
        )
    _require(transaction, ARTIFACT, artifact_id, "an event")
    _require(transaction, EXECUTION, execution_id, "an event")
    if transaction.may_be_known(tables.EVENT_KEYS, key):
        _refuse_known_event(transaction, event, key)
    stored = mlmd.Event()
    stored.CopyFrom(event)
    stored.DiscardUnknownFields()
    stored.ClearField("system_metadata")
    if stored.HasField("path"):
        _normalise_path(stored)
    if not stored.HasField("milliseconds_since_epoch"):
        stored.milliseconds_since_epoch = transaction.now_ms()
    transaction.write_event(stored, artifact_id, execution_id, key)


def put_in_context(transaction: Transaction, context_id: int, kind: NodeKind, node_id: int) -> None:
    """Link a context and an artifact or execution, unless they are linked already."""
    table = CONTEXTS_OF[kind]
    is_linked = transaction.may_be_known(table, node_id) and (
        context_id in transaction.ids(table, node_id)
    )
    if not is_linked:
        link = _TO_CONTEXTS[kind]
        message = link.message(context_id=context_id, **{f"{kind.name}_id": node_id})
        transaction.write(link, message)


def _is_self_or_descendant(transaction: Transaction, context_id: int, *, of: int) -> bool:
    reached, frontier = {of}, [of]
    while frontier:
        if context_id in reached:
            return True
        children = transaction.linked_ids(tables.CHILDREN_BY_CONTEXT, frontier.pop())
        frontier.extend(child for child in children if child not in reached)
        reached.update(children)
    return context_id in reached


def _refuse_known_event(transaction: Transaction, event: mlmd.Event, key: int) -> None:
    artifact_id = event.artifact_id
    if artifact_id not in transaction.ids(tables.EVENT_KEYS, key):
        return
    given = (artifact_id, event.execution_id, event.type)
    for _, payload in transaction.entries(tables.EVENTS_BY_ARTIFACT, artifact_id):
        known = mlmd.Event.FromString(payload)
        if (known.artifact_id, known.execution_id, known.type) == given:
            raise AlreadyExistsError(
                f"artifact {artifact_id} and execution {event.execution_id} already have an "
                f"event of type {mlmd.Event.Type.Name(event.type)}"
            )


def _require(transaction: Transaction, kind: NodeKind, node_id: int, link: str) -> None:
    if not transaction.exists(kind, node_id):
        raise InvalidArgumentError(
            f"{link} names {kind.name} {node_id}, which does not exist: put the node first"
        )


def _normalise_path(event: mlmd.Event) -> None:
    """Drop steps without index and key, and a path without steps: they read back as absent."""
    steps = [step for step in event.path.steps if step.WhichOneof("value") is not None]
    if not steps:
        event.ClearField("path")
    elif len(steps) < len(event.path.steps):
        kept = mlmd.Event.Path(steps=steps)
        event.path.CopyFrom(kept)
