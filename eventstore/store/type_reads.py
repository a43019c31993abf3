"""Reads of types. Each handler takes a snapshot and its request and makes the response."""

from __future__ import annotations

from typing import Any

from eventstore.errors import InvalidArgumentError, NotFoundError
from eventstore.log.kinds import ARTIFACT, CONTEXT, EXECUTION, NodeKind
from eventstore.log.readable import read_message
from eventstore.projections.index_tables import TABLES_OF
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.store.snapshot import Snapshot
from eventstore.store.system_types import SYSTEM_TYPE_NAMES
from eventstore.store.wire import fill_repeated


def get_artifact_type(
    snapshot: Snapshot, request: service.GetArtifactTypeRequest
) -> service.GetArtifactTypeResponse:
    payload = _payload_by_name(snapshot, ARTIFACT, request)
    return service.GetArtifactTypeResponse(artifact_type=read_message(mlmd.ArtifactType, payload))


def get_execution_type(
    snapshot: Snapshot, request: service.GetExecutionTypeRequest
) -> service.GetExecutionTypeResponse:
    payload = _payload_by_name(snapshot, EXECUTION, request)
    return service.GetExecutionTypeResponse(
        execution_type=read_message(mlmd.ExecutionType, payload)
    )


def get_context_type(
    snapshot: Snapshot, request: service.GetContextTypeRequest
) -> service.GetContextTypeResponse:
    payload = _payload_by_name(snapshot, CONTEXT, request)
    return service.GetContextTypeResponse(context_type=read_message(mlmd.ContextType, payload))


def get_artifact_types(
    snapshot: Snapshot, _: service.GetArtifactTypesRequest
) -> service.GetArtifactTypesResponse:
    payloads = user_type_payloads(snapshot, ARTIFACT)
    return fill_repeated(service.GetArtifactTypesResponse(), "artifact_types", payloads)


def get_execution_types(
    snapshot: Snapshot, _: service.GetExecutionTypesRequest
) -> service.GetExecutionTypesResponse:
    payloads = user_type_payloads(snapshot, EXECUTION)
    return fill_repeated(service.GetExecutionTypesResponse(), "execution_types", payloads)


def get_context_types(
    snapshot: Snapshot, _: service.GetContextTypesRequest
) -> service.GetContextTypesResponse:
    payloads = type_payloads(snapshot, CONTEXT)
    return fill_repeated(service.GetContextTypesResponse(), "context_types", payloads)


def get_artifact_types_by_id(
    snapshot: Snapshot, request: service.GetArtifactTypesByIDRequest
) -> service.GetArtifactTypesByIDResponse:
    payloads = _payloads_by_id(snapshot, ARTIFACT, request)
    return fill_repeated(service.GetArtifactTypesByIDResponse(), "artifact_types", payloads)


def get_execution_types_by_id(
    snapshot: Snapshot, request: service.GetExecutionTypesByIDRequest
) -> service.GetExecutionTypesByIDResponse:
    payloads = _payloads_by_id(snapshot, EXECUTION, request)
    return fill_repeated(service.GetExecutionTypesByIDResponse(), "execution_types", payloads)


def get_context_types_by_id(
    snapshot: Snapshot, request: service.GetContextTypesByIDRequest
) -> service.GetContextTypesByIDResponse:
    payloads = _payloads_by_id(snapshot, CONTEXT, request)
    return fill_repeated(service.GetContextTypesByIDResponse(), "context_types", payloads)


def get_artifact_types_by_external_ids(
    snapshot: Snapshot, request: service.GetArtifactTypesByExternalIdsRequest
) -> service.GetArtifactTypesByExternalIdsResponse:
    payloads = _payloads_by_external_id(snapshot, ARTIFACT, request)
    response = service.GetArtifactTypesByExternalIdsResponse()
    return fill_repeated(response, "artifact_types", payloads)


def get_execution_types_by_external_ids(
    snapshot: Snapshot, request: service.GetExecutionTypesByExternalIdsRequest
) -> service.GetExecutionTypesByExternalIdsResponse:
    payloads = _payloads_by_external_id(snapshot, EXECUTION, request)
    response = service.GetExecutionTypesByExternalIdsResponse()
    return fill_repeated(response, "execution_types", payloads)


def get_context_types_by_external_ids(
    snapshot: Snapshot, request: service.GetContextTypesByExternalIdsRequest
) -> service.GetContextTypesByExternalIdsResponse:
    payloads = _payloads_by_external_id(snapshot, CONTEXT, request)
    response = service.GetContextTypesByExternalIdsResponse()
    return fill_repeated(response, "context_types", payloads)


def type_payloads(snapshot: Snapshot, kind: NodeKind) -> list[bytes]:
    """Every type of the kind, system types included, by id ascending."""
    type_ids = snapshot.index.keys(TABLES_OF[kind.type].stored, snapshot.position)
    payloads = (snapshot.type_payload(kind, type_id) for type_id in type_ids)
    return [payload for payload in payloads if payload is not None]


def user_type_payloads(snapshot: Snapshot, kind: NodeKind) -> list[bytes]:
    """Every type of the kind that does not bear the name of a system type, by id ascending."""
    return [
        payload
        for payload in type_payloads(snapshot, kind)
        if read_message(kind.type.message, payload).name not in SYSTEM_TYPE_NAMES
    ]


def check_external_ids(external_ids: Any, wanted: str) -> None:
    """Refuse an empty external id in a look-up."""
    if any(not external_id for external_id in external_ids):
        raise InvalidArgumentError(
            f"an external id of the {wanted} asked for is empty: leave it out"
        )


def _payload_by_name(snapshot: Snapshot, kind: NodeKind, request: Any) -> bytes:
    node_type = snapshot.type_by_name(kind, request.type_name, request.type_version)
    if node_type is None:
        version = f" and version {request.type_version!r}" if request.type_version else ""
        raise NotFoundError(f"no {kind.name} type has the name {request.type_name!r}{version}")
    payload = snapshot.type_payload(kind, node_type.id)
    assert payload is not None
    return payload


def _payloads_by_id(snapshot: Snapshot, kind: NodeKind, request: Any) -> list[bytes]:
    """In the order of the request, repeated where it repeats; unknown ids are left out."""
    payloads = (snapshot.type_payload(kind, type_id) for type_id in request.type_ids)
    return [payload for payload in payloads if payload is not None]


def _payloads_by_external_id(snapshot: Snapshot, kind: NodeKind, request: Any) -> list[bytes]:
    """In the order of the external ids, as upstream's index has them; each type once."""
    check_external_ids(request.external_ids, f"{kind.name} types")
    wanted = sorted(set(request.external_ids), key=str.encode)
    found = (snapshot.type_id_by_external_id(kind, external_id) for external_id in wanted)
    type_ids = [type_id for type_id in found if type_id is not None]
    if request.external_ids and not type_ids:
        raise NotFoundError(
            f"no {kind.name} type has any of the external ids {list(request.external_ids)}"
        )
    payloads = (snapshot.type_payload(kind, type_id) for type_id in type_ids)
    return [payload for payload in payloads if payload is not None]
