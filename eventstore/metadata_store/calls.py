"""The seam under MLMD's methods: each is a call that somebody answers, here or on a server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from eventstore import errors
from eventstore.log.kinds import ARTIFACT, Node, NodeKind
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.store.wire import as_list

if TYPE_CHECKING:
    from eventstore.metadata_store.options import ListOptions

MAX_NUM_RESULT = 100
"""Nodes that are asked for in one page, as by MLMD's client."""


class Calls:
    """The calls of MLMD's API, each made of requests to `send`, all that a client defines.

    What a store in this process answers without making a request has a method of its own, which it
    overrides. All else is sent.
    """

    def send(self, rpc: str, request: Any) -> Any:
        """The response of an RPC. Raises `eventstore.errors` classes."""
        raise NotImplementedError

    def nodes_by_id(self, kind: NodeKind, node_ids: Iterable[int]) -> list[Node]:
        """Each node once, by id ascending; unknown ids are left out."""
        given = {f"{kind.name}_ids": node_ids}
        check_given(**given)
        return self._nodes(kind, f"Get{kind.plural.capitalize()}ByID", given)

    def nodes_by_external_ids(self, kind: NodeKind, external_ids: Iterable[str]) -> list[Node]:
        """By id ascending. Raises NotFoundError when none is known, InvalidArgumentError."""
        given = {"external_ids": external_ids}
        return self._nodes(kind, f"Get{kind.plural.capitalize()}ByExternalIds", given)

    def node_by_type_and_name(
        self, kind: NodeKind, type_name: str, type_version: str | None, name: str
    ) -> Node | None:
        """The node of this name and of the type of this name and version, None without one."""
        check_given(**{"type_name": type_name, f"{kind.name}_name": name})
        rpc = f"Get{kind.name.capitalize()}ByTypeAndName"
        fields = {
            "type_name": type_name,
            "type_version": type_version or None,
            f"{kind.name}_name": name,
        }
        response = self.send(rpc, _request(rpc, fields))
        return getattr(response, kind.name) if response.HasField(kind.name) else None

    def artifacts_by_uri(self, uri: str) -> list[mlmd.Artifact]:
        """By id ascending."""
        return self._nodes(ARTIFACT, "GetArtifactsByURI", {"uris": [uri]})

    def events_of(self, kind: NodeKind, node_ids: Iterable[int]) -> list[mlmd.Event]:
        """The events of artifacts or executions, ordered as the API has it."""
        given = {f"{kind.name}_ids": node_ids}
        check_given(**given)
        rpc = f"GetEventsBy{kind.name.capitalize()}IDs"
        return list(self.send(rpc, _request(rpc, given)).events)

    def nodes(
        self, kind: NodeKind, list_options: ListOptions | None, context_id: int | None = None
    ) -> list[Node]:
        """All nodes (of a context), or those that options ask for, in their order.

        Raises InvalidArgumentError for a negative limit or an invalid filter query.
        """
        of_context = {} if context_id is None else {"context_id": context_id}
        rpc = f"Get{kind.plural.capitalize()}" + ("ByContext" if of_context else "")
        if list_options is None:
            return self._nodes(kind, rpc, of_context)
        request, found = _request(rpc, of_context), list[Node]()
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

    def put_nodes(
        self, kind: NodeKind, nodes: Sequence[Node], mask_paths: Sequence[str] | None
    ) -> list[int]:
        """Insert nodes without an id and update those with one; the ids, in the same order."""
        check_given(**{kind.plural: nodes})
        rpc = f"Put{kind.plural.capitalize()}"
        request = _request(rpc, {kind.plural: nodes})
        request.update_mask.paths.extend(mask_paths or ())
        return list(getattr(self.send(rpc, request), f"{kind.name}_ids"))

    def put_events(self, events: Sequence[mlmd.Event]) -> None:
        """Add events between stored artifacts and executions."""
        check_given(events=events)
        self.send("PutEvents", service.PutEventsRequest(events=events))

    def _nodes(self, kind: NodeKind, rpc: str, fields: dict[str, Any]) -> list[Node]:
        return as_list(getattr(self.send(rpc, _request(rpc, fields)), kind.plural))


def check_given(**arguments: object) -> None:
    """MLMD sets these fields one by one, where None is an error and not an absent value."""
    for name, value in arguments.items():
        if value is None:
            raise TypeError(f"{name} is None: it has to be given")


def checked_limit(list_options: ListOptions) -> int | None:
    """How many nodes are asked for, None for all. Raises InvalidArgumentError."""
    limit = list_options.limit or None
    if limit is not None and limit < 0:
        raise errors.InvalidArgumentError(
            f"limit is {limit}: use a positive number, or None for all"
        )
    return limit


def list_operation(list_options: ListOptions) -> mlmd.ListOperationOptions:
    """The order and the filter that options ask for."""
    options: Any = mlmd.ListOperationOptions()
    options.order_by_field.is_asc = list_options.is_asc
    if list_options.order_by is not None:
        options.order_by_field.field = list_options.order_by.value
    if list_options.filter_query:
        options.filter_query = list_options.filter_query
    operation: mlmd.ListOperationOptions = options
    return operation


def _request(rpc: str, fields: dict[str, Any]) -> Any:
    return getattr(service, f"{rpc}Request")(**fields)
