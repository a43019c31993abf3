"""Lists of nodes, page by page: filtered, in the order of any column, with any columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from eventstore.errors import InvalidArgumentError
from eventstore.history.fields import plain_fields
from eventstore.http_api.catalog import kept, node_kind, types, types_named, used_properties
from eventstore.http_api.ordering import (
    BY_ID,
    COUNTED_MAX,
    Chosen,
    Order,
    Place,
    count_up_to,
    rows_in_order,
    sortable,
)
from eventstore.log.kinds import CONTEXT, NodeKind
from eventstore.log.readable import read_message
from eventstore.metadata_store.source import Source
from eventstore.plain_json import moment_of_milliseconds
from eventstore.plain_values import shown_struct
from eventstore.projections.erased_nodes import Tombstone
from eventstore.projections.filter import compile_filter
from eventstore.projections.index_tables import TABLES_OF
from eventstore.wording import quoted

ROWS_MAX: Final = 1_000

_FIELD_TYPES: Final = {
    "id": "INT",
    "position": "INT",
    "created_at": "TIME",
    "updated_at": "TIME",
}


class Column(msgspec.Struct, frozen=True):
    """A column of a list: the type of its values, INT, DOUBLE, STRING, BOOLEAN, STRUCT or TIME.

    Where it `is_mixed`, values are of several types, and `type` is that of most. In downloads,
    whose columns have one type, they are texts.
    """

    name: str
    type: str
    is_sortable: bool = True
    is_mixed: bool = False


class NodeRow(msgspec.Struct, frozen=True):
    """A node of a list: `cells` are its values in the columns of the list.

    `position` is where it was put as it is, `by` who put its first version. `erased_by` is the
    number of the erasure of its content.
    """

    kind: str
    id: int
    type: str
    name: str | None
    state: str | None
    created_at: datetime | int | None
    by: str | None
    position: int
    cells: list[Any]
    erased_by: int | None = None


class NodeList(msgspec.Struct, frozen=True):
    """A page of nodes. `after` leads to the next one; without it this is the last."""

    columns: list[Column]
    rows: list[NodeRow]
    after: Place | None


class Found(msgspec.Struct, frozen=True):
    """How many nodes there are; where it is not exact, there are more."""

    count: int
    is_exact: bool


def chosen(source: Source, kind: str, type_name: str | None, filter_query: str) -> Chosen:
    """What a list is of: all versions of a type count.

    Raises NotFoundError for an unknown type, InvalidArgumentError for a filter that is none.
    """
    of_kind, text = node_kind(kind), filter_query.strip()
    where = compile_filter(text, kind) if text else None
    if type_name is None:
        return Chosen(of_kind, None, where)
    named = types_named(source, kind, type_name)
    if len(named) == 1:
        return Chosen(of_kind, named[0].id, where)
    is_type = f"type = {json.dumps(type_name, ensure_ascii=False)}"
    # On a line of its own, since a filter may end in a comment.
    return Chosen(
        of_kind, None, compile_filter(f"({text}\n) AND {is_type}" if text else is_type, kind)
    )


def node_list(
    source: Source,
    kind: str,
    *,
    type_name: str | None = None,
    filter_query: str = "",
    order: Order = BY_ID,
    columns: Sequence[str] | None = None,
    after: Place | None = None,
    limit: int = 50,
) -> NodeList:
    """A page of nodes as of the moment, after the last row of the page before.

    Without `columns`, they have those that the type declares, or what nodes have without a type.
    Raises NotFoundError for an unknown type, InvalidArgumentError for a filter, an order or a
    column that is none.
    """
    if not 1 <= limit <= ROWS_MAX:
        raise InvalidArgumentError(f"limit is {limit}: use 1 to {ROWS_MAX}")
    of = chosen(source, kind, type_name, filter_query)
    shown = list_columns(source, kind, type_name, columns)
    places = rows_in_order(source, of, order, after, limit + 1)
    page = places[:limit]
    rows = node_rows(source, of.kind, [place.id for place in page], [one.name for one in shown])
    return NodeList(shown, rows, page[-1].short() if len(places) > limit else None)


def found(
    source: Source,
    kind: str,
    *,
    type_name: str | None = None,
    filter_query: str = "",
    exactly: bool = False,
) -> Found:
    """How many nodes a list has: up to 10,000 of them are counted, or `exactly` all."""
    of = chosen(source, kind, type_name, filter_query)
    if of.where is None:
        counted = types(source, kind)
        wanted = [one for one in counted if type_name is None or one.name == type_name]
        return Found(sum(one.count for one in wanted), is_exact=True)
    most = None if exactly else COUNTED_MAX
    said = ("found", kind, type_name, filter_query, exactly)
    count = kept(source, said, lambda: count_up_to(source, of, most))
    is_exact = most is None or count <= most
    return Found(count if is_exact else COUNTED_MAX, is_exact)


def node_rows(
    source: Source, kind: NodeKind, node_ids: Sequence[int], columns: Sequence[str]
) -> list[NodeRow]:
    """Nodes by id, in the order given, with some columns; those that are not there are left out."""
    snapshot = source.snapshot()
    stored = TABLES_OF[kind].stored
    entries = snapshot.newest_of_each(stored, sorted({*node_ids}))
    known = source.projections.commits(snapshot.position)
    who_erased = source.projections.index.erasures.erased.who
    rows = []
    for node_id in node_ids:
        if node_id not in entries:
            continue
        position, payload = entries[node_id]
        first = snapshot.index.entries(stored, node_id, snapshot.position)[0][0]
        by = None if first in who_erased else known.by(known.number_at(first))
        message = read_message(kind.message, payload)
        is_erased = isinstance(payload, Tombstone)
        said = times_of(message) if is_erased else fields_of(kind.name, message)
        said |= {"id": node_id, "type": message.type, "position": position, "by": by}
        rows.append(
            NodeRow(
                kind.name,
                node_id,
                message.type,
                said.get("name"),
                said.get("state"),
                said.get("created_at"),
                by,
                position,
                [said.get(name) for name in columns],
                message.custom_properties["erased_by"].int_value if is_erased else None,
            )
        )
    return rows


def fields_of(kind: str, message: Any) -> dict[str, Any]:
    """The fields of a node as plain values, by the names that lists have for them."""
    said = {name: shown_struct(value) for name, value in plain_fields(kind, message).items()}
    if "last_known_state" in said:
        said["state"] = said.pop("last_known_state")
    return said | times_of(message)


def times_of(message: Any) -> dict[str, Any]:
    """When a node was created and updated; what is left of an erased one has both, too."""
    fields = {
        "created_at": "create_time_since_epoch",
        "updated_at": "last_update_time_since_epoch",
    }
    return {
        name: moment_of_milliseconds(getattr(message, field))
        for name, field in fields.items()
        if getattr(message, field, 0)
    }


def all_columns(source: Source, kind: str, type_name: str | None = None) -> list[Column]:
    """The columns that a list of nodes can have as of the moment: fields, then properties.

    Of a type those properties that it declares come first, then the custom ones of any node.
    """
    of_kind = node_kind(kind)
    fields = [Column(name, _FIELD_TYPES.get(name, "STRING")) for name in sortable(of_kind)]
    fields.append(Column("by", "STRING", is_sortable=False))
    types_of: dict[str, list[str]] = {}
    for node_type in types_named(source, kind, type_name) if type_name else ():
        for one in node_type.properties:
            types_of.setdefault(f"properties.{one.name}", []).append(one.type)
    for used in used_properties(source, kind):
        if used.types and (not type_name or used.name.startswith("custom_")):
            types_of[used.name] = used.types
    properties = [
        Column(name, found[0], is_mixed=len({*found}) > 1) for name, found in types_of.items()
    ]
    return [*fields, *properties]


def list_columns(
    source: Source, kind: str, type_name: str | None, wanted: Sequence[str] | None
) -> list[Column]:
    """The columns of a list by their names, or those that it has if none are wanted.

    Raises InvalidArgumentError for one that is none.
    """
    known = {column.name: column for column in all_columns(source, kind, type_name)}
    if wanted is None:
        wanted = ["id", "name"]
        wanted += [] if kind == CONTEXT.name else ["state"]
        wanted += ["type"] if type_name is None else []
        if type_name is not None:
            wanted += [name for name in known if name.startswith("properties.")]
        wanted += ["created_at", "by"]
    found = []
    for name in dict.fromkeys(wanted):
        if name in known:
            found.append(known[name])
        elif name.startswith(("properties.", "custom_properties.")):
            # None has it as of the moment, and others may have it at another.
            found.append(Column(name, "STRING"))
        else:
            raise InvalidArgumentError(
                f"{quoted(name)} is no column: use "
                f"{', '.join(one for one in known if '.' not in one)}, properties.NAME or "
                "custom_properties.NAME"
            )
    return found
