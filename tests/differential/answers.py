"""What a side answers, made comparable, and when two answers count as the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventstore import errors
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.differential.generator import KINDS
from tests.differential.reads import outcome

Call = Callable[[str, Any], Any]

_TIME_FIELDS = ("create_time_since_epoch", "last_update_time_since_epoch")
_UPDATE_TIME = mlmd.ListOperationOptions.OrderByField.LAST_UPDATE_TIME


def compared(call: Call, rpc: str, request: Any) -> Any:
    """What a side answers, without what cannot be equal: times, tokens and orders by time."""
    ask = _walked if _is_listing(request) else outcome
    result = ask(call, rpc, request)
    if isinstance(result, type):
        return result
    for node in _nodes(result):
        for name in _TIME_FIELDS:
            node.ClearField(name)
    if rpc == "GetLineageSubgraph":
        _sort_graph(result.lineage_subgraph)
    return result


def is_same(rpc: str, expected: Any, found: Any) -> bool:
    """Whether the answers agree, or differ as the contract allows (section 9, by number)."""
    if expected == found:
        return True
    # Q9: what upstream calls internal in a put is a name or external id that is taken.
    if rpc.startswith("Put") and expected is errors.InternalError:
        return found is errors.AlreadyExistsError
    # A reused context whose external id is taken: upstream takes it for a lost race, for ever.
    if rpc.startswith("Put") and expected is errors.AbortedError:
        return found is errors.AlreadyExistsError
    # Q40: upstream does not look at the options when a type has no nodes.
    if rpc.endswith("ByType") and not isinstance(expected, type) and not _nodes(expected):
        return found is errors.InvalidArgumentError
    # Section 5: what the backend cannot compute is internal upstream, and invalid here.
    return expected is errors.InternalError and found is errors.InvalidArgumentError


def _is_listing(request: Any) -> bool:
    return "options" in request.DESCRIPTOR.fields_by_name and (
        request.DESCRIPTOR.fields_by_name["options"].message_type is not None
        and request.DESCRIPTOR.fields_by_name["options"].message_type.name == "ListOperationOptions"
        and request.HasField("options")
    )


def _walked(call: Call, rpc: str, request: Any) -> Any:
    """All pages of a listing in one response."""
    asked = type(request)()
    asked.CopyFrom(request)
    merged: Any = None
    while True:
        try:
            response = call(rpc, asked)
        except errors.StatusError as error:
            return type(error)
        token = response.next_page_token
        response.ClearField("next_page_token")
        if merged is None:
            merged = response
        else:
            merged.MergeFrom(response)
        if not token:
            break
        asked.options.next_page_token = token
    if request.options.order_by_field.field == _UPDATE_TIME:
        for nodes in (merged.ListFields()[0][1],) if merged.ListFields() else ():
            nodes.sort(key=lambda node: node.id)
    return merged


def _nodes(response: Any) -> list[Any]:
    nodes: list[Any] = []
    for kind in KINDS:
        nodes += getattr(response, f"{kind}s", ())
        if kind in response.DESCRIPTOR.fields_by_name and response.HasField(kind):
            nodes.append(getattr(response, kind))
    return nodes


def _sort_graph(graph: mlmd.LineageGraph) -> None:
    for nodes in (graph.artifacts, graph.executions, graph.contexts):
        nodes.sort(key=lambda node: node.id)
    graph.attributions.sort(key=lambda link: (link.artifact_id, link.context_id))
    graph.associations.sort(key=lambda link: (link.execution_id, link.context_id))
    for types in (graph.artifact_types, graph.execution_types, graph.context_types):
        types.sort(key=lambda node_type: node_type.id)
        for node_type in types:
            node_type.ClearField("base_type")
            node_type.ClearField("external_id")
