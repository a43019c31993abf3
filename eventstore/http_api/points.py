"""Numbers of all nodes of a type, for a plot: as many as can be seen."""

from __future__ import annotations

from math import isfinite
from typing import Any, Final

import msgspec

from eventstore.errors import InvalidArgumentError
from eventstore.http_api.catalog import node_kind, tables_rows, types_named
from eventstore.metadata_store.source import Source
from eventstore.wording import quoted

POINTS_MAX: Final = 10_000

_NODES: Final = """
SELECT id, create_time::DOUBLE AS value FROM {kind}s
WHERE valid_from <= $as_of AND valid_to > $as_of AND type_id IN (SELECT unnest($type_ids))
    AND hash(id) % $share = 0
"""
_VALUES: Final = """
SELECT node_id, coalesce(double_value, int_value::DOUBLE) AS value FROM {kind}_properties
WHERE name = ${name} AND is_custom = ${name}_custom AND valid_from <= $as_of AND valid_to > $as_of
"""
"""Without the hash: to compute it for all properties takes longer than to join them."""


class Points(msgspec.Struct, frozen=True):
    """Nodes by id, and two numbers of each. Times are in milliseconds since the epoch.

    The type has `count` nodes. If these are too many, those whose id has a certain hash were taken:
    the same ones each time. `left_out` of these have a number that is infinite or none.
    """

    ids: list[int]
    x: list[float]
    y: list[float]
    count: int
    is_sampled: bool
    left_out: int = 0


def points(source: Source, kind: str, type_name: str, x: str, y: str) -> Points:
    """A point for each node of a type that has both fields, or for 10,000 of them about.

    A field is `created_at`, `properties.NAME` or `custom_properties.NAME`. Raises
    InvalidArgumentError for another one, NotFoundError for an unknown type.
    """
    named = types_named(source, node_kind(kind).name, type_name)
    count = sum(one.count for one in named)
    share = max(1, -(-count // POINTS_MAX))
    parameters: dict[str, Any] = {"type_ids": [one.id for one in named], "share": share}
    values, joins = [], []
    for alias, field in (("x", x), ("y", y)):
        map_name, _, name = field.partition(".")
        if field == "created_at":
            values.append("n.value")
        elif map_name in ("properties", "custom_properties") and name:
            values.append(f"{alias}.value")
            of_property = _VALUES.format(kind=kind, name=alias)
            joins.append(f"JOIN ({of_property}) AS {alias} ON {alias}.node_id = n.id")
            parameters[alias], parameters[f"{alias}_custom"] = name, map_name.startswith("custom")
        else:
            raise InvalidArgumentError(
                f"{quoted(field)} cannot be plotted: use created_at, properties.NAME or "
                "custom_properties.NAME"
            )
    sql = f"""
    SELECT n.id, {", ".join(values)} FROM ({_NODES.format(kind=kind)}) AS n {" ".join(joins)}
    """
    # To leave nothings out in SQL, DuckDB would look at all nodes' properties first.
    rows = [row for row in tables_rows(source, sql, parameters) if None not in row]
    found = sorted(row for row in rows if all(map(isfinite, row)))
    columns = [[*column] for column in zip(*found, strict=True)] or [[], [], []]
    return Points(columns[0], columns[1], columns[2], count, share > 1, len(rows) - len(found))
