"""Pages of nodes in the order of any column, found in the tables: no row is read twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from eventstore.errors import InvalidArgumentError
from eventstore.http_api.catalog import tables_rows, used_properties
from eventstore.log.kinds import CONTEXT, NodeKind
from eventstore.log.record import Position
from eventstore.metadata_store.source import Source
from eventstore.projections.filter import FilterSql
from eventstore.projections.listing import Listing
from eventstore.projections.listing_sql import listing_sql

PLANNED: Final = {"id": "id", "created_at": "create_time", "updated_at": "update_time"}
"""The columns by which the planner lists, and what the tables call them."""

_COLUMNS: Final = {
    "name": "node.name",
    "external_id": "node.external_id",
    "uri": "node.uri",
    "state": "node.state",
    "type": "(SELECT any_value(name) FROM types WHERE types.id = node.type_id)",
    "position": "node.valid_from",
}
_NUMBERS: Final = frozenset(("INT", "DOUBLE", "BOOLEAN"))
_ALIVE: Final = "{0}.valid_from <= $as_of AND {0}.valid_to > $as_of"

COUNTED_MAX: Final = 10_000


class Order(msgspec.Struct, frozen=True):
    """By which column, in which direction; nodes without a value come last, ties by id."""

    column: str = "id"
    descending: bool = False


class Place(msgspec.Struct, frozen=True):
    """The last row of a page: its value in the order, and its id."""

    value: int | float | str | bool | None
    id: int


class Chosen(msgspec.Struct, frozen=True):
    """Which nodes are listed: of a type, and that match a filter."""

    kind: NodeKind
    type_id: int | None = None
    where: FilterSql | None = None


def rows_in_order(
    source: Source, chosen: Chosen, order: Order, after: Place | None, limit: int
) -> list[Place]:
    """The first rows after a place. Raises InvalidArgumentError for an order that is none."""
    if order.column in PLANNED:
        return _planned(source, chosen, order, after, limit)
    parameters: dict[str, Any] = {"limit": limit}
    value, joined = _value(source, chosen.kind, order.column, parameters)
    within = _within(source, chosen, parameters)
    direction = "DESC" if order.descending else "ASC"
    sql = f"""
    SELECT {value} AS value, node.id
    FROM {chosen.kind.name}s AS node {joined}
    WHERE {_ALIVE.format("node")} {within} {_after(value, order, after, parameters)}
    ORDER BY value {direction} NULLS LAST, node.id {direction}
    LIMIT $limit
    """
    return [Place(*row) for row in tables_rows(source, sql, parameters)]


def count_up_to(source: Source, chosen: Chosen, most: int | None = COUNTED_MAX) -> int:
    """How many nodes are chosen; where there are more than `most`, one more than that."""
    parameters: dict[str, Any] = {}
    within = _within(source, chosen, parameters)
    limit = ""
    if most is not None:
        limit, parameters["most"] = "LIMIT $most", most + 1
    sql = f"""
    SELECT count(*) FROM (
        SELECT 1 FROM {chosen.kind.name}s AS node
        WHERE {_ALIVE.format("node")} {within} {limit}
    )
    """
    ((count,),) = tables_rows(source, sql, parameters)
    found: int = count
    return found


def sortable(kind: NodeKind) -> Sequence[str]:
    """The columns, properties apart, by which nodes of a kind can be ordered."""
    lacking = {"uri"} if kind.name != "artifact" else set()
    if kind is CONTEXT:
        lacking.add("state")
    return [name for name in (*PLANNED, *_COLUMNS) if name not in lacking]


def _planned(
    source: Source, chosen: Chosen, order: Order, after: Place | None, limit: int
) -> list[Place]:
    last = None if after is None else (after.value, after.id)
    if last is not None and not isinstance(last[0], int):
        raise InvalidArgumentError("the cursor is of another order")
    listing = Listing(
        chosen.kind,
        source.position(),
        type_id=chosen.type_id,
        order_by=PLANNED[order.column],
        descending=order.descending,
        after=last,  # type: ignore[arg-type]
        limit=limit,
        where=chosen.where,
    )
    found = source.projections.planner.find(listing)
    return [Place(value, node_id) for node_id, value in found.rows]


def _value(
    source: Source, kind: NodeKind, column: str, parameters: dict[str, Any]
) -> tuple[str, str]:
    """The SQL of what is ordered by, and the join that it needs."""
    if column in sortable(kind):
        return _COLUMNS[column], ""
    known = {one.name: one for one in used_properties(source, kind.name)}
    map_name, _, name = column.partition(".")
    if map_name not in ("properties", "custom_properties") or not name:
        raise InvalidArgumentError(
            f"nodes cannot be ordered by {column!r}: use one of {', '.join(sortable(kind))}, or "
            "properties.NAME or custom_properties.NAME"
        )
    used = known.get(column)
    types = set() if used is None else {*used.types}
    if types <= {"INT"}:
        value = "p.int_value"
    elif types <= _NUMBERS:
        value = "coalesce(p.double_value, p.int_value::DOUBLE, p.bool_value::INTEGER::DOUBLE)"
    else:
        value = (
            "coalesce(p.string_value, p.struct_value, p.int_value::VARCHAR, "
            "p.double_value::VARCHAR, p.bool_value::VARCHAR)"
        )
    parameters["property"] = name
    custom = "p.is_custom" if map_name == "custom_properties" else "NOT p.is_custom"
    return value, (
        f"LEFT JOIN {kind.name}_properties AS p ON p.node_id = node.id AND p.name = $property "
        f"AND {custom} AND {_ALIVE.format('p')}"
    )


def _within(source: Source, chosen: Chosen, parameters: dict[str, Any]) -> str:
    """A condition for the nodes that are chosen."""
    if chosen.where is None:
        if chosen.type_id is None:
            return ""
        parameters["type_id"] = chosen.type_id
        return "AND node.type_id = $type_id"
    listing = Listing(
        chosen.kind, Position(source.position()), type_id=chosen.type_id, where=chosen.where
    )
    sql, bound = listing_sql(listing, is_now=False)
    parameters |= bound
    return f"AND node.id IN (SELECT id FROM ({sql}) AS listed(id, value))"


def _after(value: str, order: Order, after: Place | None, parameters: dict[str, Any]) -> str:
    if after is None:
        return ""
    parameters["after_id"] = after.id
    comparison = "<" if order.descending else ">"
    if after.value is None:
        return f"AND {value} IS NULL AND node.id {comparison} $after_id"
    parameters["after_value"] = after.value
    return (
        f"AND ({value} {comparison} $after_value OR {value} IS NULL "
        f"OR ({value} = $after_value AND node.id {comparison} $after_id))"
    )
