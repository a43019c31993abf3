"""`eventstore get` and `eventstore list`: reads of nodes and types, now and as of any moment."""

from __future__ import annotations

import json
from pathlib import Path

import click

import eventstore
from eventstore.cli.commands import (
    NODE_KINDS,
    TYPE_KINDS,
    Choice,
    as_of_option,
    command,
    kind_argument,
    output_options,
    store_argument,
)
from eventstore.cli.entities import described, entity_table, spoken
from eventstore.cli.moments import Moment, store_as_of
from eventstore.cli.results import Lines, Output, Table, note
from eventstore.cli.stores import opened_store, require_type
from eventstore.errors import NotFoundError

_LIST_COLUMNS = ("id", "type", "name", "state", "uri", "created_at", "updated_at")


@command(
    "get",
    examples=(
        "eventstore get my-store artifact 7",
        "eventstore get my-store artifact 7 --as-of yesterday",
        "eventstore get my-store artifact_type 10 --json",
    ),
)
@store_argument
@kind_argument((*NODE_KINDS, *TYPE_KINDS))
@click.argument("entity_id", metavar="ID", type=int)
@as_of_option
@output_options
def get_command(
    directory: Path, kind: str, entity_id: int, as_of: Moment | None, output: Output
) -> None:
    """Show one artifact, execution, context or type, as it is or as it was.

    KIND is artifact, execution, context, artifact_type, execution_type or context_type.
    """
    with opened_store(directory) as opened:
        store = store_as_of(opened, as_of, output)
        # protobuf refuses other numbers, which nothing can have as its id.
        is_id = 0 < entity_id < 1 << 63
        found = getattr(store, f"get_{kind}s_by_id")([entity_id]) if is_id else []
    if not found:
        moment = "" if as_of is None else f" as of {as_of.text}"
        raise NotFoundError(f"no {spoken(kind)} has id {entity_id}{moment}")
    fields = described(kind, found[0])
    if output.form == "json":
        output.json(found[0])
    elif output.form == "csv":
        output.csv(entity_table([fields]))
    else:
        title = f"{spoken(kind).capitalize()} {entity_id}"
        output.tables(Table(("field", "value"), tuple(fields.items()), title))


@command(
    "list",
    examples=(
        "eventstore list my-store artifact --type Model",
        'eventstore list my-store execution --filter "last_known_state = FAILED" --limit 10',
        "eventstore list my-store artifact --as-of 2026-11-20 --csv --output models.csv",
    ),
)
@store_argument
@kind_argument(NODE_KINDS)
@click.option("--type", "type_name", help="Only nodes of the type with this name.")
@click.option("--filter", "filter_query", help="Only nodes that match, in MLMD's filter language.")
@click.option(
    "--order-by",
    metavar="FIELD",
    type=Choice(["id", "create_time", "update_time"]),
    default="id",
    show_default=True,
    help="id, create_time or update_time.",
)
@click.option("--descending", is_flag=True, help="The greatest first.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=100, show_default=True, help="0 for all."
)
@as_of_option
@output_options
def list_command(
    directory: Path,
    kind: str,
    type_name: str | None,
    filter_query: str | None,
    order_by: str,
    descending: bool,
    limit: int,
    as_of: Moment | None,
    output: Output,
) -> None:
    """List artifacts, executions or contexts, as they are or as they were.

    KIND is artifact, execution or context.
    """
    conditions = [f"({filter_query})"] if filter_query else []
    if type_name is not None:
        conditions.append(f"type = {json.dumps(type_name, ensure_ascii=False)}")
    options = eventstore.ListOptions(
        limit=limit + 1 if limit else None,
        order_by=getattr(eventstore.OrderByField, order_by.upper()),
        is_asc=not descending,
        filter_query=" AND ".join(conditions) or None,
    )
    with opened_store(directory) as opened:
        store = store_as_of(opened, as_of, output)
        if type_name is not None:
            require_type(store, (kind,), type_name)
        found = getattr(store, f"get_{kind}s")(options)
    shown = found[:limit] if limit else found
    entities = [described(kind, node) for node in shown]
    columns = [
        name
        for name in _LIST_COLUMNS
        if not ((name == "uri" and kind != "artifact") or (name == "state" and kind == "context"))
    ]
    output.table(
        Table(
            (*columns, "properties"),
            [
                (*(entity.get(name) for name in columns), _properties(entity, output))
                for entity in entities
            ],
            f"{kind.capitalize()}s of {directory}",
        ),
        objects=lambda: shown,
        csv=lambda: entity_table(entities, columns),
    )
    if len(found) > len(shown):
        note(f"There are more than these {limit}: say --limit 0 for all.")


def _properties(entity: dict[str, object], output: Output) -> Lines:
    return Lines(
        tuple(
            f"{name.partition('.')[2]}: {output.shown(value)}"
            for name, value in entity.items()
            if "." in name
        )
    )
