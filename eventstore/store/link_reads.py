"""Reads of events and of what is linked to contexts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from eventstore.errors import InvalidArgumentError, NotFoundError
from eventstore.log.kinds import CONTEXT
from eventstore.projections import index_tables as tables
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.store.snapshot import Snapshot, distinct_ids
from eventstore.store.wire import fill_repeated

Response = TypeVar("Response", bound=Any)


def get_events_by_artifact_ids(
    snapshot: Snapshot, request: service.GetEventsByArtifactIDsRequest
) -> service.GetEventsByArtifactIDsResponse:
    response = service.GetEventsByArtifactIDsResponse()
    response.events.extend(events_of_artifacts(snapshot, request.artifact_ids))
    return response


def get_events_by_execution_ids(
    snapshot: Snapshot, request: service.GetEventsByExecutionIDsRequest
) -> service.GetEventsByExecutionIDsResponse:
    response = service.GetEventsByExecutionIDsResponse()
    response.events.extend(events_of_executions(snapshot, request.execution_ids))
    return response


def get_contexts_by_artifact(
    snapshot: Snapshot, request: service.GetContextsByArtifactRequest
) -> service.GetContextsByArtifactResponse:
    ids = snapshot.linked_ids(tables.CONTEXTS_BY_ARTIFACT, request.artifact_id)
    if not ids:
        raise NotFoundError(f"artifact {request.artifact_id} is in no context")
    return _fill_contexts(snapshot, ids, service.GetContextsByArtifactResponse())


def get_contexts_by_execution(
    snapshot: Snapshot, request: service.GetContextsByExecutionRequest
) -> service.GetContextsByExecutionResponse:
    ids = snapshot.linked_ids(tables.CONTEXTS_BY_EXECUTION, request.execution_id)
    if not ids:
        raise NotFoundError(f"execution {request.execution_id} is in no context")
    return _fill_contexts(snapshot, ids, service.GetContextsByExecutionResponse())


def get_parent_contexts_by_context(
    snapshot: Snapshot, request: service.GetParentContextsByContextRequest
) -> service.GetParentContextsByContextResponse:
    ids = snapshot.linked_ids(tables.PARENTS_BY_CONTEXT, request.context_id)
    return _fill_contexts(snapshot, ids, service.GetParentContextsByContextResponse())


def get_children_contexts_by_context(
    snapshot: Snapshot, request: service.GetChildrenContextsByContextRequest
) -> service.GetChildrenContextsByContextResponse:
    ids = snapshot.linked_ids(tables.CHILDREN_BY_CONTEXT, request.context_id)
    return _fill_contexts(snapshot, ids, service.GetChildrenContextsByContextResponse())


def get_parent_contexts_by_contexts(
    snapshot: Snapshot, request: service.GetParentContextsByContextsRequest
) -> service.GetParentContextsByContextsResponse:
    response = service.GetParentContextsByContextsResponse()
    for context_id in _asked_contexts(request):
        ids = snapshot.linked_ids(tables.PARENTS_BY_CONTEXT, context_id)
        if ids:
            payloads = _context_payloads(snapshot, ids)
            fill_repeated(response.contexts[context_id], "parent_contexts", payloads)
    return response


def get_children_contexts_by_contexts(
    snapshot: Snapshot, request: service.GetChildrenContextsByContextsRequest
) -> service.GetChildrenContextsByContextsResponse:
    response = service.GetChildrenContextsByContextsResponse()
    for context_id in _asked_contexts(request):
        ids = snapshot.linked_ids(tables.CHILDREN_BY_CONTEXT, context_id)
        if ids:
            payloads = _context_payloads(snapshot, ids)
            fill_repeated(response.contexts[context_id], "children_contexts", payloads)
    return response


def events_of_artifacts(snapshot: Snapshot, artifact_ids: Iterable[int]) -> list[mlmd.Event]:
    """Ordered by artifact id, execution id and event type."""
    events = [
        mlmd.Event.FromString(payload)
        for artifact_id in distinct_ids(artifact_ids)
        for _, payload in snapshot.entries(tables.EVENTS_BY_ARTIFACT, artifact_id)
    ]
    return sorted(events, key=lambda event: (event.artifact_id, event.execution_id, event.type))


def events_of_executions(snapshot: Snapshot, execution_ids: Iterable[int]) -> list[mlmd.Event]:
    """Ordered by execution id and then as they were put."""
    return [
        mlmd.Event.FromString(payload)
        for execution_id in distinct_ids(execution_ids)
        for _, payload in snapshot.entries(tables.EVENTS_BY_EXECUTION, execution_id)
    ]


def _asked_contexts(request: Any) -> list[int]:
    if not request.context_ids:
        raise InvalidArgumentError("the request names no context: fill context_ids")
    return sorted(set(request.context_ids))


def _context_payloads(snapshot: Snapshot, context_ids: Iterable[int]) -> list[bytes]:
    payloads = (snapshot.node_payload(CONTEXT, context_id) for context_id in context_ids)
    return [payload for payload in payloads if payload is not None]


def _fill_contexts(snapshot: Snapshot, context_ids: list[int], response: Response) -> Response:
    return fill_repeated(response, "contexts", _context_payloads(snapshot, context_ids))
