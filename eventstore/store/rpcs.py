"""The RPCs by name, each with what runs it. Most are of a kind of nodes, which it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from eventstore.log.kinds import CONTEXT, NODE_KINDS
from eventstore.projections.index_tables import CHILDREN_BY_CONTEXT, PARENTS_BY_CONTEXT
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.store import (
    execution_puts,
    lineage_reads,
    link_puts,
    link_reads,
    node_puts,
    node_reads,
    type_puts,
    type_reads,
)
from eventstore.store.snapshot import Snapshot
from eventstore.store.transaction import Transaction

Put: TypeAlias = Callable[[Transaction, Any], Any]
Get: TypeAlias = Callable[[Snapshot, Any], Any]


def _answering(rpc: str, run: Callable[..., None], *of: Any) -> Callable[[Any, Any], Any]:
    """What returns the response to an RPC; `run` fills it, and is told what the RPC is of."""
    new_response = getattr(service, f"{rpc}Response")

    def answer(state: Any, request: Any) -> Any:
        response = new_response()
        run(state, *of, request, response)
        return response

    return answer


def _runs() -> Iterator[tuple[str, Callable[..., None], *tuple[Any, ...]]]:
    """Each RPC's name, what runs it, and what it is of."""
    yield "PutTypes", type_puts.put_types
    yield "PutEvents", link_puts.put_events
    yield "PutExecution", execution_puts.put_execution
    yield "PutLineageSubgraph", execution_puts.put_lineage_subgraph
    yield "PutAttributionsAndAssociations", link_puts.put_attributions_and_associations
    yield "PutParentContexts", link_puts.put_parent_contexts
    yield "GetArtifactsByURI", node_reads.get_artifacts_by_uri
    yield "GetLineageGraph", lineage_reads.get_lineage_graph
    yield "GetLineageSubgraph", lineage_reads.get_lineage_subgraph
    for kind in NODE_KINDS:
        one, many = kind.name.capitalize(), kind.plural.capitalize()
        yield f"Put{one}Type", type_puts.put_type, kind
        yield f"Put{many}", node_puts.put_requested, kind
        yield f"Get{one}Type", type_reads.get_type, kind
        yield f"Get{one}Types", type_reads.get_types, kind
        yield f"Get{one}TypesByID", type_reads.get_types_by_id, kind
        yield f"Get{one}TypesByExternalIds", type_reads.get_types_by_external_ids, kind
        yield f"Get{many}", node_reads.get_nodes, kind
        yield f"Get{many}ByID", node_reads.get_nodes_by_id, kind
        yield f"Get{many}ByType", node_reads.get_nodes_by_type, kind
        yield f"Get{one}ByTypeAndName", node_reads.get_node_by_type_and_name, kind
        yield f"Get{many}ByExternalIds", node_reads.get_nodes_by_external_ids, kind
        if kind is not CONTEXT:
            yield f"Get{many}ByContext", node_reads.get_nodes_by_context, kind
            yield f"GetEventsBy{one}IDs", link_reads.get_events, kind
            yield f"GetContextsBy{one}", link_reads.get_contexts_of, kind
    for relatives, table in (("Parent", PARENTS_BY_CONTEXT), ("Children", CHILDREN_BY_CONTEXT)):
        yield f"Get{relatives}ContextsByContext", link_reads.get_relatives, table
        yield f"Get{relatives}ContextsByContexts", link_reads.get_relatives_of_each, table


_RPCS: Final = {rpc: _answering(rpc, *run) for rpc, *run in _runs()}

PUTS: Final[dict[str, Put]] = {rpc: run for rpc, run in _RPCS.items() if rpc.startswith("Put")}
"""The RPCs that write."""

GETS: Final[dict[str, Get]] = {rpc: run for rpc, run in _RPCS.items() if rpc not in PUTS}
"""The RPCs that read."""
