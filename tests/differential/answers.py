"""What a side answers, made comparable, and when two answers count as the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

from eventstore import errors
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from tests.differential.clients import Client
from tests.differential.messages import KINDS
from tests.differential.methods import run_by_method
from tests.differential.reads import outcome
from tests.differential.times import SideTimes, Steps

Call = Callable[[str, Any], Any]

_ENUM_PREDICATE = re.compile(
    r"\b(state|last_known_state|type)\s*(?:!?=|(?:NOT\s+)?IN\b)\s*(\([A-Z_,\s]*\)|[A-Z_]+\b)"
)
_SIZE_MAX = 2**31 - 1
_UPDATE_TIME = mlmd.ListOperationOptions.OrderByField.LAST_UPDATE_TIME


@dataclass(frozen=True)
class Step:
    """One call of a program, as an RPC or by the method for it; or `reopen` or `seal`."""

    rpc: str
    request: Any = None
    by_method: bool = False
    is_raw: bool = False

    def __str__(self) -> str:
        how = " (by method)" if self.by_method else ""
        return f"{self.rpc}{how}: {self.request}"


class Side:
    """One of the two stores that a program runs on."""

    def __init__(self, client: Client, steps: Steps) -> None:
        self._client = client
        self._times = SideTimes(steps)

    def answer(self, step: Step) -> Any:
        """The response to a step or the class of its error, without what cannot be equal.

        Times are numbers of steps, tokens are left out, all pages of a listing are put together,
        and what came to be in one step stands by id where the order is by time.
        """
        if step.request is None:
            return getattr(self._client, step.rpc)()
        request = type(step.request)()
        request.CopyFrom(step.request)
        self._times.restore(request)
        call: Call = self._client.call
        if step.by_method:
            call = partial(run_by_method, self._client.method)
        is_walked = _is_listing(request) and not step.by_method and not step.is_raw
        ask = _walked if is_walked else outcome
        result = ask(call, step.rpc, request)
        if isinstance(result, type):
            return result
        self._times.number(result)
        if _is_listing(request) and request.options.order_by_field.field == _UPDATE_TIME:
            _sort_by_id_within_steps(result)
        if step.rpc == "GetArtifactsByURI":
            # One uri's artifacts after the other's; which comes first is nobody's promise.
            result.artifacts.sort(key=lambda artifact: artifact.id)
        if step.rpc == "GetLineageSubgraph":
            sort_graph(result.lineage_subgraph)
        return result


def is_same(step: Step, expected: Any, found: Any) -> bool:
    """Whether the answers agree, or differ as the contract allows (section 9, by number)."""
    if expected == found:
        return True
    is_put = step.rpc.startswith("Put")
    # Q9: what upstream calls internal in a put is a name or external id that is taken.
    if is_put and expected is errors.InternalError:
        return found is errors.AlreadyExistsError
    # A reused context whose external id is taken: upstream takes it for a lost race, for ever.
    if is_put and expected is errors.AbortedError:
        return found is errors.AlreadyExistsError
    if step.is_raw and _is_listing(step.request):
        options = step.request.options
        # Tokens are each store's own: upstream takes some made-up ones for its first page.
        if options.next_page_token and found is errors.InvalidArgumentError:
            return True
        # Q2: pages have at most 100 nodes, whatever is asked for.
        if options.max_result_size == _SIZE_MAX and expected is errors.InvalidArgumentError:
            return not isinstance(found, type)
    # Q40: upstream does not look at the options when a type or context has no nodes.
    if step.rpc.endswith(("ByType", "ByContext")) and found is errors.InvalidArgumentError:
        return not isinstance(expected, type) and not _nodes(expected)
    # Q17: upstream stumbles over an enum predicate that a filter says twice.
    if expected is errors.InvalidArgumentError and repeats_enum(step.request):
        return not isinstance(found, type)
    # Section 5: what the backend cannot compute is internal upstream, and invalid here.
    return (
        expected is errors.InternalError
        and found is errors.InvalidArgumentError
        and _has_filter(step.request)
    )


def repeats_enum(request: Any) -> bool:
    """Whether a listing's filter compares a state or event type with the same names again."""
    if not _is_listing(request):
        return False
    predicates = _ENUM_PREDICATE.findall(request.options.filter_query)
    said = [(column, re.sub(r"\s", "", values)) for column, values in predicates]
    return len(said) > len(set(said))


def _is_listing(request: Any) -> bool:
    field = request.DESCRIPTOR.fields_by_name.get("options")
    return (
        field is not None
        and field.message_type.name == "ListOperationOptions"
        and request.HasField("options")
    )


def _has_filter(request: Any) -> bool:
    if isinstance(request, service.GetLineageSubgraphRequest):
        return True
    return _is_listing(request) and bool(request.options.filter_query)


def _walked(call: Call, rpc: str, request: Any) -> Any:
    """All pages of a listing in one response."""
    asked = type(request)()
    asked.CopyFrom(request)
    pages: list[Any] = []
    while True:
        try:
            response = call(rpc, asked)
        except errors.StatusError as error:
            return type(error)
        asked.options.next_page_token = response.next_page_token
        response.ClearField("next_page_token")
        pages.append(response)
        if not asked.options.next_page_token:
            break
    sizes = [len(_nodes(page)) for page in pages]
    full = request.options.max_result_size
    assert sizes[:-1] == [full] * (len(pages) - 1), f"{rpc} has pages of {sizes}, not of {full}"
    assert len(pages) == 1 or 0 < sizes[-1] <= full, f"{rpc} has pages of {sizes}"
    merged = pages[0]
    for page in pages[1:]:
        merged.MergeFrom(page)
    return merged


def _nodes(response: Any) -> list[Any]:
    return [node for kind in KINDS for node in getattr(response, f"{kind}s", ())]


def _sort_by_id_within_steps(response: Any) -> None:
    # How many milliseconds a step takes is chance, and with it whether times in it tie.
    for kind in KINDS:
        nodes = list(getattr(response, f"{kind}s", ()))
        if nodes:
            response.ClearField(f"{kind}s")
            for _, group in groupby(nodes, key=lambda node: node.last_update_time_since_epoch):
                getattr(response, f"{kind}s").extend(sorted(group, key=lambda node: node.id))


def sort_graph(graph: mlmd.LineageGraph) -> None:
    for nodes in (graph.artifacts, graph.executions, graph.contexts):
        nodes.sort(key=lambda node: node.id)
    graph.attributions.sort(key=lambda link: (link.artifact_id, link.context_id))
    graph.associations.sort(key=lambda link: (link.execution_id, link.context_id))
    for types in (graph.artifact_types, graph.execution_types, graph.context_types):
        types.sort(key=lambda node_type: node_type.id)
        for node_type in types:
            node_type.ClearField("base_type")
            node_type.ClearField("external_id")
