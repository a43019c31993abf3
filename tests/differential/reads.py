"""Every read that can be asked of a store, from what is in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from eventstore import errors
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service

Call = Callable[[str, Any], Any]

# Answered with more than upstream answers (PORTING: types are always complete).
_INCOMPLETE_TYPES = {
    "GetArtifactTypes": ("external_id",),
    "GetExecutionTypes": ("external_id",),
    "GetContextTypes": ("external_id",),
    "GetArtifactsByID": ("base_type",),
    "GetArtifactTypesByExternalIds": ("base_type",),
    "GetExecutionTypesByExternalIds": ("base_type", "input_type", "output_type"),
}


def outcome(call: Call, rpc: str, request: Any) -> Any:
    """The response, or the class of the error; what upstream leaves out of types is cleared."""
    try:
        response = call(rpc, request)
    except errors.StatusError as error:
        return type(error)
    for field in ("artifact_types", "execution_types", "context_types"):
        for node_type in getattr(response, field, ()):
            for name in _INCOMPLETE_TYPES.get(rpc, ()):
                if name in node_type.DESCRIPTOR.fields_by_name:
                    node_type.ClearField(name)
    response.ClearField("next_page_token") if hasattr(response, "next_page_token") else None
    return response


def all_reads(call: Call) -> Iterator[tuple[str, Any]]:
    """(rpc, request) for every get, over all that `call` says is stored, and some that is not."""
    for rpc in (
        "GetArtifacts",
        "GetExecutions",
        "GetContexts",
        "GetArtifactTypes",
        "GetExecutionTypes",
        "GetContextTypes",
    ):
        yield rpc, getattr(service, f"{rpc}Request")()
    artifacts = call("GetArtifacts", service.GetArtifactsRequest()).artifacts
    executions = call("GetExecutions", service.GetExecutionsRequest()).executions
    contexts = call("GetContexts", service.GetContextsRequest()).contexts
    for plural, singular, nodes in (
        ("Artifacts", "artifact", artifacts),
        ("Executions", "execution", executions),
        ("Contexts", "context", contexts),
    ):
        yield from _node_reads(plural, singular, list(nodes))
    yield from _type_reads(call)
    yield from _link_reads(artifacts, executions, contexts)


def _node_reads(plural: str, singular: str, nodes: list[Any]) -> Iterator[tuple[str, Any]]:
    ids = [node.id for node in nodes]
    by_id = getattr(service, f"Get{plural}ByIDRequest")
    for wanted in (ids, [*reversed(ids), 10**9], *([id_] for id_ in ids)):
        yield f"Get{plural}ByID", by_id(**{f"{singular}_ids": wanted})
    if singular == "artifact":
        yield "GetArtifactsByID", by_id(artifact_ids=ids, populate_artifact_types=True)
        for uri in {node.uri for node in nodes} | {"", "no such uri"}:
            yield "GetArtifactsByURI", service.GetArtifactsByURIRequest(uris=[uri])
    external_ids = [node.external_id for node in nodes if node.HasField("external_id")]
    for wanted in (external_ids, ["no such id"], [*external_ids, "no such id"], [""], []):
        request = getattr(service, f"Get{plural}ByExternalIdsRequest")(external_ids=wanted)
        yield f"Get{plural}ByExternalIds", request
    for type_name in {node.type for node in nodes} | {"no such type"}:
        yield (
            f"Get{plural}ByType",
            getattr(service, f"Get{plural}ByTypeRequest")(type_name=type_name),
        )
    for node in nodes:
        stem = f"Get{singular.capitalize()}ByTypeAndName"
        request = getattr(service, f"{stem}Request")(type_name=node.type)
        setattr(request, f"{singular}_name", node.name)
        yield stem, request
    order = mlmd.ListOperationOptions.OrderByField
    for field in (order.ID, order.CREATE_TIME, order.LAST_UPDATE_TIME):
        for is_asc in (True, False):
            options = mlmd.ListOperationOptions(max_result_size=100)
            options.order_by_field.field = field
            options.order_by_field.is_asc = is_asc
            yield f"Get{plural}", getattr(service, f"Get{plural}Request")(options=options)


def _type_reads(call: Call) -> Iterator[tuple[str, Any]]:
    for singular in ("Artifact", "Execution", "Context"):
        rpc = f"Get{singular}Types"
        found = getattr(call(rpc, getattr(service, f"{rpc}Request")()), f"{singular.lower()}_types")
        ids = [node_type.id for node_type in found]
        for wanted in (ids, [*reversed(ids), *ids, 10**9], list(range(1, 40))):
            yield f"{rpc}ByID", getattr(service, f"{rpc}ByIDRequest")(type_ids=wanted)
        names = [(node_type.name, node_type.version) for node_type in found]
        system_types = [("mlmd.Dataset", ""), ("mlmd.Train", ""), ("no such type", "")]
        for name, version in [*names, *system_types]:
            yield (
                f"Get{singular}Type",
                getattr(service, f"Get{singular}TypeRequest")(
                    type_name=name, type_version=version or None
                ),
            )
        yield (
            f"{rpc}ByExternalIds",
            getattr(service, f"{rpc}ByExternalIdsRequest")(external_ids=["type-external-id"]),
        )


def _link_reads(artifacts: Any, executions: Any, contexts: Any) -> Iterator[tuple[str, Any]]:
    artifact_ids = [node.id for node in artifacts]
    execution_ids = [node.id for node in executions]
    context_ids = [node.id for node in contexts]
    for wanted in (artifact_ids, [*artifact_ids, 10**9], []):
        request = service.GetEventsByArtifactIDsRequest(artifact_ids=wanted)
        yield "GetEventsByArtifactIDs", request
    for wanted in (execution_ids, [*execution_ids, 10**9], []):
        yield (
            "GetEventsByExecutionIDs",
            service.GetEventsByExecutionIDsRequest(execution_ids=wanted),
        )
    for node_id in [*artifact_ids, 10**9]:
        yield "GetContextsByArtifact", service.GetContextsByArtifactRequest(artifact_id=node_id)
    for node_id in [*execution_ids, 10**9]:
        yield "GetContextsByExecution", service.GetContextsByExecutionRequest(execution_id=node_id)
    for node_id in [*context_ids, 10**9]:
        for rpc in (
            "GetArtifactsByContext",
            "GetExecutionsByContext",
            "GetParentContextsByContext",
            "GetChildrenContextsByContext",
        ):
            yield rpc, getattr(service, f"{rpc}Request")(context_id=node_id)
