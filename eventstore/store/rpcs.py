"""The RPCs by name, each with what runs it. Most are of a kind of nodes, which it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from eventstore.log.kinds import ARTIFACT, EXECUTION, NODE_KINDS
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


def _puts() -> dict[str, Put]:
    runs: dict[str, tuple[Any, ...]] = {
        "PutTypes": (type_puts.put_types,),
        "PutEvents": (link_puts.put_events,),
        "PutExecution": (execution_puts.put_execution,),
        "PutLineageSubgraph": (execution_puts.put_lineage_subgraph,),
        "PutAttributionsAndAssociations": (link_puts.put_attributions_and_associations,),
        "PutParentContexts": (link_puts.put_parent_contexts,),
    }
    for kind in NODE_KINDS:
        runs[f"Put{kind.name.capitalize()}Type"] = (type_puts.put_type, kind)
        runs[f"Put{kind.plural.capitalize()}"] = (node_puts.put_requested, kind)
    return {rpc: _answering(rpc, *run) for rpc, run in runs.items()}


def _gets() -> dict[str, Get]:
    runs: dict[str, tuple[Any, ...]] = {
        "GetArtifactsByURI": (node_reads.get_artifacts_by_uri,),
        "GetLineageGraph": (lineage_reads.get_lineage_graph,),
        "GetLineageSubgraph": (lineage_reads.get_lineage_subgraph,),
    }
    for kind in NODE_KINDS:
        one, many = kind.name.capitalize(), kind.plural.capitalize()
        runs[f"Get{one}Type"] = (type_reads.get_type, kind)
        runs[f"Get{one}Types"] = (type_reads.get_types, kind)
        runs[f"Get{one}TypesByID"] = (type_reads.get_types_by_id, kind)
        runs[f"Get{one}TypesByExternalIds"] = (type_reads.get_types_by_external_ids, kind)
        runs[f"Get{many}"] = (node_reads.get_nodes, kind)
        runs[f"Get{many}ByID"] = (node_reads.get_nodes_by_id, kind)
        runs[f"Get{many}ByType"] = (node_reads.get_nodes_by_type, kind)
        runs[f"Get{one}ByTypeAndName"] = (node_reads.get_node_by_type_and_name, kind)
        runs[f"Get{many}ByExternalIds"] = (node_reads.get_nodes_by_external_ids, kind)
    for kind in (ARTIFACT, EXECUTION):
        one, many = kind.name.capitalize(), kind.plural.capitalize()
        runs[f"Get{many}ByContext"] = (node_reads.get_nodes_by_context, kind)
        runs[f"GetEventsBy{one}IDs"] = (link_reads.get_events, kind)
        runs[f"GetContextsBy{one}"] = (link_reads.get_contexts_of, kind)
    for relatives, table in (("Parent", PARENTS_BY_CONTEXT), ("Children", CHILDREN_BY_CONTEXT)):
        runs[f"Get{relatives}ContextsByContext"] = (link_reads.get_relatives, table)
        runs[f"Get{relatives}ContextsByContexts"] = (link_reads.get_relatives_of_each, table)
    return {rpc: _answering(rpc, *run) for rpc, run in runs.items()}


PUTS: Final = _puts()
"""The RPCs that write."""

GETS: Final = _gets()
"""The RPCs that read."""
