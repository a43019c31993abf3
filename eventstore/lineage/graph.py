"""A graph of artifacts and executions, and how it is drawn."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from eventstore.errors import FailedPreconditionError
from eventstore.log.kinds import ARTIFACT, EXECUTION
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.repr_html import ShownInNotebooks
from eventstore.shown_text import shown_text
from eventstore.store.node_reads import nodes_by_id
from eventstore.store.snapshot import Snapshot

if TYPE_CHECKING:
    import networkx

    Traced: TypeAlias = mlmd.Artifact | mlmd.Execution
else:
    # What reads a node back may tell one type by name, and finds out about two.
    Traced = Any

_OUTPUTS = frozenset(
    (
        mlmd.Event.OUTPUT,
        mlmd.Event.DECLARED_OUTPUT,
        mlmd.Event.INTERNAL_OUTPUT,
        mlmd.Event.PENDING_OUTPUT,
    )
)
_MERMAID_SIGNS = re.compile(r"[^\w\s.,:/+=-]")


@dataclass(frozen=True, slots=True)
class GraphNode:
    """An artifact or execution; `kind` is `artifact` or `execution`, `message` all of it."""

    kind: str
    id: int
    message: Traced

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from the other nodes of a graph."""
        return self.kind, self.id

    @property
    def label(self) -> tuple[str, str]:
        """Its type, and its name or, if it has none, its kind and id."""
        return self.message.type, self.message.name or f"{self.kind} {self.id}"

    @property
    def state(self) -> str:
        """The name of its state, "" when it has none."""
        if isinstance(self.message, mlmd.Execution):
            has_state = self.message.HasField("last_known_state")
            return mlmd.Execution.State.Name(self.message.last_known_state) if has_state else ""
        has_state = self.message.HasField("state")
        return mlmd.Artifact.State.Name(self.message.state) if has_state else ""


def names_of(event: mlmd.Event) -> list[str] | None:
    """The names of an artifact, where the event's path bears pairs of a name and an index."""
    steps = event.path.steps
    kinds = [step.WhichOneof("value") for step in steps]
    is_pairs = kinds == ["key", "index"] * (len(kinds) // 2)
    return [step.key for step in steps[::2]] if is_pairs else None


@dataclass(frozen=True, slots=True)
class Edge:
    """An event, in the direction in which data flows: into an execution, or out of it."""

    source: tuple[str, int]
    target: tuple[str, int]
    event: mlmd.Event

    @property
    def label(self) -> str:
        """The event's type and path: `INPUT examples[0]`, or `INPUT model[0], baseline[0]`."""
        before_key = ", " if names_of(self.event) is not None else "."
        path = ""
        for step in self.event.path.steps:
            if step.WhichOneof("value") == "index":
                path += f"[{step.index}]"
            else:
                path += f"{before_key}{step.key}" if path else step.key
        return f"{mlmd.Event.Type.Name(self.event.type)} {path}".rstrip()


@dataclass(frozen=True, slots=True)
class Graph(ShownInNotebooks):
    """Nodes by kind and id, and the events between them in the order of source, target and type."""

    nodes: tuple[GraphNode, ...]
    edges: tuple[Edge, ...]
    left_out: int = 0
    """How many nodes of the next hop, or executions of a context, a limit left out."""
    subject: tuple[str, int] | None = field(default=None, compare=False, repr=False)
    """The node that was asked about, if it was one."""

    def artifacts(self) -> list[mlmd.Artifact]:
        """The artifacts, by id."""
        return [node.message for node in self.nodes if isinstance(node.message, mlmd.Artifact)]

    def executions(self) -> list[mlmd.Execution]:
        """The executions, by id."""
        return [node.message for node in self.nodes if isinstance(node.message, mlmd.Execution)]

    def inputs_of(self, execution_id: int) -> list[mlmd.Artifact]:
        """The artifacts of the graph that go into an execution, by id."""
        return self._artifacts(
            {e.source for e in self.edges if e.target == ("execution", execution_id)}
        )

    def outputs_of(self, execution_id: int) -> list[mlmd.Artifact]:
        """The artifacts of the graph that come out of an execution, by id."""
        return self._artifacts(
            {e.target for e in self.edges if e.source == ("execution", execution_id)}
        )

    def _artifacts(self, keys: set[tuple[str, int]]) -> list[mlmd.Artifact]:
        return [artifact for artifact in self.artifacts() if ("artifact", artifact.id) in keys]

    def to_dot(self) -> str:
        """The graph in Graphviz's language: executions are boxes, artifacts rounded."""
        lines = ["digraph lineage {", "  rankdir=LR;"]
        for node in self.nodes:
            shape = "box" if node.kind == "execution" else "box, style=rounded"
            label = "\\n".join(_dot_text(line) for line in node.label)
            lines.append(f'  {_name(node.key)} [shape={shape}, label="{label}"];')
        for edge in self.edges:
            ends = f"{_name(edge.source)} -> {_name(edge.target)}"
            lines.append(f'  {ends} [label="{_dot_text(edge.label)}"];')
        return "\n".join([*lines, "}", ""])

    def to_mermaid(self) -> str:
        """The graph as a Mermaid flowchart: executions are boxes, artifacts rounded."""
        lines = ["flowchart LR"]
        for node in self.nodes:
            label = "<br/>".join(_mermaid_text(line) for line in node.label)
            opening, closing = ("[", "]") if node.kind == "execution" else ("([", "])")
            lines.append(f'  {_name(node.key)}{opening}"{label}"{closing}')
        for edge in self.edges:
            label = _mermaid_text(edge.label)
            lines.append(f'  {_name(edge.source)} -->|"{label}"| {_name(edge.target)}')
        return "\n".join([*lines, ""])

    def to_networkx(self) -> networkx.MultiDiGraph[Any]:
        """The graph for NetworkX.

        Nodes are (kind, id), with the attributes type, name, state and message; edges have type,
        path (the label after the type), time (ms since the epoch) and event. Raises
        FailedPreconditionError when NetworkX is not installed.
        """
        try:
            import networkx
        except ImportError:
            raise FailedPreconditionError(
                "NetworkX is not installed: pip install 'mlmd-eventstore[lineage]'"
            ) from None
        graph: networkx.MultiDiGraph[Any] = networkx.MultiDiGraph()
        for node in self.nodes:
            graph.add_node(
                node.key,
                type=node.message.type,
                name=node.message.name,
                state=node.state,
                message=node.message,
            )
        for edge in self.edges:
            event_type, _, path = edge.label.partition(" ")
            graph.add_edge(
                edge.source,
                edge.target,
                type=event_type,
                path=path,
                time=edge.event.milliseconds_since_epoch,
                event=edge.event,
            )
        return graph


def graph_of(
    snapshot: Snapshot,
    artifact_ids: Iterable[int],
    execution_ids: Iterable[int],
    events: Iterable[mlmd.Event],
    left_out: int = 0,
    subject: tuple[str, int] | None = None,
) -> Graph:
    """The graph of some nodes and of the events that have both ends among them."""
    nodes = [
        GraphNode(kind.name, node.id, node)
        for kind, ids in ((ARTIFACT, artifact_ids), (EXECUTION, execution_ids))
        for node in nodes_by_id(snapshot, kind, ids)
    ]
    known = {node.key for node in nodes}
    edges = [edge_of(event) for event in events]
    found = [edge for edge in edges if edge.source in known and edge.target in known]
    found.sort(key=lambda edge: (edge.source, edge.target, edge.event.type))
    return Graph(tuple(nodes), tuple(found), left_out, subject)


def edge_of(event: mlmd.Event) -> Edge:
    """The event in the direction in which data flows."""
    artifact, execution = ("artifact", event.artifact_id), ("execution", event.execution_id)
    if event.type in _OUTPUTS:
        return Edge(execution, artifact, event)
    return Edge(artifact, execution, event)


def _name(key: tuple[str, int]) -> str:
    kind, node_id = key
    return f"{kind[0]}{node_id}"


def _dot_text(text: str) -> str:
    # Graphviz has escapes of its own, and knows the characters of HTML by name and number.
    text = shown_text(text).replace("\\", "\\\\").replace('"', '\\"')
    return text.replace("&", "&amp;")


def _mermaid_text(text: str) -> str:
    # Mermaid spells character references with # and knows them by number.
    return _MERMAID_SIGNS.sub(lambda match: f"#{ord(match.group())};", shown_text(text))
