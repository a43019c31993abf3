"""Pages of nodes in the order of any column, found in the tables: no row is read twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import duckdb
import msgspec

from eventstore.errors import InvalidArgumentError
from eventstore.http_api.catalog import tables_rows, types, used_properties
from eventstore.log.kinds import CONTEXT, NodeKind
from eventstore.metadata_store.source import Source
from eventstore.projections.filter import FilterSql
from eventstore.projections.listing import Listing
from eventstore.projections.listing_sql import listing_sql
from eventstore.wording import quoted

PLANNED: Final = {"id": "id", "created_at": "create_time", "updated_at": "update_time"}
"""The columns by which the planner lists, and what the tables call them."""

_COLUMNS: Final = {
    "name": "node.name",
    "external_id": "node.external_id",
    "uri": "node.uri",
    "state": "node.state",
    "type": "",
    "position": "node.valid_from",
}
_ONE_TYPE: Final = {
    "DOUBLE": "p.double_value",
    "STRING": "p.string_value",
    "BOOLEAN": "p.bool_value",
    "STRUCT": "p.struct_value",
}
_NUMBERS: Final = frozenset(("INT", "DOUBLE", "BOOLEAN"))
_ALIVE: Final = "{0}.valid_from <= $as_of AND {0}.valid_to > $as_of"


COUNTED_MAX: Final = 10_000

_CHARACTERS_MAX: Final = 200
"""So long may a text be that is carried from page to page."""


class Order(msgspec.Struct, frozen=True):
    """By which column, in which direction; nodes without a value come last, ties by id."""

    column: str = "id"
    descending: bool = False


BY_ID: Final = Order()


class Place(msgspec.Struct, frozen=True):
    """The last row of a page: its value in the order, and its id.

    A place with `is_long` has no value, which is read again.
    """

    value: int | float | str | bool | None
    id: int
    is_long: bool = False

    def short(self) -> Place:
        """The same without a text that would be too long for an address."""
        is_long = isinstance(self.value, str) and len(self.value) > _CHARACTERS_MAX
        return Place(None, self.id, is_long=True) if is_long else self


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
    value = _value(source, chosen.kind, order.column)
    if after is not None and after.is_long:
        after = _read_again(source, chosen.kind, value, after)
    found: list[Place] = []
    if after is None or after.value is not None:
        try:
            found = _with_value(source, chosen, order, value, after, limit)
        except duckdb.BinderException:
            if after is None:
                raise
            raise InvalidArgumentError(
                f"no list goes on after {quoted(str(after.value))}: pass the cursor of the "
                "last answer unchanged"
            ) from None
        after = None
    if len(found) < limit:
        found += _without_value(source, chosen, order, value, after, limit - len(found))
    return found


class _Value(msgspec.Struct, frozen=True):
    """What nodes are ordered by: a column of `node`, or of the rows `p` of a property.

    `property` is the condition for these rows.
    """

    sql: str
    parameters: dict[str, Any] = {}
    property: str | None = None


def _read_again(source: Source, kind: NodeKind, value: _Value, place: Place) -> Place:
    """A place with its value. Raises InvalidArgumentError where that was erased meanwhile."""
    rows, alias, key = f"{kind.name}s AS node", "node", "node.id"
    if value.property is not None:
        rows, alias, key = f"{kind.name}_properties AS p", "p", "p.node_id"
    conditions = [_ALIVE.format(alias), f"{key} = $id", value.property or "true"]
    sql = f"SELECT {value.sql} FROM {rows} WHERE {' AND '.join(conditions)}"
    for (text,) in tables_rows(source, sql, {"id": place.id, **value.parameters}):
        # An erasure leaves null or an empty text.
        if text is not None and len(text) > _CHARACTERS_MAX:
            return Place(text, place.id)
    raise InvalidArgumentError(
        f"{kind.name} {place.id}, with which the last page ended, was erased meanwhile: begin "
        "again with the first page"
    )


def _with_value(
    source: Source, chosen: Chosen, order: Order, value: _Value, after: Place | None, limit: int
) -> list[Place]:
    parameters: dict[str, Any] = {"limit": limit, **value.parameters}
    kind, alias, key = chosen.kind.name, "node", "node.id"
    rows, conditions = f"{kind}s AS node", [f"{value.sql} IS NOT NULL"]
    if value.property is None:
        conditions += conditions_of(source, chosen, parameters)
    else:
        alias, key, rows = "p", "p.node_id", f"{kind}_properties AS p"
        conditions.append(value.property)
        of_nodes = conditions_of(source, chosen, parameters)
        if of_nodes:
            alive = " AND ".join([_ALIVE.format("node"), *of_nodes])
            conditions.append(f"p.node_id IN (SELECT node.id FROM {kind}s AS node WHERE {alive})")
    if after is not None:
        parameters |= {"after_value": after.value, "after_id": after.id}
        comparison = "<" if order.descending else ">"
        # The first is what lets DuckDB pass over rows.
        conditions.append(f"{value.sql} {comparison}= $after_value")
        conditions.append(
            f"({value.sql} {comparison} $after_value OR {key} {comparison} $after_id)"
        )
    direction = "DESC" if order.descending else "ASC"
    sql = f"""
    SELECT {value.sql} AS value, {key} AS id FROM {rows}
    WHERE {" AND ".join([_ALIVE.format(alias), *conditions])}
    ORDER BY value {direction}, id {direction}
    LIMIT $limit
    """
    return [Place(*row) for row in tables_rows(source, sql, parameters)]


def _without_value(
    source: Source, chosen: Chosen, order: Order, value: _Value, after: Place | None, limit: int
) -> list[Place]:
    parameters: dict[str, Any] = {"limit": limit, **value.parameters}
    kind, conditions = chosen.kind.name, conditions_of(source, chosen, parameters)
    if value.property is None:
        conditions.append(f"{value.sql} IS NULL")
    else:
        alive = f"{_ALIVE.format('p')} AND {value.property} AND {value.sql} IS NOT NULL"
        conditions.append(
            f"node.id NOT IN (SELECT p.node_id FROM {kind}_properties AS p WHERE {alive})"
        )
    if after is not None:
        parameters["after_id"] = after.id
        conditions.append(f"node.id {'<' if order.descending else '>'} $after_id")
    sql = f"""
    SELECT NULL, node.id FROM {kind}s AS node
    WHERE {" AND ".join([_ALIVE.format("node"), *conditions])}
    ORDER BY node.id {"DESC" if order.descending else "ASC"}
    LIMIT $limit
    """
    return [Place(*row) for row in tables_rows(source, sql, parameters)]


def count_up_to(source: Source, chosen: Chosen, most: int | None = COUNTED_MAX) -> int:
    """How many nodes are chosen; where there are more than `most`, one more than that."""
    parameters: dict[str, Any] = {}
    conditions = [_ALIVE.format("node"), *conditions_of(source, chosen, parameters)]
    limit = ""
    if most is not None:
        limit, parameters["most"] = "LIMIT $most", most + 1
    sql = f"""
    SELECT count(*) FROM (
        SELECT 1 FROM {chosen.kind.name}s AS node
        WHERE {" AND ".join(conditions)} {limit}
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


def _value(source: Source, kind: NodeKind, column: str) -> _Value:
    """What nodes of a kind are ordered by."""
    if column == "type":
        # By its name, which is that of few.
        named = sorted(types(source, kind.name), key=lambda one: (one.name, one.id))
        ids = {"type_ids": [one.id for one in named]}
        return _Value("list_position($type_ids::BIGINT[], node.type_id)", ids)
    if column in sortable(kind):
        return _Value(_COLUMNS[column])
    map_name, _, name = column.partition(".")
    if map_name not in ("properties", "custom_properties") or not name:
        raise InvalidArgumentError(
            f"nodes cannot be ordered by {quoted(column)}: use one of "
            f"{', '.join(sortable(kind))}, or properties.NAME or custom_properties.NAME"
        )
    known = {one.name: one for one in used_properties(source, kind.name)}
    used = {*known[column].types} if column in known else set()
    if used <= {"INT"}:
        value = "p.int_value"
    elif used <= _NUMBERS:
        value = "coalesce(p.double_value, p.int_value::DOUBLE, p.bool_value::INTEGER::DOUBLE)"
    else:
        value = (
            "coalesce(p.string_value, p.struct_value, p.int_value::VARCHAR, "
            "p.double_value::VARCHAR, p.bool_value::VARCHAR)"
        )
    if len(used) == 1:
        (only,) = used
        value = _ONE_TYPE.get(only, value)
    custom = "p.is_custom" if map_name == "custom_properties" else "NOT p.is_custom"
    return _Value(value, {"property": name}, f"p.name = $property AND {custom}")


def conditions_of(source: Source, chosen: Chosen, parameters: dict[str, Any]) -> list[str]:
    """What is true of the nodes that are chosen."""
    if chosen.where is not None:
        listing = Listing(
            chosen.kind, source.position(), type_id=chosen.type_id, where=chosen.where
        )
        sql, bound = listing_sql(listing, is_now=False)
        parameters |= bound
        return [f"node.id IN (SELECT id FROM ({sql}) AS listed(id, value))"]
    if chosen.type_id is not None:
        parameters["type_id"] = chosen.type_id
        return ["node.type_id = $type_id"]
    return []
