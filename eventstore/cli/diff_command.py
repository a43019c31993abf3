"""`eventstore diff`."""

from __future__ import annotations

import json
from pathlib import Path

import click

import eventstore
from eventstore.cli.changes_output import fields_as_json, message_as_json, shown_fields
from eventstore.cli.moments import parsed_moment
from eventstore.cli.output import print_table, standard_output
from eventstore.history import EntityDifference, LineageDifference
from eventstore.history.fields import field_changes


@click.command(
    "diff",
    epilog="""\b
Examples:
  eventstore diff my-store 2026-11-17T00:00+00:00
  eventstore diff my-store 1200 1300
  eventstore diff my-store 1200 --json
  eventstore diff my-store 2026-11-17T00:00+00:00 --lineage artifact 7
""",
)
@click.argument("directory", metavar="STORE", type=click.Path(path_type=Path))
@click.argument("first", metavar="MOMENT")
@click.argument("second", metavar="[MOMENT]", required=False)
@click.option(
    "--lineage",
    nargs=2,
    type=(click.Choice(["artifact", "execution"]), int),
    metavar="KIND ID",
    help="Only in the lineage of this artifact or execution.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON line an entity.")
def command(
    directory: Path,
    first: str,
    second: str | None,
    lineage: tuple[str, int] | None,
    as_json: bool,
) -> None:
    """Show what is new or different at a second moment (now), entity by entity.

    A moment is a position or a time (ISO 8601, zoned).
    """
    moments = parsed_moment(first), None if second is None else parsed_moment(second)
    with eventstore.open(directory, read_only=True) as store:
        if lineage is None:
            found = store.diff(*moments)
        else:
            found = _differences(store.lineage_diff(*lineage, *moments))
    if as_json:
        for entity in found:
            shown = {
                "kind": entity.kind,
                "id": entity.id,
                "is_new": entity.is_new,
                "fields": fields_as_json(entity.fields),
                "before": message_as_json(entity.before),
                "after": message_as_json(entity.after),
            }
            click.echo(json.dumps(shown, ensure_ascii=False))
        return
    print_table(
        f"Differences in {directory}",
        ("kind", "id", "", "fields"),
        [
            (
                entity.kind.replace("_", " "),
                entity.id or "",
                "new" if entity.is_new else "changed",
                shown_fields(entity.fields),
            )
            for entity in found
        ],
        console=standard_output(),
    )


def _differences(found: LineageDifference) -> list[EntityDifference]:
    """What a lineage has gained, and what of it has changed, as differences of entities."""
    new_nodes = [
        EntityDifference(
            node.kind, node.id, None, node.message, field_changes(node.kind, None, node.message)
        )
        for node in found.new_nodes
    ]
    new_events = [
        # Events have no ids of their own in MLMD.
        EntityDifference("event", 0, None, edge.event, field_changes("event", None, edge.event))
        for edge in found.new_edges
    ]
    return [*found.changed, *new_nodes, *new_events]
