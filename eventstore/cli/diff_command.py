"""`eventstore diff`."""

from __future__ import annotations

import json
from pathlib import Path

import click

import eventstore
from eventstore.cli.changes_output import fields_as_json, message_as_json, shown_fields
from eventstore.cli.moments import parsed_moment
from eventstore.cli.output import print_table, standard_output


@click.command(
    "diff",
    epilog="""\b
Examples:
  eventstore diff my-store 2026-11-17T00:00+00:00
  eventstore diff my-store 1200 1300
  eventstore diff my-store 1200 --json
""",
)
@click.argument("directory", metavar="STORE", type=click.Path(path_type=Path))
@click.argument("first", metavar="MOMENT")
@click.argument("second", metavar="[MOMENT]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON line an entity.")
def command(directory: Path, first: str, second: str | None, as_json: bool) -> None:
    """Show what is new or different at a second moment (now), entity by entity.

    A moment is a position or a time (ISO 8601, zoned).
    """
    with eventstore.open(directory, read_only=True) as store:
        found = store.diff(parsed_moment(first), None if second is None else parsed_moment(second))
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
                entity.id,
                "new" if entity.is_new else "changed",
                shown_fields(entity.fields),
            )
            for entity in found
        ],
        console=standard_output(),
    )
