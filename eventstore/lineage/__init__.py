"""Questions about how nodes are connected that MLMD leaves to its users."""

from eventstore.lineage.comparison import Comparison, Difference, compare_nodes
from eventstore.lineage.graph import Edge, Graph, GraphNode
from eventstore.lineage.reuse import Run, find_runs
from eventstore.lineage.walks import closure, context_graph

__all__ = [
    "Comparison",
    "Difference",
    "Edge",
    "Graph",
    "GraphNode",
    "Run",
    "closure",
    "compare_nodes",
    "context_graph",
    "find_runs",
]
