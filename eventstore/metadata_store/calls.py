"""The seam under MLMD's methods: each is a call that is answered here or by a server."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cache
from operator import index
from typing import TYPE_CHECKING, Any

from eventstore import errors
from eventstore.log.kinds import CONTEXT, EXECUTION, Node, NodeKind, NodeType
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store.wire import as_list

if TYPE_CHECKING:
    from eventstore.metadata_store.options import ListOptions

MAX_NUM_RESULT = 100
"""Nodes that are asked for in one page, as by MLMD's client."""


class Calls(ABC):
    """The calls of MLMD's API, each made of requests to `send`, all that a client defines.

    A store in this process overrides those that it can answer without making a request.
    """

    @abstractmethod
    def send(self, rpc: str, request: Any) -> Any:
        """The response of an RPC. Raises `eventstore.errors` classes."""

    # Artifacts, executions and contexts

    def nodes(
        self, kind: NodeKind, list_options: ListOptions | None, context_id: int | None = None
    ) -> list[Node]:
        """All nodes (of a context), or those that options ask for, in their order.

        Raises InvalidArgumentError for a negative limit or an invalid filter query.
        """
        if context_id is None:
            rpc, new_request = _rpc("Get{many}", kind)
            request = new_request()
        else:
            rpc, new_request = _rpc("Get{many}ByContext", kind)
            request = new_request(context_id=as_integer(context_id))
        if list_options is None:
            return as_list(getattr(self.send(rpc, request), kind.plural))
        found = list[Node]()
        limit = checked_limit(list_options)
        request.options.CopyFrom(list_operation(list_options))
        while limit is None or len(found) < limit:
            left = MAX_NUM_RESULT if limit is None else limit - len(found)
            request.options.max_result_size = min(MAX_NUM_RESULT, left)
            response = self.send(rpc, request)
            found += getattr(response, kind.plural)
            if not response.next_page_token:
                break
            request.options.next_page_token = response.next_page_token
        return found

    def nodes_by_id(self, kind: NodeKind, node_ids: Iterable[int]) -> list[Node]:
        """Each node once, by id ascending; unknown ids are left out."""
        rpc, new_request = _rpc("Get{many}ByID", kind)
        field = f"{kind.name}_ids"
        request = new_request(**{field: as_ids(field, node_ids)})
        return as_list(getattr(self.send(rpc, request), kind.plural))

    def artifacts_and_types(
        self, artifact_ids: Iterable[int] | None
    ) -> tuple[list[mlmd.Artifact], list[mlmd.ArtifactType]]:
        """Artifacts as `nodes_by_id` has them; their types, each once, in the order of use."""
        ids = () if artifact_ids is None else as_ids("artifact_ids", artifact_ids)
        request = service().GetArtifactsByIDRequest(artifact_ids=ids, populate_artifact_types=True)
        response = self.send("GetArtifactsByID", request)
        return as_list(response.artifacts), list(response.artifact_types)

    def nodes_by_external_ids(self, kind: NodeKind, external_ids: Iterable[str]) -> list[Node]:
        """By id ascending. Raises NotFoundError when none is known, InvalidArgumentError."""
        rpc, new_request = _rpc("Get{many}ByExternalIds", kind)
        response = self.send(rpc, new_request(external_ids=external_ids))
        return as_list(getattr(response, kind.plural))

    def nodes_by_type(self, kind: NodeKind, type_name: str, type_version: str | None) -> list[Node]:
        """The nodes of the type of this name and version, by id ascending."""
        check_given("type_name", type_name)
        rpc, new_request = _rpc("Get{many}ByType", kind)
        request = new_request(type_name=type_name, type_version=type_version or None)
        return as_list(getattr(self.send(rpc, request), kind.plural))

    def node_by_type_and_name(
        self, kind: NodeKind, type_name: str, type_version: str | None, name: str
    ) -> Node | None:
        """The node of this name and of the type of this name and version, None without one."""
        check_given("type_name", type_name)
        check_given(f"{kind.name}_name", name)
        rpc, new_request = _rpc("Get{one}ByTypeAndName", kind)
        request = new_request(type_name=type_name, type_version=type_version or None)
        setattr(request, f"{kind.name}_name", name)
        response = self.send(rpc, request)
        return getattr(response, kind.name) if response.HasField(kind.name) else None

    def artifacts_by_uri(self, uri: str) -> list[mlmd.Artifact]:
        """By id ascending."""
        request = service().GetArtifactsByURIRequest(uris=[uri])
        return as_list(self.send("GetArtifactsByURI", request).artifacts)

    def put_nodes(
        self, kind: NodeKind, nodes: Sequence[Node], mask_paths: Sequence[str] | None
    ) -> list[int]:
        """Insert nodes without an id and update those with one; the ids, in the same order."""
        check_given(kind.plural, nodes)
        rpc, new_request = _rpc("Put{many}", kind)
        request = new_request(**{kind.plural: nodes})
        request.update_mask.paths.extend(mask_paths or ())
        return list(getattr(self.send(rpc, request), f"{kind.name}_ids"))

    # Types

    def node_type(self, kind: NodeKind, type_name: str, type_version: str | None) -> NodeType:
        """The type of this name and version. Raises NotFoundError when there is none."""
        check_given("type_name", type_name)
        rpc, new_request = _rpc("Get{one}Type", kind)
        request = new_request(type_name=type_name, type_version=type_version or None)
        return getattr(self.send(rpc, request), kind.type.name)

    def types(self, kind: NodeKind) -> list[NodeType]:
        """All types but the system types."""
        rpc, new_request = _rpc("Get{one}Types", kind)
        return list(getattr(self.send(rpc, new_request()), f"{kind.name}_types"))

    def types_by_id(self, kind: NodeKind, type_ids: Iterable[int]) -> list[NodeType]:
        """In the order given, repeated where it repeats; unknown ids are left out."""
        rpc, new_request = _rpc("Get{one}TypesByID", kind)
        response = self.send(rpc, new_request(type_ids=as_ids("type_ids", type_ids)))
        return list(getattr(response, f"{kind.name}_types"))

    def types_by_external_ids(self, kind: NodeKind, external_ids: Iterable[str]) -> list[NodeType]:
        """Raises NotFoundError when none is known, InvalidArgumentError for an empty one."""
        rpc, new_request = _rpc("Get{one}TypesByExternalIds", kind)
        response = self.send(rpc, new_request(external_ids=external_ids))
        return list(getattr(response, f"{kind.name}_types"))

    def put_type(
        self, kind: NodeKind, node_type: NodeType, can_add_fields: bool, can_omit_fields: bool
    ) -> int:
        """Create a type, or add properties to the stored one of this name and version; its id."""
        rpc, new_request = _rpc("Put{one}Type", kind)
        request = new_request(
            can_add_fields=can_add_fields,
            can_omit_fields=can_omit_fields,
            **{kind.type.name: node_type},
        )
        type_id: int = self.send(rpc, request).type_id
        return type_id

    # Links

    def events_of(self, kind: NodeKind, node_ids: Iterable[int]) -> list[mlmd.Event]:
        """The events of artifacts or executions, ordered as the API has it."""
        rpc, new_request = _rpc("GetEventsBy{one}IDs", kind)
        field = f"{kind.name}_ids"
        return list(self.send(rpc, new_request(**{field: as_ids(field, node_ids)})).events)

    def contexts_of(self, kind: NodeKind, node_id: int) -> list[mlmd.Context]:
        """The contexts of an artifact or execution. Raises NotFoundError without any."""
        rpc, new_request = _rpc("GetContextsBy{one}", kind)
        return list(
            self.send(rpc, new_request(**{f"{kind.name}_id": as_integer(node_id)})).contexts
        )

    def parents(self, context_id: int) -> list[mlmd.Context]:
        """The direct parents of a context."""
        request = service().GetParentContextsByContextRequest(context_id=as_integer(context_id))
        return list(self.send("GetParentContextsByContext", request).contexts)

    def children(self, context_id: int) -> list[mlmd.Context]:
        """The direct children of a context."""
        request = service().GetChildrenContextsByContextRequest(context_id=as_integer(context_id))
        return list(self.send("GetChildrenContextsByContext", request).contexts)

    def put_events(self, events: Sequence[mlmd.Event]) -> None:
        """Add events between stored artifacts and executions."""
        check_given("events", events)
        self.send("PutEvents", service().PutEventsRequest(events=events))

    # Lineage

    def lineage_subgraph(
        self, query_options: mlmd.LineageSubgraphQueryOptions, mask_paths: Sequence[str] | None
    ) -> mlmd.LineageGraph:
        """The graph around the starting nodes, with the fields that are named, or with all.

        The RPC gives links and ids; what these stand for is asked next, as MLMD's client does.
        """
        fields = [field.name for field in mlmd.LineageGraph.DESCRIPTOR.fields]
        paths = list(mask_paths or fields)
        request = service().GetLineageSubgraphRequest(lineage_subgraph_query_options=query_options)
        request.read_mask.paths.extend(path for path in paths if not path.endswith("_types"))
        wanted = set(paths)
        skeleton = self.send("GetLineageSubgraph", request).lineage_subgraph
        graph = mlmd.LineageGraph()
        if wanted & {"artifacts", "artifact_types"}:
            artifacts, artifact_types = self.artifacts_and_types(
                [artifact.id for artifact in skeleton.artifacts]
            )
            if "artifacts" in wanted:
                graph.artifacts.extend(artifacts)
            if "artifact_types" in wanted:
                graph.artifact_types.extend(artifact_types)
        for kind in (EXECUTION, CONTEXT):
            types = f"{kind.type.name}s"
            if wanted & {kind.plural, types}:
                ids = [node.id for node in getattr(skeleton, kind.plural)]
                nodes = self.nodes_by_id(kind, ids)
                if kind.plural in wanted:
                    getattr(graph, kind.plural).extend(nodes)
                if types in wanted:
                    type_ids = sorted({node.type_id for node in nodes})
                    getattr(graph, types).extend(self.types_by_id(kind, type_ids))
        for links in ("events", "attributions", "associations"):
            if links in wanted:
                getattr(graph, links).extend(getattr(skeleton, links))
        return graph


@cache
def service() -> Any:
    """The messages of requests: they take long to import, and most look-ups do without them."""
    from eventstore.proto import metadata_store_service_pb2

    return metadata_store_service_pb2


def as_integer(given: int) -> int:
    """What stands for an integer, as one: some versions of protobuf refuse booleans, others not.

    Raises TypeError for all else, like MLMD's client.
    """
    return int(index(given))


def as_ids(name: str, given: Iterable[int]) -> list[int]:
    """Each as `as_integer` has it. Raises TypeError for None, too."""
    check_given(name, given)
    return [*map(as_integer, given)]


def check_given(name: str, value: object) -> None:
    """MLMD sets such a field by itself, where None is an error and not an absent value."""
    if value is None:
        raise TypeError(f"{name} is None: it has to be given")


def checked_limit(list_options: ListOptions) -> int | None:
    """How many nodes are asked for, None for all.

    Raises InvalidArgumentError for a limit below 1, and TypeError for one that is no integer. As in
    MLMD, an infinite one and NaN are none. Other floats from 100 on raise here always, and there
    only once there are so many nodes.
    """
    limit = list_options.limit
    if not limit:
        return None
    if limit < 1:
        raise errors.InvalidArgumentError(f"limit is {limit}: use 1 or more, or None for all")
    if isinstance(limit, float) and not math.isfinite(limit):
        return None
    return as_integer(limit)


def list_operation(list_options: ListOptions) -> mlmd.ListOperationOptions:
    """The order and the filter that options ask for."""
    options: Any = mlmd.ListOperationOptions()
    options.order_by_field.is_asc = list_options.is_asc
    if list_options.order_by:
        options.order_by_field.field = list_options.order_by.value
    if list_options.filter_query:
        options.filter_query = list_options.filter_query
    operation: mlmd.ListOperationOptions = options
    return operation


@cache
def _rpc(form: str, kind: NodeKind) -> tuple[str, Any]:
    """The name of an RPC of a kind, and the class of its requests."""
    rpc = form.format(one=kind.name.capitalize(), many=kind.plural.capitalize())
    return rpc, getattr(service(), f"{rpc}Request")
