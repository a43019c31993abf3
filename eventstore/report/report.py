"""Collect what an auditor asks of one artifact or execution, and render it as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from eventstore.errors import FailedPreconditionError
from eventstore.history import FieldChange, Version, history
from eventstore.history.fields import field_changes, plain_fields
from eventstore.history.versions import moment_of
from eventstore.lineage import Edge, Graph, GraphNode, closure
from eventstore.log import Log, VerifyReport
from eventstore.projections import Projections
from eventstore.projections import index_tables as tables
from eventstore.report.drawing import Drawing, drawing_of
from eventstore.shown_text import shown_lines
from eventstore.store.node_kinds import CONTEXT
from eventstore.store.node_reads import nodes_by_id
from eventstore.store.snapshot import Snapshot

if TYPE_CHECKING:
    from eventstore.audit import Checkpoint

_DRAWN_NODES_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class LineageEntry:
    """A node of the lineage, and who put it first and last."""

    node: GraphNode
    first: Version
    last: Version


@dataclass(frozen=True, slots=True)
class Head:
    """The chain's head: what pins the history that is reported on."""

    store_id: str
    position: int
    commit: int
    recorded_at: datetime
    tree_head: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the template shows. Moments are UTC."""

    kind: str
    id: int
    name: str
    type_name: str
    made_at: datetime
    is_past: bool
    head: Head
    fields: dict[str, Any]
    versions: Sequence[Version]
    later_versions: Sequence[Version]
    since_then: Sequence[FieldChange]
    contexts: Sequence[Any]
    lineage: Sequence[LineageEntry]
    drawing: Drawing
    omitted_nodes: int
    verification: VerifyReport | None
    checkpoint: Checkpoint | None
    proofs: Sequence[tuple[Version, str]]


def report_html(
    log: Log,
    projections: Projections,
    kind: str,
    node_id: int,
    position: int,
    *,
    verification: VerifyReport | None,
    checkpoint: Checkpoint | None,
) -> str:
    """The report on a node as of a position, as one HTML document without outside references.

    `verification` and `checkpoint` are shown when given, the latter with a proof of each version
    that it covers. Raises NotFoundError for an unknown node, InvalidArgumentError for a kind
    without lineage, FailedPreconditionError without Jinja, DataLossError or NotFoundError when the
    checkpoint is not of this history or store.
    """
    template = _template()
    snapshot = Snapshot(projections, position)
    newest = Snapshot(projections, log.position)
    graph, omitted = _lineage(snapshot, kind, node_id)
    versions = history(log, snapshot, kind, node_id)
    later = history(log, newest, kind, node_id)[len(versions) :]
    message = versions[-1].message
    subject = next(node for node in graph.nodes if node.key == (kind, node_id))
    proofs = []
    if checkpoint is not None:
        from eventstore.audit import prove_inclusion

        heads = projections.subtree_heads()
        proofs = [
            (version, prove_inclusion(log, heads, version.position, checkpoint).to_json())
            for version in versions
            if version.position <= checkpoint.size
        ]
    report = Report(
        kind=kind,
        id=node_id,
        name=subject.label[1],
        type_name=subject.label[0],
        made_at=datetime.now(timezone.utc),
        is_past=position < log.position,
        head=_head(log, position),
        fields=plain_fields(kind, message),
        versions=versions,
        later_versions=later,
        since_then=field_changes(kind, message, later[-1].message) if later else (),
        contexts=list(nodes_by_id(snapshot, CONTEXT, _context_ids(snapshot, kind, node_id))),
        lineage=[_entry(log, snapshot, node) for node in graph.nodes],
        drawing=drawing_of(graph, (kind, node_id)),
        omitted_nodes=omitted,
        verification=verification,
        checkpoint=checkpoint,
        proofs=proofs,
    )
    rendered: str = template.render(report=report)
    return rendered


def _lineage(snapshot: Snapshot, kind: str, node_id: int) -> tuple[Graph, int]:
    """All that led to the node and all that came of it, as far as it can be drawn."""
    nodes: dict[tuple[str, int], GraphNode] = {}
    edges: dict[tuple[tuple[str, int], tuple[str, int], int], Edge] = {}
    for direction in ("upstream", "downstream"):
        found = closure(snapshot, kind, node_id, direction, None)
        nodes |= {node.key: node for node in found.nodes}
        edges |= {(edge.source, edge.target, edge.event.type): edge for edge in found.edges}
    kept = set(_nearest(nodes, edges, (kind, node_id)))
    graph = Graph(
        tuple(nodes[key] for key in sorted(kept)),
        tuple(
            edge
            for (source, target, _), edge in sorted(edges.items())
            if source in kept and target in kept
        ),
    )
    return graph, len(nodes) - len(kept)


def _nearest(
    nodes: Iterable[tuple[str, int]],
    edges: Iterable[tuple[tuple[str, int], tuple[str, int], int]],
    start: tuple[str, int],
) -> list[tuple[str, int]]:
    """The nodes nearest to the start, so many as can be drawn."""
    neighbours: dict[tuple[str, int], list[tuple[str, int]]] = {key: [] for key in nodes}
    for source, target, _ in edges:
        neighbours[source].append(target)
        neighbours[target].append(source)
    found = [start]
    seen = {start}
    for key in found:
        for neighbour in sorted(neighbours[key]):
            if neighbour not in seen and len(found) < _DRAWN_NODES_MAX:
                seen.add(neighbour)
                found.append(neighbour)
    return found


def _context_ids(snapshot: Snapshot, kind: str, node_id: int) -> list[int]:
    links = {
        "artifact": tables.CONTEXTS_BY_ARTIFACT,
        "execution": tables.CONTEXTS_BY_EXECUTION,
    }
    return snapshot.linked_ids(links[kind], node_id)


def _entry(log: Log, snapshot: Snapshot, node: GraphNode) -> LineageEntry:
    versions = history(log, snapshot, node.kind, node.id)
    return LineageEntry(node, versions[0], versions[-1])


def _head(log: Log, position: int) -> Head:
    (commit,) = log.commits(log.commit_end(position - 1), position)
    return Head(
        str(log.store_id),
        position,
        commit.number,
        moment_of(commit.recorded_at),
        commit.tree_head.hex(),
    )


def _template() -> Any:
    try:
        import jinja2
    except ImportError as error:
        raise FailedPreconditionError(
            "reports need the package Jinja2: pip install 'mlmd-eventstore[audit]'"
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("eventstore.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        # Markup is escaped by Jinja; what cannot be seen, and what reverses a line, is so here.
        finalize=lambda value: shown_lines(value) if type(value) is str else value,
    )
    environment.filters["moment"] = _moment
    return environment.get_template("report.html.j2")


def _moment(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00") + " UTC"
