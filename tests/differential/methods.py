"""RPCs as calls of MetadataStore's methods: arguments from the request, a response from the result.

Both sides go through here, so what is compared is what their methods make of the arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service

_NAMES = {
    "GetArtifactsByURI": "get_artifacts_by_uri",
    "GetEventsByArtifactIDs": "get_events_by_artifact_ids",
    "GetEventsByExecutionIDs": "get_events_by_execution_ids",
}
_NO_ARGUMENTS = frozenset(
    ("transaction_options", "can_delete_fields", "all_fields_match", "populate_artifact_types")
)


def has_method(rpc: str, request: Any) -> bool:
    """Whether a method can ask for just this."""
    if rpc == "PutTypes" or not getattr(request, "all_fields_match", True):
        return False
    if rpc == "PutArtifacts" or rpc.endswith("ByType"):
        return not request.HasField("options")
    if rpc == "PutExecution":
        return bool(request.HasField("execution"))
    return rpc != "GetArtifactsByURI" or len(request.uris) == 1


def run_by_method(method: Callable[..., Any], rpc: str, request: Any) -> Any:
    """The response to an RPC that `has_method`, by way of `method(name, *arguments)`."""
    response = getattr(service, f"{rpc}Response")()
    name = _NAMES.get(rpc) or re.sub("(?<!^)(?=[A-Z][a-z]|ID)", "_", rpc).lower()
    if rpc == "GetArtifactsByID" and request.populate_artifact_types:
        name = "get_artifacts_and_types_by_artifact_ids"
    result = method(name, *_arguments(rpc, request))
    if result is None:
        return response
    members = result if isinstance(result, tuple) else (result,)
    for field, member in zip(response.DESCRIPTOR.fields, members, strict=False):
        if isinstance(member, list):
            getattr(response, field.name).extend(member)
        elif isinstance(member, int):
            setattr(response, field.name, member)
        else:
            getattr(response, field.name).CopyFrom(member)
    return response


def _arguments(rpc: str, request: Any) -> list[Any]:
    if rpc == "PutExecution":
        return _of_put_execution(request)
    if rpc == "PutLineageSubgraph":
        return _of_put_lineage_subgraph(request)
    if rpc == "GetLineageSubgraph":
        return [request.lineage_subgraph_query_options, list(request.read_mask.paths) or None]
    if rpc == "GetArtifactsByURI":
        return [request.uris[0]]
    names = [f.name for f in request.DESCRIPTOR.fields if f.name not in _NO_ARGUMENTS]
    if rpc == "PutArtifacts" or rpc.endswith("ByType"):
        names.remove("options")
    # The methods take the version last.
    names.sort(key=lambda name: name == "type_version")
    return [_argument(request, name) for name in names]


def _argument(request: Any, name: str) -> Any:
    value = getattr(request, name)
    if name == "options":
        return _list_options(value) if request.HasField(name) else None
    if name == "update_mask":
        return list(value.paths) or None
    if name == "type_version":
        return value or None
    return value if isinstance(value, (str, int, Message)) else list(value)


def _list_options(options: mlmd.ListOperationOptions) -> eventstore.ListOptions:
    order_by = None
    if options.order_by_field.HasField("field"):
        order_by = eventstore.OrderByField(options.order_by_field.field)
    return eventstore.ListOptions(
        limit=options.max_result_size if options.HasField("max_result_size") else None,
        order_by=order_by,
        is_asc=options.order_by_field.is_asc,
        filter_query=options.filter_query or None,
    )


def _of_put_execution(request: service.PutExecutionRequest) -> list[Any]:
    pairs: list[Any] = []
    for pair in request.artifact_event_pairs:
        artifact = pair.artifact if pair.HasField("artifact") else None
        event = pair.event if pair.HasField("event") else None
        # Both forms of a pair without event, and the two that are dropped, are used.
        pairs += [(artifact, event) if event is not None or len(pairs) % 2 else (artifact,), None]
        pairs.append(())
    options = request.options
    return [
        request.execution,
        pairs,
        list(request.contexts),
        options.reuse_context_if_already_exist,
        options.reuse_artifact_if_already_exist_by_external_id,
        options.force_reuse_context,
        options.force_update_time,
    ]


def _of_put_lineage_subgraph(request: service.PutLineageSubgraphRequest) -> list[Any]:
    edges = [
        (
            edge.execution_index if edge.HasField("execution_index") else None,
            edge.artifact_index if edge.HasField("artifact_index") else None,
            edge.event,
        )
        for edge in request.event_edges
    ]
    return [
        list(request.executions),
        list(request.artifacts),
        list(request.contexts),
        edges,
        request.options.reuse_context_if_already_exist,
        request.options.reuse_artifact_if_already_exist_by_external_id,
    ]
