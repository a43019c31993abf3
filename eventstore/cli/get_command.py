"""`eventstore get` and `eventstore list`: reads of nodes and types, now and as of any moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

import eventstore
from eventstore.cli.changes_output import message_as_json
from eventstore.cli.moments import as_of_option, store_as_of
from eventstore.cli.output import print_table, standard_output
from eventstore.errors import NotFoundError

_NODE_KINDS = ("artifact", "execution", "context")
_KINDS = (*_NODE_KINDS, "artifact_type", "execution_type", "context_type")


@click.command(
    "get",
    epilog="""\b
Examples:
  eventstore get my-store artifact 7
  eventstore get my-store artifact 7 --as-of 2026-11-20T08:00+00:00 --json
""",
)
@click.argument("directory", metavar="STORE", type=click.Path(path_type=Path))
@click.argument("kind", type=click.Choice(_KINDS))
@click.argument("entity_id", metavar="ID", type=int)
@as_of_option
@click.option("--json", "as_json", is_flag=True, help="Print protobuf's JSON.")
def get_command(
    directory: Path, kind: str, entity_id: int, as_of: str | None, as_json: bool
) -> None:
    """Show one artifact, execution, context or type, as it is or as it was."""
    with eventstore.open(directory, read_only=True) as opened:
        store = store_as_of(opened, as_of)
        found = getattr(store, f"get_{kind}s_by_id")([entity_id])
    if not found:
        moment = "" if as_of is None else f" as of {as_of}"
        raise NotFoundError(f"no {kind.replace('_', ' ')} has id {entity_id}{moment}")
    if as_json:
        click.echo(json.dumps(message_as_json(found[0]), ensure_ascii=False))
    else:
        click.echo(str(found[0]).rstrip())


@click.command(
    "list",
    epilog="""\b
Examples:
  eventstore list my-store artifact --type Model
  eventstore list my-store execution --filter "last_known_state = FAILED" --limit 10
  eventstore list my-store artifact --as-of 2026-11-20T08:00+00:00 --json
""",
)
@click.argument("directory", metavar="STORE", type=click.Path(path_type=Path))
@click.argument("kind", type=click.Choice(_NODE_KINDS))
@click.option("--type", "type_name", help="Only nodes of the type with this name.")
@click.option("--filter", "filter_query", help="Only nodes that match, in MLMD's filter language.")
@click.option(
    "--order-by",
    type=click.Choice(["id", "create_time", "update_time"]),
    default="id",
    show_default=True,
)
@click.option("--descending", is_flag=True, help="The greatest first.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=100, show_default=True, help="0 for all."
)
@as_of_option
@click.option("--json", "as_json", is_flag=True, help="Print a line of protobuf's JSON a node.")
def list_command(
    directory: Path,
    kind: str,
    type_name: str | None,
    filter_query: str | None,
    order_by: str,
    descending: bool,
    limit: int,
    as_of: str | None,
    as_json: bool,
) -> None:
    """Show artifacts, executions or contexts, as they are or as they were."""
    conditions = [f"({filter_query})"] if filter_query else []
    if type_name is not None:
        quoted = json.dumps(type_name, ensure_ascii=False)
        conditions.append(f"type = {quoted}")
    options = eventstore.ListOptions(
        limit=limit + 1 if limit else None,
        order_by=getattr(eventstore.OrderByField, order_by.upper()),
        is_asc=not descending,
        filter_query=" AND ".join(conditions) or None,
    )
    with eventstore.open(directory, read_only=True) as opened:
        found = getattr(store_as_of(opened, as_of), f"get_{kind}s")(options)
    shown = found[:limit] if limit else found
    if as_json:
        for node in shown:
            click.echo(json.dumps(message_as_json(node), ensure_ascii=False))
        return
    print_table(
        f"{kind.capitalize()}s of {directory}",
        ("id", "type", "name", "state", "uri", "properties"),
        [_row(kind, node) for node in shown],
        console=standard_output(),
    )
    if len(found) > len(shown):
        click.echo("There are more: say --limit 0 for all.")


def _row(kind: str, node: Any) -> tuple[object, ...]:
    from eventstore.history.fields import plain_fields

    fields = plain_fields(kind, node)
    state = fields.get("state", fields.get("last_known_state"))
    properties = "\n".join(
        f"{name.partition('.')[2]}: {value}" for name, value in fields.items() if "." in name
    )
    return node.id, node.type, fields.get("name"), state, fields.get("uri"), properties
