"""Numbers of all nodes of a type, for a plot: as many as can be seen."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from eventstore.errors import InvalidArgumentError
from eventstore.http_api.catalog import node_kind, tables_rows, types_named
from eventstore.metadata_store.source import Source

POINTS_MAX: Final = 10_000

_NUMBER: Final = "coalesce({0}.double_value, {0}.int_value::DOUBLE)"
_JOIN: Final = """
JOIN {kind}_properties AS {alias} ON {alias}.node_id = node.id AND {alias}.name = ${alias}
    AND {alias}.is_custom = ${alias}_custom
    AND {alias}.valid_from <= $as_of AND {alias}.valid_to > $as_of
"""


class Points(msgspec.Struct, frozen=True):
    """Nodes by id, and two numbers of each. Times are in milliseconds since the epoch.

    Of `count` nodes that have both, those whose id has a certain hash were taken if they are too
    many: the same ones each time.
    """

    ids: list[int]
    x: list[float]
    y: list[float]
    count: int
    is_sampled: bool


def points(source: Source, kind: str, type_name: str, x: str, y: str) -> Points:
    """A point for each node of a type that has both fields, or for 10,000 of them about.

    A field is `created_at`, `properties.NAME` or `custom_properties.NAME`. Raises
    InvalidArgumentError for another one, NotFoundError for an unknown type.
    """
    parameters: dict[str, Any] = {
        "type_ids": [one.id for one in types_named(source, node_kind(kind).name, type_name)]
    }
    values, joins = [], []
    for alias, field in (("px", x), ("py", y)):
        map_name, _, name = field.partition(".")
        if field == "created_at":
            values.append("node.create_time::DOUBLE")
        elif map_name in ("properties", "custom_properties") and name:
            values.append(_NUMBER.format(alias))
            joins.append(_JOIN.format(kind=kind, alias=alias))
            parameters[alias], parameters[f"{alias}_custom"] = name, map_name.startswith("custom")
        else:
            raise InvalidArgumentError(
                f"{field!r} cannot be plotted: use created_at, properties.NAME or "
                "custom_properties.NAME"
            )
    rows = f"""
    FROM {kind}s AS node {"".join(joins)}
    WHERE node.valid_from <= $as_of AND node.valid_to > $as_of
        AND node.type_id IN (SELECT unnest($type_ids))
        AND {values[0]} IS NOT NULL AND {values[1]} IS NOT NULL
    """
    ((count,),) = tables_rows(source, f"SELECT count(*) {rows}", parameters)
    share = -(-count // POINTS_MAX)
    if share > 1:
        rows += "AND hash(node.id) % $share = 0"
        parameters["share"] = share
    sql = f"SELECT node.id, {values[0]}, {values[1]} {rows} ORDER BY node.id"
    found = tables_rows(source, sql, parameters)
    columns = [[*column] for column in zip(*found, strict=True)] or [[], [], []]
    return Points(columns[0], columns[1], columns[2], count, share > 1)
