"""Whatever the API answers, as HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Final

from eventstore.history import CommitChanges, EntityDifference, LineageDifference, Version
from eventstore.history.changes import EntityChange
from eventstore.history.marks import ErasedBy
from eventstore.lineage import Comparison, Graph, Run
from eventstore.log import VerifyReport
from eventstore.notebook.html import (
    ROWS_MAX,
    Html,
    block,
    bold,
    change,
    fields,
    heading,
    joined,
    soft,
    table,
    unbroken,
)
from eventstore.notebook.nodes import KINDS, message_html, messages_html
from eventstore.plain_values import shown_struct
from eventstore.recording import Run as RecordedRun
from eventstore.report.drawing import drawing_of
from eventstore.report.selection import Key, selection
from eventstore.report.svg import band_svg
from eventstore.wording import are, plural

_DRAWN_NODES_MAX: Final = 60


def html_of(value: Any) -> str | None:
    """The value as HTML; None for one that this package does not know."""
    if type(value) in KINDS:
        return message_html(value)
    for known, html in _ONE.items():
        if isinstance(value, known):
            return html(value)
    return list_html(value) if isinstance(value, list) else None


def list_html(values: Sequence[Any]) -> str | None:
    """A list of one kind of thing that is known here as a table; None for another list."""
    if not values:
        return None
    first = type(values[0])
    known = first in KINDS or first in _MANY
    # The first items decide: a list may be very long.
    if not known or any(type(value) is not first for value in islice(values, ROWS_MAX)):
        return None
    return messages_html(values) if first in KINDS else _MANY[first](values)


def _graph(graph: Graph) -> Html:
    edges = {(edge.source, edge.target) for edge in graph.edges}
    subject = graph.subject or _last(graph, edges)
    if subject is None:
        return block(soft("a lineage of no nodes"))
    upstream = _leading_to(subject, edges)
    chosen = selection(subject, upstream, edges - upstream, _DRAWN_NODES_MAX)
    shown = Graph(
        tuple(node for node in graph.nodes if node.key in chosen.kept),
        tuple(e for e in graph.edges if e.source in chosen.kept and e.target in chosen.kept),
    )
    artifacts, executions = len(graph.artifacts()), len(graph.executions())
    said = [
        f"{artifacts:,} {plural(artifacts, 'artifact')}, "
        f"{executions:,} {plural(executions, 'execution')}"
    ]
    apart = len(graph.nodes) - len(chosen.kept)
    if apart:
        said.append(f"{apart:,} of these {are(apart)} not drawn")
    if graph.left_out:
        said.append(f"{graph.left_out:,} or more were left out by max_nodes")
    bands = drawing_of(shown, graph.subject, chosen)
    return block(
        *(band_svg(band, f"Lineage, part {number}") for number, band in enumerate(bands, 1)),
        soft("; ".join(said)),
    )


def _last(graph: Graph, edges: set[tuple[Key, Key]]) -> Key | None:
    """A node that nothing came of, to draw from where no node was asked about."""
    sources = {source for source, _ in edges}
    return max(
        (node.key for node in graph.nodes if node.key not in sources),
        default=graph.nodes[-1].key if graph.nodes else None,
    )


def _leading_to(subject: Key, edges: set[tuple[Key, Key]]) -> set[tuple[Key, Key]]:
    sources: dict[Key, list[Key]] = {}
    for source, target in edges:
        sources.setdefault(target, []).append(source)
    found: set[tuple[Key, Key]] = set()
    reached = [subject]
    seen = {subject}
    for key in reached:
        for source in sources.get(key, ()):
            found.add((source, key))
            if source not in seen:
                seen.add(source)
                reached.append(source)
    return found


def _changes(changed: Sequence[Any], erasures: Sequence[ErasedBy] = ()) -> Html:
    shown = [
        soft(f"{mark.what} erased by erasure {mark.number} ({mark.basis}), {mark.by}")
        for mark in erasures
    ]
    shown += [
        joined(
            [soft(f"{found.field}:"), change(shown_struct(found.before), shown_struct(found.after))]
        )
        for found in changed[:ROWS_MAX]
    ]
    if len(changed) > ROWS_MAX:
        shown.append(soft(f"{len(changed) - ROWS_MAX:,} more fields"))
    return joined(shown, "<br>")


def _versions(versions: Sequence[Version]) -> Html:
    rows = [
        [
            unbroken(f"{version.kind} {version.id}"),
            version.recorded_at,
            version.actor,
            version.reason,
            version.request_id,
            version.position,
            _changes(version.changes, version.erasures),
        ]
        for version in versions[:ROWS_MAX]
    ]
    columns = ("entity", "recorded at", "by", "reason", "request", "position", "what changed")
    return block(_full(columns, rows, len(versions), "versions"))


def _word(difference: EntityDifference) -> str:
    if difference.is_new:
        return "new"
    return "changed" if difference.fields else "erased"


def _differences(differences: Sequence[EntityDifference]) -> Html:
    rows = [
        [
            unbroken(f"{difference.kind} {difference.id}"),
            _name(difference.after),
            _word(difference),
            _changes(difference.fields, difference.erasures),
        ]
        for difference in differences[:ROWS_MAX]
    ]
    return block(_full(("entity", "name", "", "fields"), rows, len(differences), "differences"))


def _entity_changes(changes: Sequence[EntityChange]) -> Html:
    rows = [
        [
            unbroken(f"{entity.kind} {entity.id}"),
            _name(entity.message),
            entity.position,
            "new" if entity.is_new else "changed",
            _changes(entity.fields, entity.erasures),
        ]
        for entity in changes[:ROWS_MAX]
    ]
    columns = ("entity", "name", "position", "", "fields")
    return block(_full(columns, rows, len(changes), "changes"))


def _commits(commits: Sequence[CommitChanges]) -> Html:
    rows = [
        [
            commit.number,
            commit.recorded_at,
            commit.actor,
            commit.reason,
            commit.request_id,
            ", ".join(f"{change.kind} {change.id}" for change in commit.changes[:ROWS_MAX])
            + (f" and {more:,} more" if (more := len(commit.changes) - ROWS_MAX) > 0 else ""),
        ]
        for commit in commits[:ROWS_MAX]
    ]
    columns = ("commit", "recorded at", "by", "reason", "request", "what")
    return block(_full(columns, rows, len(commits), "commits"))


def _lineage_difference(difference: LineageDifference) -> Html:
    said = (
        f"{len(difference.new_nodes):,} new nodes, {len(difference.new_edges):,} new events, "
        f"{len(difference.changed):,} changed nodes"
    )
    new = [
        [unbroken(f"{n.kind} {n.id}"), n.label[0], n.message.name, n.state]
        for n in difference.new_nodes
    ]
    parts = [heading(bold(said))]
    if new:
        columns = ("new", "type", "name", "state")
        parts.append(_full(columns, new[:ROWS_MAX], len(new), "new nodes"))
    if difference.changed:
        parts.append(_differences(difference.changed))
    return block(*parts, _graph(difference.after))


def _comparison(comparison: Comparison) -> Html:
    differing = comparison.differences
    rows = [
        [found.field, shown_struct(found.left), shown_struct(found.right)]
        for found in differing[:ROWS_MAX]
    ]
    equal = len(comparison.fields) - len(differing)
    ends = [_name(node) or f"id {node.id}" for node in (comparison.left, comparison.right)]
    return block(
        _full(("field", *ends), rows, len(differing), "differences"),
        soft(f"{equal:,} equal fields"),
    )


def _runs(runs: Sequence[Run]) -> Html:
    def named(nodes: Sequence[Any]) -> str:
        return ", ".join(_name(node) or f"{node.type} {node.id}" for node in nodes)

    rows = [
        [
            f"execution {r.execution.id}",
            r.execution.type,
            _name(r.execution),
            named(r.inputs),
            named(r.outputs),
        ]
        for r in runs[:ROWS_MAX]
    ]
    return block(_full(("run", "type", "name", "inputs", "outputs"), rows, len(runs), "runs"))


def _verification(report: VerifyReport) -> Html:
    said = [
        ("records", f"{report.records:,} in {report.commits:,} {plural(report.commits, 'commit')}"),
        ("tree head", report.tree_head),
        *(
            ("checkpoint", f"{signed.signed}, {signed.size:,} {plural(signed.size, 'record')}")
            for signed in report.signed_heads
        ),
        *(("not checked", words) for words in report.not_checked),
        *(("finding", finding.what) for finding in report.findings[:ROWS_MAX]),
        *(("cache to rebuild", finding.what) for finding in report.cache_findings[:ROWS_MAX]),
    ]
    if report.findings:
        findings = len(report.findings)
        verdict = f"damaged: {findings:,} {plural(findings, 'finding')}"
    else:
        verdict = "sound" if report.ok else "sound, but for caches that do not agree with it"
    return block(heading(soft("verification"), bold(verdict)), fields(said))


def _full(columns: Sequence[str], rows: Sequence[Sequence[Any]], total: int, things: str) -> Html:
    """A table without the columns that are empty."""
    shown = [
        number
        for number in range(len(columns))
        if any(row[number] not in (None, "") for row in rows)
    ]
    return table(
        [columns[number] for number in shown],
        [[row[number] for number in shown] for row in rows],
        total,
        things,
    )


def _name(message: Any) -> str:
    return str(getattr(message, "name", "")) if message is not None else ""


def _recorded(run: RecordedRun) -> str | None:
    if not run.has_begun:
        return None
    return _ONE[Run](Run(run.execution, tuple(run.inputs), tuple(run.outputs)))


_ONE: Final[dict[type, Callable[[Any], str | None]]] = {
    Graph: _graph,
    Version: lambda version: _versions([version]),
    EntityDifference: lambda difference: _differences([difference]),
    EntityChange: lambda entity: _entity_changes([entity]),
    CommitChanges: lambda commit: block(_commits([commit]), _entity_changes(commit.changes)),
    LineageDifference: _lineage_difference,
    Comparison: _comparison,
    Run: lambda run: block(_runs([run]), message_html(run.execution)),
    RecordedRun: _recorded,
    VerifyReport: _verification,
}
_MANY: Final[dict[type, Callable[[Sequence[Any]], str]]] = {
    Version: _versions,
    EntityDifference: _differences,
    EntityChange: _entity_changes,
    CommitChanges: _commits,
    Run: _runs,
}
