"""`eventstore get` and `eventstore list`: reads of nodes and types, now and as of any moment."""

from __future__ import annotations

import json
from typing import Any, Final

import click
from msgspec.structs import asdict, replace

import eventstore
from eventstore.answers import Explanation
from eventstore.cli.commands import (
    NODE_KINDS,
    TYPE_KINDS,
    Choice,
    as_of_option,
    command,
    kind_argument,
    limit_option,
    output_options,
    store_argument,
)
from eventstore.cli.entities import described, entity_table, spoken
from eventstore.cli.moments import Moment, store_as_of
from eventstore.cli.results import Grid, Lines, Output, note
from eventstore.cli.stores import opened_store, require_type
from eventstore.errors import NotFoundError
from eventstore.log.places import Place
from eventstore.metadata_store.metadata_store import AsOfStore, MetadataStore
from eventstore.projections.filter import compile_filter
from eventstore.shown_text import shown_text

_LONG_PROPERTIES: Final = ("custom_properties.environment", "custom_properties.traceback")
"""Of recorded runs; a list is not read for them."""
_LIST_COLUMNS = ("id", "type", "name", "state", "uri", "created_at", "updated_at")


@command(
    "get",
    examples=(
        "eventstore get my-store artifact 7",
        "eventstore get my-store artifact Model churn --as-of yesterday",
        "eventstore get my-store artifact_type Model --json",
    ),
)
@store_argument
@kind_argument((*NODE_KINDS, *TYPE_KINDS))
@click.argument("words", metavar="(ID | TYPE NAME)", nargs=-1, required=True)
@as_of_option
@output_options
def get_command(
    place: Place, kind: str, words: tuple[str, ...], as_of: Moment | None, output: Output
) -> None:
    """Show one artifact, execution, context or type, as it is or as it was.

    KIND is artifact, execution, context, artifact_type, execution_type or context_type. A node is
    named by its id, or by its type and name; a type by its id, or by its name and, if it has one,
    its version.
    """
    is_type = kind in TYPE_KINDS
    if len(words) > 2 or (len(words) == 1 and not is_type and not _is_id(words[0])):
        form = "its id, or its name and version" if is_type else "its id, or its type and name"
        said = " ".join(shown_text(word) for word in words)
        raise click.UsageError(f"{said!r} names no {spoken(kind)}: say {form}")
    with opened_store(place) as opened:
        store = store_as_of(opened, as_of, output)
        if len(words) == 1 and _is_id(words[0]):
            found, named = _by_id(store, kind, int(words[0])), f"id {int(words[0])}"
        elif is_type:
            version = words[1] if len(words) == 2 else None
            found = _type_by_name(store, kind, words[0], version)
            named = f"name {shown_text(words[0])!r}"
            named += f" and version {shown_text(version)!r}" if version else ""
        else:
            require_type(store, (kind,), words[0])
            found = getattr(store, f"get_{kind}_by_type_and_name")(*words)
            named = f"type {shown_text(words[0])!r} and name {shown_text(words[1])!r}"
    if found is None:
        moment = "" if as_of is None else f" as of {as_of.text}"
        raise NotFoundError(f"no {spoken(kind)} has {named}{moment}")
    fields = described(kind, found)
    if output.form == "json":
        output.json(found)
    elif output.form == "csv":
        output.csv(entity_table([fields]))
    else:
        title = f"{spoken(kind).capitalize()} {found.id}"
        output.grids(Grid(("field", "value"), tuple(fields.items()), title))


def _is_id(word: str) -> bool:
    return word.isascii() and word.removeprefix("-").isdigit()


def _by_id(store: MetadataStore | AsOfStore, kind: str, entity_id: int) -> Any:
    # protobuf refuses other numbers, which nothing can have as its id.
    is_id = 0 < entity_id < 1 << 63
    found = getattr(store, f"get_{kind}s_by_id")([entity_id]) if is_id else []
    return found[0] if found else None


def _type_by_name(
    store: MetadataStore | AsOfStore, kind: str, name: str, version: str | None
) -> Any:
    try:
        return getattr(store, f"get_{kind}")(name, version)
    except NotFoundError:
        require_type(store, (kind.removesuffix("_type"),), name)
        return None


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
@limit_option("0 for all.")
@click.option("--explain", is_flag=True, help="Say how the list is found instead, with the SQL.")
@as_of_option
@output_options
def list_command(
    place: Place,
    kind: str,
    type_name: str | None,
    filter_query: str | None,
    order_by: str,
    descending: bool,
    limit: int,
    explain: bool,
    as_of: Moment | None,
    output: Output,
) -> None:
    """List artifacts, executions or contexts, as they are or as they were.

    KIND is artifact, execution or context.
    """
    where = filter_query or None
    if type_name is not None:
        is_type = f"type = {json.dumps(type_name, ensure_ascii=False)}"
        if where is not None:
            # By itself first: an error is about what was written, and no ) closes the one before.
            compile_filter(where, kind)
        # On a line of its own, since a filter may end in a comment.
        where = is_type if where is None else f"({where}\n) AND {is_type}"
    options = eventstore.ListOptions(
        limit=limit + 1 if limit else None,
        order_by=getattr(eventstore.OrderByField, order_by.upper()),
        is_asc=not descending,
        filter_query=where,
    )
    with opened_store(place) as opened:
        store = store_as_of(opened, as_of, output)
        if type_name is not None:
            require_type(store, (kind,), type_name)
        if explain:
            _explain(store.explain(options, kind=kind), output)
            return
        found = getattr(store, f"get_{kind}s")(options)
    shown = found[:limit] if limit else found
    entities = [described(kind, node) for node in shown]
    columns = [
        name
        for name in _LIST_COLUMNS
        if not ((name == "uri" and kind != "artifact") or (name == "state" and kind == "context"))
    ]
    output.grid(
        Grid(
            (*columns, "properties"),
            [
                (*(entity.get(name) for name in columns), _properties(entity, output))
                for entity in entities
            ],
            f"{kind.capitalize()}s of {place}",
        ),
        objects=lambda: shown,
        csv=lambda: entity_table(entities, columns),
    )
    if output.form == "text" and any(name in e for e in entities for name in _LONG_PROPERTIES):
        note("environment and traceback are left out: eventstore get shows them.")
    if len(found) > len(shown):
        note(f"There are more than these {limit}: say --limit 0 for all.")


def _explain(explanation: Explanation, output: Output) -> None:
    said = asdict(explanation)
    shown = {name: value for name, value in said.items() if value not in (None, {})}
    if explanation.sql is not None:
        shown["sql"] = " ".join(explanation.sql.splitlines())
    # Whole, so that the query can be pasted.
    output = replace(output, is_wrapped=False)
    output.grid(Grid(("field", "value"), list(shown.items())), objects=lambda: [explanation])


def _properties(entity: dict[str, object], output: Output) -> Lines:
    return Lines(
        tuple(
            f"{name.partition('.')[2]}: {output.shown(value)}"
            for name, value in entity.items()
            if "." in name and name not in _LONG_PROPERTIES
        )
    )
