"""PutExecution and PutLineageSubgraph: nodes, events and context links in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from eventstore.errors import InvalidArgumentError, NotFoundError, OutOfRangeError
from eventstore.log.kinds import ARTIFACT, CONTEXT, EXECUTION, Node, NodeKind
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store.link_puts import put_all_events, put_in_context
from eventstore.store.node_puts import (
    check_properties,
    describe,
    put_node,
    put_nodes,
    require_type_id,
    validated_type,
)
from eventstore.store.transaction import Transaction

if TYPE_CHECKING:
    from eventstore.proto import metadata_store_service_pb2 as service

NO_ARTIFACT_ID = -1
"""Answered by PutExecution for a pair with neither artifact nor event, as upstream does."""


def put_execution(
    transaction: Transaction,
    request: service.PutExecutionRequest,
    response: service.PutExecutionResponse,
) -> None:
    if not request.HasField("execution"):
        raise InvalidArgumentError("the request has no execution: set it")
    options = request.options
    pairs = request.artifact_event_pairs
    artifact_ids = [
        put_node(transaction, ARTIFACT, _reused_artifact(transaction, pair.artifact, options))
        if pair.HasField("artifact")
        else None
        for pair in pairs
    ]
    execution_id = put_node(
        transaction, EXECUTION, request.execution, force_update_time=options.force_update_time
    )
    for index, pair in enumerate(pairs):
        if pair.HasField("event"):
            event = _event_of_pair(pair, artifact_ids[index], execution_id)
            put_all_events(transaction, [event])
            artifact_ids[index] = event.artifact_id
    context_ids = []
    linked_artifact_ids = [id_ for id_ in artifact_ids if id_ is not None]
    for context in request.contexts:
        context_id = _put_or_reuse_context(
            transaction,
            context,
            reuse=options.reuse_context_if_already_exist,
            reuse_by_id=options.force_reuse_context,
        )
        context_ids.append(context_id)
        put_in_context(transaction, context_id, EXECUTION, execution_id)
        for artifact_id in linked_artifact_ids:
            put_in_context(transaction, context_id, ARTIFACT, artifact_id)
    response.execution_id = execution_id
    response.artifact_ids.extend(NO_ARTIFACT_ID if id_ is None else id_ for id_ in artifact_ids)
    response.context_ids.extend(context_ids)


def put_lineage_subgraph(
    transaction: Transaction,
    request: service.PutLineageSubgraphRequest,
    response: service.PutLineageSubgraphResponse,
) -> None:
    for edge in request.event_edges:
        if not edge.HasField("event"):
            raise InvalidArgumentError("an event edge has no event: set it")
        _check_edge_end(EXECUTION, edge, request.executions)
        _check_edge_end(ARTIFACT, edge, request.artifacts)
    for kind, nodes in (
        (ARTIFACT, request.artifacts),
        (EXECUTION, request.executions),
        (CONTEXT, request.contexts),
    ):
        # First all type ids, then all types, then all properties: so the first error is upstream's.
        for node in nodes:
            require_type_id(kind, node)
        types = [validated_type(transaction, kind, node) for node in nodes]
        for node, node_type in zip(nodes, types, strict=True):
            check_properties(kind, node, node_type)
    options = request.options
    context_ids = [
        _put_or_reuse_context(transaction, context, reuse=options.reuse_context_if_already_exist)
        for context in request.contexts
    ]
    # All external ids are looked up before the first insert: one that occurs twice in the request
    # is a conflict, not a reuse.
    artifacts = [_reused_artifact(transaction, given, options) for given in request.artifacts]
    artifact_ids = put_nodes(transaction, ARTIFACT, artifacts)
    execution_ids = put_nodes(transaction, EXECUTION, request.executions)
    for context_id in context_ids:
        for artifact_id in artifact_ids:
            put_in_context(transaction, context_id, ARTIFACT, artifact_id)
        for execution_id in execution_ids:
            put_in_context(transaction, context_id, EXECUTION, execution_id)
    for edge in request.event_edges:
        event = mlmd.Event()
        event.CopyFrom(edge.event)
        if edge.HasField("execution_index"):
            event.execution_id = execution_ids[edge.execution_index]
        if edge.HasField("artifact_index"):
            event.artifact_id = artifact_ids[edge.artifact_index]
        put_all_events(transaction, [event])
    response.execution_ids.extend(execution_ids)
    response.artifact_ids.extend(artifact_ids)
    response.context_ids.extend(context_ids)


def _event_of_pair(
    pair: service.PutExecutionRequest.ArtifactAndEvent, artifact_id: int | None, execution_id: int
) -> mlmd.Event:
    """The pair's event with both ids filled in; the ids that it carries must agree."""
    event = mlmd.Event()
    event.CopyFrom(pair.event)
    if event.HasField("execution_id") and event.execution_id != execution_id:
        raise InvalidArgumentError(
            f"an event names execution {event.execution_id}, the request puts execution "
            f"{execution_id}: leave execution_id out of the event"
        )
    event.execution_id = execution_id
    if artifact_id is None:
        if not event.HasField("artifact_id"):
            raise InvalidArgumentError(
                "an event without an artifact beside it has no artifact_id: set one of the two"
            )
        return event
    if event.HasField("artifact_id") and event.artifact_id != artifact_id:
        raise InvalidArgumentError(
            f"an event names artifact {event.artifact_id}, the artifact beside it is {artifact_id}"
        )
    event.artifact_id = artifact_id
    return event


def _reused_artifact(
    transaction: Transaction, artifact: mlmd.Artifact, options: Any
) -> mlmd.Artifact:
    """With the id of the stored artifact that has its external id, if the options ask for that."""
    is_asked_for = options.reuse_artifact_if_already_exist_by_external_id
    if not is_asked_for or artifact.HasField("id") or not artifact.external_id:
        return artifact
    stored_id = transaction.id_by_external_id(ARTIFACT, artifact.external_id)
    if stored_id is None:
        return artifact
    reused = mlmd.Artifact()
    reused.CopyFrom(artifact)
    reused.id = stored_id
    return reused


def _put_or_reuse_context(
    transaction: Transaction, context: mlmd.Context, *, reuse: bool, reuse_by_id: bool = False
) -> int:
    if reuse_by_id and context.HasField("id"):
        if not transaction.exists(CONTEXT, context.id):
            raise NotFoundError(
                f"Results missing for ids: {{{context.id}}}. Found results for {{}}: no context "
                "has this id, so it cannot be reused"
            )
        return context.id
    if not context.HasField("type_id") or not context.HasField("name"):
        raise InvalidArgumentError(
            f"{describe(CONTEXT, context)} needs both type_id and name in this request"
        )
    if not context.HasField("id") and reuse:
        stored_id = transaction.node_id_by_name(CONTEXT, context.type_id, context.name)
        if stored_id is not None:
            return stored_id
    return put_node(transaction, CONTEXT, context)


def _check_edge_end(kind: NodeKind, edge: Any, nodes: Sequence[Node]) -> None:
    index_field, id_field = f"{kind.name}_index", f"{kind.name}_id"
    has_id = edge.event.HasField(id_field)
    if not edge.HasField(index_field):
        if not has_id:
            raise InvalidArgumentError(
                f"an event edge names no {kind.name}: set {index_field} or the event's {id_field}"
            )
        return
    index = getattr(edge, index_field)
    if not 0 <= index < len(nodes):
        raise OutOfRangeError(
            f"an event edge has {index_field} {index}, the request {len(nodes)} {kind.plural}"
        )
    if has_id and (
        not nodes[index].HasField("id") or nodes[index].id != getattr(edge.event, id_field)
    ):
        raise InvalidArgumentError(
            f"an event edge names {kind.name} {getattr(edge.event, id_field)} and, by index "
            f"{index}, another one: leave one of the two out"
        )
