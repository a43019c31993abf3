"""Everything upstream or downstream of a node, and what happened in a context."""

from __future__ import annotations

import sys
from collections.abc import Set

from eventstore.errors import InvalidArgumentError, NotFoundError
from eventstore.lineage.graph import Graph, edge_of, graph_of
from eventstore.log.kinds import ARTIFACT, CONTEXT, EXECUTION, NodeKind
from eventstore.projections import index_tables as tables
from eventstore.projections.lineage import events_of, walk
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store.snapshot import Snapshot

_DIRECTIONS = {
    "upstream": mlmd.LineageSubgraphQueryOptions.UPSTREAM,
    "downstream": mlmd.LineageSubgraphQueryOptions.DOWNSTREAM,
    "both": mlmd.LineageSubgraphQueryOptions.BIDIRECTIONAL,
}


def node_kind(kind: str) -> NodeKind:
    """The kind of node that has lineage. Raises InvalidArgumentError for another word."""
    for known in (ARTIFACT, EXECUTION):
        if kind == known.name:
            return known
    raise InvalidArgumentError(f"{kind!r} has no lineage: use 'artifact' or 'execution'")


def closure(
    snapshot: Snapshot,
    kind: str,
    node_id: int,
    direction: str,
    max_hops: int | None,
    max_nodes: int | None = None,
) -> Graph:
    """The node and all that is reached from it within some hops; None for any number.

    With `max_nodes` only that many, the nearest, and the graph tells how many it left out.

    A hop leads from an artifact to an execution or back. Cycles end where they began. Raises
    InvalidArgumentError for an unknown kind or direction, negative hops or no nodes, NotFoundError
    for an unknown node.
    """
    start = node_kind(kind)
    if direction not in _DIRECTIONS:
        raise InvalidArgumentError(f"direction {direction!r}: use one of {', '.join(_DIRECTIONS)}")
    if max_hops is not None and max_hops < 0:
        raise InvalidArgumentError(f"max_hops is {max_hops}: use 0 or more, or None for all")
    _check_max_nodes(max_nodes)
    require_node(snapshot, start, node_id)
    found = walk(
        snapshot.projections,
        as_of=snapshot.position,
        starting_kind=start.name,
        starting_ids=[node_id],
        max_num_hops=sys.maxsize - 1 if max_hops is None else max_hops,
        direction=_DIRECTIONS[direction],
        endings={},
        max_nodes=max_nodes,
    )
    return graph_of(
        snapshot,
        found.artifact_ids,
        found.execution_ids,
        found.events,
        found.left_out,
        (kind, node_id),
    )


def part_of(
    snapshot: Snapshot, graph: Graph, kind: str, node_id: int, direction: str = "both"
) -> Graph:
    """The part of a later graph that was there already and was connected with a node by itself.

    What is `upstream` or `downstream` was so within that part, in any number of hops. It costs as
    much as the graph, whatever else the node is connected with.
    """
    allowed = {node.key for node in graph.nodes}
    if not snapshot.exists(node_kind(kind), node_id):
        return Graph((), ())
    reached = {(kind, node_id)}
    level = [(kind, node_id)]
    events: list[mlmd.Event] = []
    while level:
        of_kind, node_ids = node_kind(level[0][0]), [key[1] for key in level]
        here = set(level)
        found = [
            event
            for event in events_of(snapshot.index, snapshot.position, of_kind, node_ids)
            if _leads_on(event, here, direction)
        ]
        events += found
        ends = {end for event in found for end in _ends(event)}
        level = sorted((ends & allowed) - reached)
        reached.update(level)
    ids = {
        kept: sorted(id_ for kind, id_ in reached if kind == kept)
        for kept in ("artifact", "execution")
    }
    distinct = {(e.artifact_id, e.execution_id, e.type): e for e in events}
    return graph_of(
        snapshot,
        ids["artifact"],
        ids["execution"],
        distinct.values(),
        subject=(kind, node_id),
    )


def _leads_on(event: mlmd.Event, here: Set[tuple[str, int]], direction: str) -> bool:
    """Whether an event leads from some nodes in a direction."""
    source, target = _ends(event)
    return direction == "both" or (target if direction == "upstream" else source) in here


def _ends(event: mlmd.Event) -> tuple[tuple[str, int], tuple[str, int]]:
    edge = edge_of(event)
    return edge.source, edge.target


def context_graph(snapshot: Snapshot, context_id: int, max_nodes: int | None = None) -> Graph:
    """The executions of a context with all their inputs and outputs.

    With `max_nodes` the newest executions that make no more nodes, and the graph tells how many
    executions it left out; one is always there. Raises NotFoundError for an unknown context,
    InvalidArgumentError for no nodes.
    """
    _check_max_nodes(max_nodes)
    require_node(snapshot, CONTEXT, context_id)
    execution_ids = sorted(snapshot.linked_ids(tables.EXECUTIONS_BY_CONTEXT, context_id))
    shown_ids: list[int] = []
    artifact_ids: set[int] = set()
    events: list[mlmd.Event] = []
    for execution_id in reversed(execution_ids):
        found = [
            mlmd.Event.FromString(payload)
            for _, payload in snapshot.entries(tables.EVENTS_BY_EXECUTION, execution_id)
        ]
        reached = artifact_ids | {event.artifact_id for event in found}
        if max_nodes is not None and shown_ids and len(shown_ids) + 1 + len(reached) > max_nodes:
            break
        shown_ids.append(execution_id)
        artifact_ids = reached
        events += found
    left_out = len(execution_ids) - len(shown_ids)
    return graph_of(snapshot, artifact_ids, shown_ids, events, left_out)


def _check_max_nodes(max_nodes: int | None) -> None:
    if max_nodes is not None and max_nodes < 1:
        raise InvalidArgumentError(f"max_nodes is {max_nodes}: use 1 or more, or None for all")


def require_node(snapshot: Snapshot, kind: NodeKind, node_id: int) -> None:
    """Raise NotFoundError when there is no such node."""
    if not snapshot.exists(kind, node_id):
        raise NotFoundError(f"no {kind.name} has id {node_id}")
