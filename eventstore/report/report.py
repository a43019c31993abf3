"""Collect what an auditor asks of one artifact or execution, and render it as HTML."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from eventstore.errors import FailedPreconditionError, InvalidArgumentError
from eventstore.history import FieldChange, Version, history
from eventstore.history.fields import field_changes, plain_fields
from eventstore.lineage import Graph, GraphNode
from eventstore.lineage.graph import edge_of, graph_of
from eventstore.lineage.walks import node_kind, require_node
from eventstore.log import Log, Position, VerifyReport
from eventstore.log.kinds import CONTEXT
from eventstore.plain_json import json_text, moment_text
from eventstore.plain_values import shown_struct
from eventstore.projections import Projections
from eventstore.projections import index_tables as tables
from eventstore.projections.lineage import walk
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.report.drawing import NARROW, WIDE, drawing_of
from eventstore.report.selection import Key, Selection, selection
from eventstore.report.svg import band_svg
from eventstore.shown_text import shown_lines
from eventstore.store.node_reads import nodes_by_id
from eventstore.store.snapshot import Snapshot
from eventstore.times import moment_of
from eventstore.wording import are, counted

if TYPE_CHECKING:
    from eventstore.audit import Checkpoint

_HEADING_MAX: Final = 120
_FOLLOWED_MAX: Final = 5_000
_FOLLOWED_PER_SHOWN: Final = 10
"""How many nodes of a lineage are followed each way; for a high limit this many per shown node."""
_WALKS: Final = (
    mlmd.LineageSubgraphQueryOptions.UPSTREAM,
    mlmd.LineageSubgraphQueryOptions.DOWNSTREAM,
)


@dataclass(frozen=True, slots=True)
class LineageEntry:
    """A node of the lineage, and who put it first and last."""

    node: GraphNode
    first: Version
    last: Version
    is_origin: bool


@dataclass(frozen=True, slots=True)
class Head:
    """The tree head, which pins the history that is reported on."""

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
    drawings: dict[str, list[str]]
    chosen: Selection
    verification: VerifyReport | None
    checkpoint: Checkpoint | None
    was_verified: bool
    proofs: Sequence[tuple[Version, str]]

    @property
    def origins(self) -> list[LineageEntry]:
        """The nodes of the lineage that nothing led to, among those that are shown."""
        return [entry for entry in self.lineage if entry.is_origin]


def report_html(
    log: Log,
    projections: Projections,
    kind: str,
    node_id: int,
    position: Position,
    *,
    verification: VerifyReport | None,
    checkpoint: Checkpoint | None,
    limit: int | None,
) -> str:
    """The report on a node as of a position, as one HTML document without outside references.

    `verification` and `checkpoint` are shown when given, the latter with a proof of each version
    that it covers; `limit` is how many nodes of the lineage are shown. Raises NotFoundError for an
    unknown node, InvalidArgumentError for a kind without lineage or a limit below 1,
    FailedPreconditionError without Jinja, DataLossError or NotFoundError when the checkpoint is not
    of this history or store.
    """
    if limit is not None and limit < 1:
        raise InvalidArgumentError(f"limit is {limit}: use 1 or more, or None for all")
    template = _template()
    snapshot = Snapshot(projections, position)
    newest = Snapshot(projections, log.position)
    graph, chosen = _lineage(snapshot, kind, node_id, limit)
    versions = history(log, snapshot, kind, node_id)
    later = history(log, newest, kind, node_id)[len(versions) :]
    message = versions[-1].message
    subject = next(node for node in graph.nodes if node.key == (kind, node_id))
    proofs = []
    if checkpoint is not None:
        from eventstore.audit import prove_inclusion
        from eventstore.audit.subtree_heads import heads_of

        heads = heads_of(log, projections)
        # It holds for the last record that it states, or this raises.
        prove_inclusion(log, heads, checkpoint.size, checkpoint)
        proofs = [
            (version, prove_inclusion(log, heads, version.position, checkpoint).to_text())
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
        since_then=field_changes(kind, message, later[-1].message)
        if later and later[-1].message is not None
        else (),
        contexts=list(nodes_by_id(snapshot, CONTEXT, _context_ids(snapshot, kind, node_id))),
        lineage=[
            LineageEntry(node, found[0], found[-1], node.key in chosen.origins)
            for node in graph.nodes
            for found in (history(log, snapshot, node.kind, node.id),)
        ],
        drawings={
            name: [
                band_svg(band, f"Lineage, part {number}")
                for number, band in enumerate(drawing_of(graph, subject.key, chosen, shape), 1)
            ]
            for name, shape in (("wide", WIDE), ("narrow", NARROW))
        },
        chosen=chosen,
        verification=verification,
        checkpoint=checkpoint,
        was_verified=verification is not None
        and checkpoint is not None
        and verification.ok
        and checkpoint.of_store(log.store_id) in verification.signed_heads,
        proofs=proofs,
    )
    rendered: str = template.render(report=report)
    return rendered


def _lineage(
    snapshot: Snapshot, kind: str, node_id: int, limit: int | None
) -> tuple[Graph, Selection]:
    """All that led to the node and all that came of it, and what of it is shown.

    Ways are walked farther than is shown, since origins are at their ends, but only up to a limit;
    only what is shown is read.
    """
    start = node_kind(kind)
    require_node(snapshot, start, node_id)
    events: list[mlmd.Event] = []
    ways: list[set[tuple[Key, Key]]] = []
    unfollowed: set[Key] = set()
    followed_max = None if limit is None else max(_FOLLOWED_MAX, _FOLLOWED_PER_SHOWN * limit)
    for direction in _WALKS:
        found = walk(
            snapshot.projections,
            as_of=snapshot.position,
            starting_kind=start.name,
            starting_ids=[node_id],
            max_num_hops=sys.maxsize - 1,
            direction=direction,
            endings={},
            max_nodes=followed_max,
        )
        ways.append({(edge.source, edge.target) for edge in map(edge_of, found.events)})
        events += found.events
        if found.left_out:
            followed = {("artifact", artifact_id) for artifact_id in found.artifact_ids}
            followed |= {("execution", execution_id) for execution_id in found.execution_ids}
            reached = {key for way in ways[-1] for key in way}
            unfollowed |= found.unfollowed | (reached - followed)
    upstream, downstream = ways
    chosen = selection((kind, node_id), upstream, downstream, limit, unfollowed)
    artifact_ids, execution_ids = (
        sorted(node_id for kind, node_id in chosen.kept if kind == kept)
        for kept in ("artifact", "execution")
    )
    shown = {(e.artifact_id, e.execution_id, e.type): e for e in events if _ends(e) <= chosen.kept}
    return graph_of(snapshot, artifact_ids, execution_ids, shown.values()), chosen


def _ends(event: mlmd.Event) -> set[Key]:
    return {("artifact", event.artifact_id), ("execution", event.execution_id)}


def _context_ids(snapshot: Snapshot, kind: str, node_id: int) -> list[int]:
    links = {
        "artifact": tables.CONTEXTS_BY_ARTIFACT,
        "execution": tables.CONTEXTS_BY_EXECUTION,
    }
    return snapshot.linked_ids(links[kind], node_id)


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
        import markupsafe
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
        finalize=_shown,
    )
    environment.filters["moment"] = lambda moment: markupsafe.Markup("<time>{}</time>").format(
        moment_text(moment)
    )
    environment.filters["counted"] = counted
    environment.filters["are"] = are
    # What is left out here is said below, where the whole name is shown.
    environment.filters["heading"] = lambda text: (
        text if len(text) <= _HEADING_MAX else f"{text[:_HEADING_MAX]}…"
    )
    environment.filters["lines"] = lambda text: markupsafe.escape(shown_lines(text))
    environment.filters["markup"] = markupsafe.Markup
    return environment.get_template("report.html.j2")


def _shown(value: Any) -> Any:
    """A stored value, as the template shows it."""
    if hasattr(value, "__html__") or value is None:
        return value
    return shown_lines(value if isinstance(value, str) else json_text(shown_struct(value)))
