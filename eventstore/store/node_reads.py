"""Reads of artifacts, executions and contexts. What answers an RPC fills its response."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from google.protobuf.unknown_fields import UnknownFieldSet

from eventstore.cancellation import current_waiter
from eventstore.errors import InvalidArgumentError
from eventstore.log.kinds import ARTIFACT, Node, NodeKind
from eventstore.log.readable import read_message, read_messages
from eventstore.projections import index_tables as tables
from eventstore.projections.index_tables import MEMBERS_OF, TABLES_OF, hash64
from eventstore.projections.listing import Found, Listing
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store.pages import Page, list_page, listing_of
from eventstore.store.snapshot import Snapshot, distinct_ids
from eventstore.store.wire import fill_repeated, fill_repeated_from_columns

if TYPE_CHECKING:
    from eventstore.proto import metadata_store_service_pb2 as service

_RESERVED_URI_FIELD = 1
_IDS_PER_LOOK_UP = 4096
_MANY_NODES_MIN = 8192
"""From this many on it pays to handle nodes column by column."""


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
    return nodes_by_id(snapshot, kind, snapshot.ids_by_external_ids(kind, external_ids).values())


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
    context_id: int | None,
) -> list[Node]:
    """The nodes (of a context) that a walk through all pages gives, at most `limit`, in order.

    Raises InvalidArgumentError for an order or a filter that is none.
    """
    listing = listing_of(snapshot, kind, options, limit=limit, context_id=context_id)
    found = snapshot.projections.planner.find(listing)
    return read_messages(kind.message, [*_payloads_of(snapshot, kind, found)])


def get_nodes(snapshot: Snapshot, kind: NodeKind, request: Any, response: Any) -> None:
    if request.HasField("options"):
        _fill_page(snapshot, kind, list_page(snapshot, kind, request.options), response)
    else:
        _fill_all(snapshot, kind, None, response)


def get_nodes_by_type(snapshot: Snapshot, kind: NodeKind, request: Any, response: Any) -> None:
    node_type = snapshot.type_by_name(kind, request.type_name, request.type_version)
    if node_type is None:
        return
    if request.HasField("options"):
        page = list_page(snapshot, kind, request.options, type_id=node_type.id)
        if page.found.rows:
            # Set, though it be empty, like upstream's.
            response.next_page_token = page.next_page_token
        _fill_page(snapshot, kind, page, response)
    else:
        _fill_all(snapshot, kind, node_type.id, response)


def get_nodes_by_context(snapshot: Snapshot, kind: NodeKind, request: Any, response: Any) -> None:
    if request.HasField("options"):
        page = list_page(snapshot, kind, request.options, context_id=request.context_id)
        _fill_page(snapshot, kind, page, response)
    else:
        ids = snapshot.linked_ids(MEMBERS_OF[kind], request.context_id)
        _fill_nodes(snapshot, kind, ids, response)


def get_nodes_by_id(snapshot: Snapshot, kind: NodeKind, request: Any, response: Any) -> None:
    _fill_nodes(snapshot, kind, sorted(set(getattr(request, f"{kind.name}_ids"))), response)
    if kind is ARTIFACT and request.populate_artifact_types:
        type_ids = dict.fromkeys(artifact.type_id for artifact in response.artifacts)
        payloads = (snapshot.type_payload(ARTIFACT, type_id) for type_id in type_ids)
        fill_repeated(response, "artifact_types", (p for p in payloads if p is not None))


def get_node_by_type_and_name(
    snapshot: Snapshot, kind: NodeKind, request: Any, response: Any
) -> None:
    name = getattr(request, f"{kind.name}_name")
    node = node_by_type_and_name(snapshot, kind, request.type_name, request.type_version, name)
    if node is not None:
        getattr(response, kind.name).CopyFrom(node)


def get_nodes_by_external_ids(
    snapshot: Snapshot, kind: NodeKind, request: Any, response: Any
) -> None:
    found = snapshot.ids_by_external_ids(kind, request.external_ids)
    _fill_nodes(snapshot, kind, sorted(found.values()), response)


def get_artifacts_by_uri(
    snapshot: Snapshot,
    request: service.GetArtifactsByURIRequest,
    response: service.GetArtifactsByURIResponse,
) -> None:
    if any(field.field_number == _RESERVED_URI_FIELD for field in UnknownFieldSet(request)):
        raise InvalidArgumentError(
            "The request contains deprecated field `uri` (number 1): use `uris` (number 2)"
        )
    waiter = current_waiter()
    for uri in dict.fromkeys(request.uris):
        artifacts = artifacts_by_uri(snapshot, uri)
        if waiter is not None:
            waiter.check()
            waiter.take(sum(artifact.ByteSize() for artifact in artifacts))
        response.artifacts.extend(artifacts)


def _fill_page(snapshot: Snapshot, kind: NodeKind, page: Page, response: Any) -> None:
    if page.next_page_token:
        response.next_page_token = page.next_page_token
    if page.position != snapshot.position:
        snapshot = Snapshot(snapshot.projections, page.position)
    fill_repeated(response, kind.plural, _payloads_of(snapshot, kind, page.found))


def _fill_nodes(snapshot: Snapshot, kind: NodeKind, node_ids: Iterable[int], response: Any) -> None:
    fill_repeated(response, kind.plural, _payloads(snapshot, kind, node_ids))


def _fill_all(snapshot: Snapshot, kind: NodeKind, type_id: int | None, response: Any) -> None:
    """Append all nodes of the kind, or of a type, by id."""
    if snapshot.index.highest_id(kind.sequence) >= _MANY_NODES_MIN:
        payloads = snapshot.projections.all_nodes(kind, as_of=snapshot.position, type_id=type_id)
        fill_repeated_from_columns(response, kind.plural, payloads)
    elif type_id is None:
        ids = snapshot.index.keys(TABLES_OF[kind].stored, snapshot.position)
        _fill_nodes(snapshot, kind, ids, response)
    else:
        listing = Listing(kind, snapshot.position, type_id=type_id)
        found = snapshot.projections.planner.find(listing)
        fill_repeated(response, kind.plural, _payloads_of(snapshot, kind, found))


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
