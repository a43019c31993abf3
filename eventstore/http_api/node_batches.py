"""Nodes of a list as record batches, for very many of them: read from the tables in parts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from google.protobuf import any_pb2

from eventstore.cancellation import check_wanted
from eventstore.http_api.catalog import tables_of, value_field
from eventstore.http_api.lists import Column, chosen
from eventstore.http_api.ordering import BY_ID, Chosen, Order, conditions_of, rows_in_order
from eventstore.log.kinds import VALUE_FIELDS, NodeKind
from eventstore.metadata_store.source import Source
from eventstore.plain_json import plain
from eventstore.proto import metadata_store_pb2 as mlmd

if TYPE_CHECKING:
    import pyarrow as pa

_FIELDS_OF_VALUES: Final = ", ".join(f"{f} := property.{f}" for f in VALUE_FIELDS.values())
_ANY_VALUE: Final = f"struct_pack({_FIELDS_OF_VALUES})"
"""Whichever a property has."""

_IDS_AT_ONCE: Final = 32_768
_ROWS_AT_ONCE: Final = 8_192

_STATES: Final[Mapping[str, Any]] = {
    "artifact": mlmd.Artifact.State,
    "execution": mlmd.Execution.State,
}
_INSTANT: Final = "make_timestamptz(node.{0} * 1000)"
_FIELDS: Final = {
    "id": "node.id",
    "name": "node.name",
    "external_id": "node.external_id",
    "uri": "node.uri",
    "type": "(SELECT any_value(t.name) FROM types AS t WHERE t.id = node.type_id)",
    "position": "node.valid_from",
    "created_at": _INSTANT.format("create_time"),
    "updated_at": _INSTANT.format("update_time"),
}


def node_batches(
    source: Source,
    kind: str,
    columns: Sequence[Column],
    *,
    type_name: str | None = None,
    filter_query: str = "",
    order: Order = BY_ID,
) -> Iterator[pa.RecordBatch]:
    """All nodes of a list in its order, in batches with these columns and `id`.

    Values of a column that is mixed are texts, as JSON has them.
    """
    of = chosen(source, kind, type_name, filter_query)
    if order.column == "id":
        highest = source.projections.index.highest_id(of.kind.sequence)
        starts = range(1, highest + 1, _IDS_AT_ONCE)
        for start in reversed(starts) if order.descending else starts:
            ids = {"first": start, "last": start + _IDS_AT_ONCE - 1}
            yield _batch(source, of, columns, "node.id BETWEEN $first AND $last", ids, order)
        return
    after = None
    while True:
        check_wanted()
        places = rows_in_order(source, of, order, after, _ROWS_AT_ONCE)
        if places:
            ids_of_page = {"ids": [place.id for place in places]}
            whole = Chosen(of.kind)
            yield _batch(
                source, whole, columns, "node.id IN (SELECT unnest($ids))", ids_of_page, None
            )
        if len(places) < _ROWS_AT_ONCE:
            return
        after = places[-1]


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """The schema of batches with these columns."""
    import pyarrow as pa

    types = {
        "INT": pa.int64(),
        "DOUBLE": pa.float64(),
        "BOOLEAN": pa.bool_(),
        "TIME": pa.timestamp("us", "UTC"),
    }
    named = {"id": pa.int64()}
    named |= {
        column.name: pa.string() if column.is_mixed else types.get(column.type, pa.string())
        for column in columns
    }
    return pa.schema(list(named.items()))


def _batch(
    source: Source,
    of: Chosen,
    columns: Sequence[Column],
    condition: str,
    parameters: dict[str, Any],
    order: Order | None,
) -> pa.RecordBatch:
    """The nodes that fulfil a condition as well, by id or, without an order, as `ids` are given."""
    import pyarrow as pa

    kind, bound = of.kind.name, {"as_of": source.position(), **parameters}
    selected, own, held = {"id": "node.id"}, list[str](), dict[str, str]()
    for column in columns:
        _, _, name = column.name.partition(".")
        if name:
            member = value_field(column.type)
            if member is None:
                selected[column.name] = "NULL"
                continue
            number = f"c{len(held)}"
            value = _ANY_VALUE if column.is_mixed else f"property.{member}"
            of_it = f"FILTER (wanted.number = {len(held)})"
            held[column.name] = f"any_value({value}) {of_it} AS {number}"
            selected[column.name] = f"held.{number}"
        else:
            selected[column.name] = f"node.c{len(own)}"
            own.append(_field(of.kind, column.name))
    alive = ["node.valid_from <= $as_of AND node.valid_to > $as_of", condition]
    conditions = [*alive, *conditions_of(source, of, bound)]
    direction = "DESC" if order is not None and order.descending else "ASC"
    by = f"node.id {direction}" if order is not None else "list_position($ids, node.id)"
    fields = "".join(f", {value} AS c{number}" for number, value in enumerate(own))
    names = ", ".join(f"{value} AS c{number}" for number, value in enumerate(selected.values()))
    properties, join = "", ""
    if held:
        # One join for all properties: of one join for each, DuckDB plans hundreds for minutes.
        bound["wanted"] = list(held)
        properties = f"""
        , wanted AS (SELECT unnest($wanted) AS name, unnest(range(len($wanted))) AS number)
        , held AS (
            SELECT property.node_id, {", ".join(held.values())}
            FROM {kind}_properties AS property
            JOIN node ON node.id = property.node_id AND node.valid_from = property.valid_from
            JOIN wanted ON wanted.name = concat(
                CASE WHEN property.is_custom THEN 'custom_properties.' ELSE 'properties.' END,
                property.name
            )
            GROUP BY property.node_id
        )
        """
        join = "LEFT JOIN held ON held.node_id = node.id"
    sql = f"""
    WITH node AS MATERIALIZED (
        SELECT node.id, node.valid_from{fields} FROM {kind}s AS node
        WHERE {" AND ".join(conditions)}
    ){properties}
    SELECT {names} FROM node {join} ORDER BY {by}
    """
    found = tables_of(source).arrow(sql, bound).combine_chunks()
    arrays = []
    for (name, field), column in zip(
        zip(selected, schema_of(columns), strict=True), found.columns, strict=True
    ):
        one = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if name == "by":
            one = _by(source, one)
        elif pa.types.is_binary(one.type):
            one = _messages(one)
        elif pa.types.is_struct(one.type):
            one = _mixed(one)
        arrays.append(one.cast(field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema_of(columns))


def _field(kind: NodeKind, name: str) -> str:
    """The SQL for a column that is no property."""
    if name == "state":
        return _state(kind)
    if name == "by":
        return f"(SELECT min(f.valid_from) FROM {kind.name}s AS f WHERE f.id = node.id)"
    return _FIELDS[name]


def _messages(serialized: pa.Array) -> pa.Array:
    """Serialized `google.protobuf.Any` as JSON, as the rows of pages have them."""
    import pyarrow as pa

    from eventstore.log.arrow_values import array_of

    return array_of(
        [
            None if one is None else json.dumps(plain(any_pb2.Any.FromString(one)))
            for one in serialized.to_pylist()
        ],
        pa.string(),
    )


def _mixed(values: pa.Array) -> pa.Array:
    """Values of several types as texts."""
    import pyarrow as pa

    from eventstore.log.arrow_values import array_of

    return array_of([_text_of(one or {}) for one in values.to_pylist()], pa.string())


def _text_of(value: Mapping[str, Any]) -> str | None:
    """The text of a value that is in one of these fields; None where none has any."""
    for field, held in value.items():
        if held is not None:
            told = plain(any_pb2.Any.FromString(held) if field == "proto_value" else held)
            return told if isinstance(told, str) else msgspec.json.encode(told).decode()
    return None


def _state(kind: NodeKind) -> str:
    values = _STATES[kind.name].DESCRIPTOR.values
    cases = " ".join(f"WHEN {value.number} THEN '{value.name}'" for value in values)
    return f"CASE node.state {cases} END"


def _by(source: Source, positions: pa.Array) -> pa.Array:
    """Who put the records at some positions."""
    import pyarrow as pa

    from eventstore.log.arrow_values import array_of

    known = source.projections.commits(source.position())
    erased = source.projections.index.erasures.erased.who
    return array_of(
        [
            None if position in erased else known.by(known.number_at(position))
            for position in positions.to_pylist()
        ],
        pa.string(),
    )
