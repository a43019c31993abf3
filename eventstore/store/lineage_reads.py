"""GetLineageSubgraph: the nodes and events within some hops of the starting nodes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from eventstore.cancellation import check_wanted
from eventstore.errors import InvalidArgumentError, NotFoundError, UnimplementedError
from eventstore.log.kinds import ARTIFACT, EXECUTION, NODE_KINDS, NodeKind
from eventstore.projections.index_tables import CONTEXTS_OF
from eventstore.projections.lineage import Ending, walk
from eventstore.projections.listing import Listing
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store.snapshot import Snapshot
from eventstore.store.type_reads import type_payloads
from eventstore.store.wire import fill_repeated
from eventstore.wording import quoted

if TYPE_CHECKING:
    from eventstore.proto import metadata_store_service_pb2 as service

MAX_HOPS = 100
MAX_STARTING_NODES = 100


def get_lineage_graph(
    _: Snapshot, __: service.GetLineageGraphRequest, ___: service.GetLineageGraphResponse
) -> None:
    raise UnimplementedError("GetLineageGraph is not served: use GetLineageSubgraph")


def get_lineage_subgraph(
    snapshot: Snapshot,
    request: service.GetLineageSubgraphRequest,
    response: service.GetLineageSubgraphResponse,
) -> None:
    options = request.lineage_subgraph_query_options
    starting_kind, starting_ids = _starting_nodes(snapshot, options)
    found = walk(
        snapshot.projections,
        as_of=snapshot.position,
        starting_kind=starting_kind.name,
        starting_ids=starting_ids,
        max_num_hops=min(options.max_num_hops, MAX_HOPS)
        if options.HasField("max_num_hops")
        else MAX_HOPS,
        direction=options.direction,
        endings=_endings(options),
    )
    graph = response.lineage_subgraph
    graph.SetInParent()
    wanted = set(request.read_mask.paths) or {field.name for field in graph.DESCRIPTOR.fields}
    context_ids = set()
    for kind, links, node_ids in (
        (ARTIFACT, "attributions", found.artifact_ids),
        (EXECUTION, "associations", found.execution_ids),
    ):
        for node_id in sorted(node_ids):
            if kind.plural in wanted:
                getattr(graph, kind.plural).add(id=node_id)
            check_wanted()
            for context_id in snapshot.linked_ids(CONTEXTS_OF[kind], node_id):
                context_ids.add(context_id)
                if links in wanted:
                    ends = {f"{kind.name}_id": node_id, "context_id": context_id}
                    getattr(graph, links).add(**ends)
    if "contexts" in wanted:
        for context_id in sorted(context_ids):
            graph.contexts.add(id=context_id)
    if "events" in wanted:
        graph.events.extend(found.events)
    for kind in NODE_KINDS:
        if f"{kind.name}_types" in wanted:
            fill_repeated(graph, f"{kind.name}_types", type_payloads(snapshot, kind))


def _starting_nodes(
    snapshot: Snapshot, options: mlmd.LineageSubgraphQueryOptions
) -> tuple[NodeKind, list[int]]:
    given = options.WhichOneof("starting_nodes")
    if given is None:
        raise InvalidArgumentError(
            "Missing arguments for listing starting nodes. Set starting_artifacts or "
            "starting_executions"
        )
    kind = ARTIFACT if given == "starting_artifacts" else EXECUTION
    text = getattr(options, given).filter_query
    if not text:
        raise InvalidArgumentError(
            f"Cannot list starting nodes if `filter_query` is unspecified. Set {given}.filter_query"
        )
    if options.max_num_hops < 0:
        raise InvalidArgumentError(f"max_num_hops cannot be negative, it is {options.max_num_hops}")
    from eventstore.projections.filter import compile_filter

    where = compile_filter(text, kind.name)
    listing = Listing(kind, snapshot.position, where=where, limit=MAX_STARTING_NODES)
    rows = snapshot.projections.planner.find(listing).rows
    if not rows:
        raise NotFoundError(f"no {kind.name} matches the starting filter_query {quoted(text)}")
    return kind, [row[0] for row in rows]


def _endings(options: mlmd.LineageSubgraphQueryOptions) -> dict[str, Ending]:
    """The ending nodes by record kind. Without a filter there are none; an empty one is all."""
    from eventstore.projections.filter import compile_filter

    endings = {}
    for kind in (ARTIFACT, EXECUTION):
        ending = getattr(options, f"ending_{kind.plural}")
        if ending.HasField("filter_query"):
            where = partial(compile_filter, ending.filter_query or "TRUE", kind.name)
            endings[kind.name] = Ending(where, ending.include_ending_nodes)
    return endings
