"""Reads of artifacts, executions and contexts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from google.protobuf.unknown_fields import UnknownFieldSet

from eventstore.errors import InvalidArgumentError, NotFoundError
from eventstore.log.kinds import ARTIFACT, CONTEXT, EXECUTION, Node, NodeKind
from eventstore.log.readable import read_message, read_messages
from eventstore.projections import index_tables as tables
from eventstore.projections.index_tables import TABLES_OF, hash64
from eventstore.projections.listing import Found, Listing
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.store.listing import Page, list_page, listing_of
from eventstore.store.snapshot import Snapshot, distinct_ids
from eventstore.store.type_reads import check_external_ids
from eventstore.store.wire import fill_repeated, fill_repeated_from_columns

_RESERVED_URI_FIELD = 1
_IDS_PER_LOOK_UP = 4096
_MANY_NODES_MIN = 8192
"""From this many on it pays to handle nodes column by column."""

Response = TypeVar("Response", bound=Any)


def get_artifacts(
    snapshot: Snapshot, request: service.GetArtifactsRequest
) -> service.GetArtifactsResponse:
    return _list(snapshot, ARTIFACT, request, service.GetArtifactsResponse())


def get_executions(
    snapshot: Snapshot, request: service.GetExecutionsRequest
) -> service.GetExecutionsResponse:
    return _list(snapshot, EXECUTION, request, service.GetExecutionsResponse())


def get_contexts(
    snapshot: Snapshot, request: service.GetContextsRequest
) -> service.GetContextsResponse:
    return _list(snapshot, CONTEXT, request, service.GetContextsResponse())


def get_artifacts_by_type(
    snapshot: Snapshot, request: service.GetArtifactsByTypeRequest
) -> service.GetArtifactsByTypeResponse:
    return _list_by_type(snapshot, ARTIFACT, request, service.GetArtifactsByTypeResponse())


def get_executions_by_type(
    snapshot: Snapshot, request: service.GetExecutionsByTypeRequest
) -> service.GetExecutionsByTypeResponse:
    return _list_by_type(snapshot, EXECUTION, request, service.GetExecutionsByTypeResponse())


def get_contexts_by_type(
    snapshot: Snapshot, request: service.GetContextsByTypeRequest
) -> service.GetContextsByTypeResponse:
    return _list_by_type(snapshot, CONTEXT, request, service.GetContextsByTypeResponse())


def get_artifacts_by_context(
    snapshot: Snapshot, request: service.GetArtifactsByContextRequest
) -> service.GetArtifactsByContextResponse:
    response = service.GetArtifactsByContextResponse()
    return _list_by_context(snapshot, ARTIFACT, tables.ARTIFACTS_BY_CONTEXT, request, response)


def get_executions_by_context(
    snapshot: Snapshot, request: service.GetExecutionsByContextRequest
) -> service.GetExecutionsByContextResponse:
    response = service.GetExecutionsByContextResponse()
    return _list_by_context(snapshot, EXECUTION, tables.EXECUTIONS_BY_CONTEXT, request, response)


def nodes_by_id(snapshot: Snapshot, kind: NodeKind, node_ids: Iterable[int]) -> list[Node]:
    """The nodes with these ids, each once, by id ascending; unknown ids are left out.

    Raises TypeError for an id that is no integer, ValueError for one beyond 64 bits.
    """
    ids = distinct_ids(node_ids)
    if len(ids) == 1:
        # The usual case; a dictionary would take as long as all the rest.
        payload = snapshot.node_payload(kind, ids[0])
        return [] if payload is None else [read_message(kind.message, payload)]
    found = snapshot.newest_of_each(TABLES_OF[kind].stored, ids)
    return read_messages(kind.message, [found[node_id][1] for node_id in ids if node_id in found])


def nodes_by_external_ids(
    snapshot: Snapshot, kind: NodeKind, external_ids: Sequence[str]
) -> list[Node]:
    """The nodes with these external ids, each once, by id ascending; unknown ones are left out.

    Raises NotFoundError when none of them is known, InvalidArgumentError for an empty one.
    """
    return nodes_by_id(snapshot, kind, _ids_by_external_ids(snapshot, kind, external_ids))


def node_by_type_and_name(
    snapshot: Snapshot, kind: NodeKind, type_name: str, type_version: str | None, name: str
) -> Node | None:
    """The node of this name and of the type with this name and version; None when there is none."""
    type_id = snapshot.stored_type_id(kind, type_name, type_version)
    return None if type_id is None else snapshot.node_by_name(kind, type_id, name)


def artifacts_by_uri(snapshot: Snapshot, uri: str) -> list[Node]:
    """The artifacts with exactly this uri, by id."""
    found = nodes_by_id(snapshot, ARTIFACT, snapshot.linked_ids(tables.ARTIFACT_URIS, hash64(uri)))
    return [artifact for artifact in found if artifact.uri == uri]


def list_nodes(
    snapshot: Snapshot,
    kind: NodeKind,
    options: mlmd.ListOperationOptions,
    *,
    limit: int | None,
    context_id: int | None = None,
) -> list[Node]:
    """The nodes (of a context) that a walk through all pages gives, at most `limit`, in order.

    Raises InvalidArgumentError for an order or a filter that is none.
    """
    listing = listing_of(snapshot, kind, options, limit=limit, context_id=context_id)
    found = snapshot.projections.planner.find(listing)
    return read_messages(kind.message, [*_payloads_of(snapshot, kind, found)])


def get_artifacts_by_id(
    snapshot: Snapshot, request: service.GetArtifactsByIDRequest
) -> service.GetArtifactsByIDResponse:
    response = service.GetArtifactsByIDResponse()
    _fill_nodes(snapshot, ARTIFACT, sorted(set(request.artifact_ids)), response)
    if request.populate_artifact_types:
        type_ids = dict.fromkeys(artifact.type_id for artifact in response.artifacts)
        payloads = (snapshot.type_payload(ARTIFACT, type_id) for type_id in type_ids)
        fill_repeated(response, "artifact_types", (p for p in payloads if p is not None))
    return response


def get_executions_by_id(
    snapshot: Snapshot, request: service.GetExecutionsByIDRequest
) -> service.GetExecutionsByIDResponse:
    response = service.GetExecutionsByIDResponse()
    return _fill_nodes(snapshot, EXECUTION, sorted(set(request.execution_ids)), response)


def get_contexts_by_id(
    snapshot: Snapshot, request: service.GetContextsByIDRequest
) -> service.GetContextsByIDResponse:
    response = service.GetContextsByIDResponse()
    return _fill_nodes(snapshot, CONTEXT, sorted(set(request.context_ids)), response)


def get_artifact_by_type_and_name(
    snapshot: Snapshot, request: service.GetArtifactByTypeAndNameRequest
) -> service.GetArtifactByTypeAndNameResponse:
    response = service.GetArtifactByTypeAndNameResponse()
    node = _named(snapshot, ARTIFACT, request, request.artifact_name)
    if node is not None:
        response.artifact.CopyFrom(node)
    return response


def get_execution_by_type_and_name(
    snapshot: Snapshot, request: service.GetExecutionByTypeAndNameRequest
) -> service.GetExecutionByTypeAndNameResponse:
    response = service.GetExecutionByTypeAndNameResponse()
    node = _named(snapshot, EXECUTION, request, request.execution_name)
    if node is not None:
        response.execution.CopyFrom(node)
    return response


def get_context_by_type_and_name(
    snapshot: Snapshot, request: service.GetContextByTypeAndNameRequest
) -> service.GetContextByTypeAndNameResponse:
    response = service.GetContextByTypeAndNameResponse()
    node = _named(snapshot, CONTEXT, request, request.context_name)
    if node is not None:
        response.context.CopyFrom(node)
    return response


def get_artifacts_by_uri(
    snapshot: Snapshot, request: service.GetArtifactsByURIRequest
) -> service.GetArtifactsByURIResponse:
    if _has_unknown_field(request, _RESERVED_URI_FIELD):
        raise InvalidArgumentError(
            "The request contains deprecated field `uri` (number 1): use `uris` (number 2)"
        )
    response = service.GetArtifactsByURIResponse()
    for uri in dict.fromkeys(request.uris):
        response.artifacts.extend(artifacts_by_uri(snapshot, uri))
    return response


def get_artifacts_by_external_ids(
    snapshot: Snapshot, request: service.GetArtifactsByExternalIdsRequest
) -> service.GetArtifactsByExternalIdsResponse:
    response = service.GetArtifactsByExternalIdsResponse()
    return _fill_by_external_ids(snapshot, ARTIFACT, request, response)


def get_executions_by_external_ids(
    snapshot: Snapshot, request: service.GetExecutionsByExternalIdsRequest
) -> service.GetExecutionsByExternalIdsResponse:
    response = service.GetExecutionsByExternalIdsResponse()
    return _fill_by_external_ids(snapshot, EXECUTION, request, response)


def get_contexts_by_external_ids(
    snapshot: Snapshot, request: service.GetContextsByExternalIdsRequest
) -> service.GetContextsByExternalIdsResponse:
    response = service.GetContextsByExternalIdsResponse()
    return _fill_by_external_ids(snapshot, CONTEXT, request, response)


def _list(snapshot: Snapshot, kind: NodeKind, request: Any, response: Response) -> Response:
    if not request.HasField("options"):
        if _are_many(snapshot, kind):
            return _fill_all(snapshot, kind, None, response)
        ids = snapshot.projections.index.keys(TABLES_OF[kind].stored, snapshot.position)
        return _fill_nodes(snapshot, kind, ids, response)
    return _fill_page(snapshot, kind, list_page(snapshot, kind, request.options), response)


def _list_by_type(snapshot: Snapshot, kind: NodeKind, request: Any, response: Response) -> Response:
    node_type = snapshot.type_by_name(kind, request.type_name, request.type_version)
    if node_type is None:
        return response
    if not request.HasField("options"):
        if _are_many(snapshot, kind):
            return _fill_all(snapshot, kind, node_type.id, response)
        listing = Listing(kind, snapshot.position, type_id=node_type.id)
        found = snapshot.projections.planner.find(listing)
        return fill_repeated(response, kind.plural, _payloads_of(snapshot, kind, found))
    page = list_page(snapshot, kind, request.options, type_id=node_type.id)
    if page.found.rows:
        # Set, though it be empty, like upstream's.
        response.next_page_token = page.next_page_token
    return _fill_page(snapshot, kind, page, response)


def _list_by_context(
    snapshot: Snapshot, kind: NodeKind, table: int, request: Any, response: Response
) -> Response:
    if not request.HasField("options"):
        ids = snapshot.linked_ids(table, request.context_id)
        return _fill_nodes(snapshot, kind, ids, response)
    page = list_page(snapshot, kind, request.options, context_id=request.context_id)
    return _fill_page(snapshot, kind, page, response)


def _fill_page(snapshot: Snapshot, kind: NodeKind, page: Page, response: Response) -> Response:
    if page.next_page_token:
        response.next_page_token = page.next_page_token
    if page.position != snapshot.position:
        snapshot = Snapshot(snapshot.projections, page.position)
    return fill_repeated(response, kind.plural, _payloads_of(snapshot, kind, page.found))


def _fill_nodes(
    snapshot: Snapshot, kind: NodeKind, node_ids: Iterable[int], response: Response
) -> Response:
    """Append the nodes with these ids, in this order; ids that no node has are left out."""
    return fill_repeated(response, kind.plural, _payloads(snapshot, kind, node_ids))


def _are_many(snapshot: Snapshot, kind: NodeKind) -> bool:
    return snapshot.projections.index.highest_id(kind.name) >= _MANY_NODES_MIN


def _fill_all(
    snapshot: Snapshot, kind: NodeKind, type_id: int | None, response: Response
) -> Response:
    """Append all nodes of the kind, or of a type, by id."""
    payloads = snapshot.projections.all_nodes(kind, as_of=snapshot.position, type_id=type_id)
    return fill_repeated_from_columns(response, kind.plural, payloads)


def _payloads(snapshot: Snapshot, kind: NodeKind, node_ids: Iterable[int]) -> Iterator[bytes]:
    """The serialized nodes with these ids, in this order; ids that no node has are left out."""
    remaining = iter(node_ids)
    while ids := list(islice(remaining, _IDS_PER_LOOK_UP)):
        found = snapshot.newest_of_each(TABLES_OF[kind].stored, ids)
        yield from [found[node_id][1] for node_id in ids if node_id in found]


def _payloads_of(snapshot: Snapshot, kind: NodeKind, found: Found) -> Iterable[bytes]:
    """The serialized nodes that a listing has found, in its order."""
    node_ids = [node_id for node_id, _ in found.rows]
    read = dict(found.payloads)
    unread = [node_id for node_id in node_ids if node_id not in read]
    if len(unread) == len(node_ids):
        return _payloads(snapshot, kind, node_ids)
    for node_id, (_, payload) in snapshot.newest_of_each(TABLES_OF[kind].stored, unread).items():
        read[node_id] = payload
    return [read[node_id] for node_id in node_ids if node_id in read]


def _named(snapshot: Snapshot, kind: NodeKind, request: Any, name: str) -> Node | None:
    return node_by_type_and_name(snapshot, kind, request.type_name, request.type_version, name)


def _fill_by_external_ids(
    snapshot: Snapshot, kind: NodeKind, request: Any, response: Response
) -> Response:
    node_ids = _ids_by_external_ids(snapshot, kind, request.external_ids)
    return _fill_nodes(snapshot, kind, node_ids, response)


def _ids_by_external_ids(
    snapshot: Snapshot, kind: NodeKind, external_ids: Sequence[str]
) -> list[int]:
    check_external_ids(external_ids, kind.plural)
    found = {snapshot.node_id_by_external_id(kind, id_) for id_ in external_ids}
    node_ids = sorted(node_id for node_id in found if node_id is not None)
    if external_ids and not node_ids:
        raise NotFoundError(f"no {kind.name} has any of the external ids {list(external_ids)}")
    return node_ids


def _has_unknown_field(message: Any, number: int) -> bool:
    unknown: Any = UnknownFieldSet(message)
    return any(field.field_number == number for field in unknown)
