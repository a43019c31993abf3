"""`eventstore lineage`."""

from __future__ import annotations

import json
from pathlib import Path

import click
from google.protobuf import json_format

import eventstore
from eventstore.cli.moments import as_of_option, store_as_of
from eventstore.cli.output import print_table, standard_output
from eventstore.lineage import Graph


@click.command(
    "lineage",
    epilog="""\b
Examples:
  eventstore lineage my-store artifact 7
  eventstore lineage my-store artifact 7 --direction downstream --hops 2
  eventstore lineage my-store context 3 --format mermaid
  eventstore lineage my-store execution 5 --as-of 2026-11-20T08:00+00:00 --format dot | dot -Tsvg
""",
)
@click.argument("directory", metavar="STORE", type=click.Path(path_type=Path))
@click.argument("kind", type=click.Choice(("artifact", "execution", "context")))
@click.argument("node_id", metavar="ID", type=int)
@click.option(
    "--direction",
    type=click.Choice(("upstream", "downstream", "both")),
    default="both",
    show_default=True,
    help="Of a context, all its executions are shown.",
)
@click.option("--hops", type=click.IntRange(min=0), help="Hops at most; any number without it.")
@click.option(
    "--format",
    "shown_as",
    type=click.Choice(("text", "dot", "mermaid", "json")),
    default="text",
    show_default=True,
)
@as_of_option
def command(
    directory: Path,
    kind: str,
    node_id: int,
    direction: str,
    hops: int | None,
    shown_as: str,
    as_of: str | None,
) -> None:
    """Show what an artifact or execution came from and led to, or what a context holds."""
    with eventstore.open(directory, read_only=True) as opened:
        store = store_as_of(opened, as_of)
        if kind == "context":
            graph = store.context_graph(node_id)
        else:
            graph = store.lineage(kind, node_id, direction=direction, max_hops=hops)
    if shown_as == "dot":
        click.echo(graph.to_dot(), nl=False)
    elif shown_as == "mermaid":
        click.echo(graph.to_mermaid(), nl=False)
    elif shown_as == "json":
        click.echo(json.dumps(_as_json(graph), ensure_ascii=False))
    else:
        _print(graph, f"Lineage of {kind} {node_id}")


def _print(graph: Graph, title: str) -> None:
    console = standard_output()
    print_table(
        title,
        ("kind", "id", "type", "name", "state"),
        [(node.kind, node.id, *node.label, node.state) for node in graph.nodes],
        console=console,
    )
    print_table(
        "Events",
        ("from", "to", "event"),
        [
            (" ".join(map(str, e.source)), " ".join(map(str, e.target)), e.label)
            for e in graph.edges
        ],
        console=console,
    )


def _as_json(graph: Graph) -> dict[str, object]:
    return {
        "nodes": [
            {"kind": node.kind, "id": node.id, "node": json_format.MessageToDict(node.message)}
            for node in graph.nodes
        ],
        "edges": [
            {
                "source": edge.source,
                "target": edge.target,
                "label": edge.label,
                "event": json_format.MessageToDict(edge.event),
            }
            for edge in graph.edges
        ],
    }
