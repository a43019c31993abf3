"""`eventstore history`."""

from __future__ import annotations

import json
from pathlib import Path

import click

import eventstore
from eventstore.cli.changes_output import fields_as_json, message_as_json, shown_fields
from eventstore.cli.moments import as_of_option, store_as_of
from eventstore.cli.output import print_table, standard_output
from eventstore.log.record import KINDS


@click.command(
    "history",
    epilog="""\b
Examples:
  eventstore history my-store artifact 7
  eventstore history my-store context 3 --touching
  eventstore history my-store artifact_type 10 --as-of 2026-11-20T08:00+00:00 --json
""",
)
@click.argument("directory", metavar="STORE", type=click.Path(path_type=Path))
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("entity_id", metavar="ID", type=int)
@click.option(
    "--touching", is_flag=True, help="Of a context: all that touched it, links from and to it."
)
@as_of_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON line a version.")
def command(
    directory: Path, kind: str, entity_id: int, touching: bool, as_of: str | None, as_json: bool
) -> None:
    """Show every version of an entity: when, by whom, why, and what changed."""
    if touching and kind != "context":
        raise click.UsageError("--touching is for contexts")
    with eventstore.open(directory, read_only=True) as opened:
        store = store_as_of(opened, as_of)
        if touching:
            versions = store.context_history(entity_id)
        else:
            versions = store.history(kind, entity_id)
    if as_json:
        for version in versions:
            shown = {
                "kind": version.kind,
                "id": version.id,
                "position": version.position,
                "commit": version.commit,
                "recorded_at": version.recorded_at.isoformat(),
                "actor": version.actor,
                "reason": version.reason,
                "request_id": version.request_id,
                "changes": fields_as_json(version.changes),
                "message": message_as_json(version.message),
            }
            click.echo(json.dumps(shown, ensure_ascii=False))
        return
    print_table(
        f"History of {kind.replace('_', ' ')} {entity_id}",
        ("position", "recorded at (UTC)", "actor", "reason", "what", "changes"),
        [
            (
                version.position,
                version.recorded_at.isoformat(timespec="milliseconds").removesuffix("+00:00"),
                version.actor,
                version.reason,
                f"{version.kind.replace('_', ' ')} {version.id}",
                shown_fields(version.changes),
            )
            for version in versions
        ],
        console=standard_output(),
    )
