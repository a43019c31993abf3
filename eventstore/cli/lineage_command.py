"""`eventstore lineage`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from eventstore.answers import EdgeAnswer, LineageAnswer, NodeAnswer
from eventstore.cli.commands import (
    NODE_KINDS,
    Choice,
    as_of_option,
    command,
    kind_argument,
    limit_option,
    output_options,
    store_argument,
)
from eventstore.cli.moments import Moment, store_as_of
from eventstore.cli.results import Grid, Output, note
from eventstore.cli.stores import opened_store
from eventstore.log.places import Place
from eventstore.plain_json import moment_of_milliseconds
from eventstore.wording import are, counted

if TYPE_CHECKING:
    from eventstore.lineage import Edge, Graph


@command(
    "lineage",
    examples=(
        "eventstore lineage my-store artifact 7",
        "eventstore lineage my-store artifact 7 --direction downstream --hops 2",
        "eventstore lineage my-store context 3 --format mermaid",
        "eventstore lineage my-store execution 5 --as-of yesterday --format dot | dot -Tsvg",
        "eventstore lineage my-store artifact 7 --limit 0 --events --csv",
    ),
)
@store_argument
@kind_argument(NODE_KINDS)
@click.argument("node_id", metavar="ID", type=int)
@click.option(
    "--direction",
    metavar="WAY",
    type=Choice(("upstream", "downstream", "both")),
    help="upstream (as without it), downstream or both. Not of a context: all of it is shown.",
)
@click.option(
    "--hops",
    type=click.IntRange(min=0),
    help="Hops at most; any number without it. Not of a context.",
)
@limit_option("Nodes, the nearest; 0 for all.")
@click.option("--events", is_flag=True, help="As CSV: the events instead of the nodes.")
@click.option(
    "--format",
    "shown_as",
    metavar="FORM",
    type=Choice(("text", "dot", "mermaid", "json", "csv")),
    help="text, dot (Graphviz), mermaid, json or csv.",
)
@as_of_option
@output_options
def lineage_command(
    place: Place,
    kind: str,
    node_id: int,
    direction: str | None,
    hops: int | None,
    limit: int,
    events: bool,
    shown_as: str | None,
    as_of: Moment | None,
    output: Output,
) -> None:
    """Show what an artifact or execution came from or led to, or what a context holds.

    KIND is artifact, execution or context.
    """
    if shown_as is not None and output.form not in ("text", shown_as):
        raise click.UsageError(f"--{output.form} and --format {shown_as} exclude each other")
    if shown_as in ("json", "csv"):
        output = replace(output, form=shown_as)
    if kind == "context" and (direction is not None or hops is not None):
        raise click.UsageError("a context has no --direction and no --hops: all of it is shown")
    if events and output.form != "csv":
        raise click.UsageError("--events is for --csv: every other form has the events, too")
    direction = direction or "upstream"
    with opened_store(place) as opened:
        store = store_as_of(opened, as_of, output)
        if kind == "context":
            graph = store.context_graph(node_id, max_nodes=limit or None)
        else:
            graph = store.lineage(
                kind, node_id, direction=direction, max_hops=hops, max_nodes=limit or None
            )
    if shown_as == "dot":
        output.text(graph.to_dot())
    elif shown_as == "mermaid":
        output.text(graph.to_mermaid())
    elif output.form == "json":
        output.json(_answer(graph))
    elif output.form == "csv":
        output.csv(_events(graph) if events else _nodes(graph, ""))
    else:
        way = "" if kind == "context" else f", {direction}"
        output.grids(_nodes(graph, f"Lineage of {kind} {node_id}{way}"), _shown_events(graph))
    if graph.left_out:
        what = counted(graph.left_out, "execution" if kind == "context" else "node")
        hop = "" if kind == "context" else " of the next hop"
        note(
            f"{counted(len(graph.nodes), 'node')} {are(len(graph.nodes))} shown; {what}{hop} "
            f"and all beyond {'it' if graph.left_out == 1 else 'them'} are left out: "
            "say --limit 0 for all."
        )


def _nodes(graph: Graph, title: str) -> Grid:
    return Grid(
        ("kind", "id", "type", "name", "state"),
        [(node.kind, node.id, *node.label, node.state) for node in graph.nodes],
        title,
    )


def _shown_events(graph: Graph) -> Grid:
    return Grid(
        ("from", "to", "event"),
        [
            (" ".join(map(str, edge.source)), " ".join(map(str, edge.target)), edge.label)
            for edge in graph.edges
        ],
        "Events",
    )


def _events(graph: Graph) -> Grid:
    return Grid(
        (
            *("source_kind", "source_id", "target_kind", "target_id"),
            *("type", "path", "occurred_at"),
        ),
        [
            (*edge.source, *edge.target, *_type_and_path(edge), _occurred_at(edge))
            for edge in graph.edges
        ],
    )


def _type_and_path(edge: Edge) -> tuple[str, str]:
    event_type, _, path = edge.label.partition(" ")
    return event_type, path


def _occurred_at(edge: Edge) -> object:
    milliseconds = edge.event.milliseconds_since_epoch
    return moment_of_milliseconds(milliseconds) if milliseconds else None


def _answer(graph: Graph) -> LineageAnswer:
    return LineageAnswer(
        [NodeAnswer(node.kind, node.id, node.message) for node in graph.nodes],
        [EdgeAnswer(edge.source, edge.target, edge.label, edge.event) for edge in graph.edges],
        graph.left_out,
    )
