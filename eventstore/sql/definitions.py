"""What each view shows: one text for all engines, over a few base relations.

The texts are DuckDB's SQL, of which sqlglot makes that of other engines. The base relations are
what an engine reads: all versions of types, nodes and their properties with the positions from
which and to which they hold, links with theirs, records and erasures. In DuckDB they are the folded
tables, whose schema `projections/table_changes.py` has; `eventstore/spark/` selects the same of the
sealed segments.
"""

from __future__ import annotations

from typing import Any, Final

from eventstore.log.record import LATEST
from eventstore.projections.table_changes import NODE_TABLES
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.sql.type_views import TypeView, quoted_name, quoted_text

LOG_RECORDS: Final = "records of the log"
"""What the view of the records reads; a name that no query may use."""

STORED_ERASURES: Final = "erasures of the log"
"""Likewise, what the view of the erasures reads."""

RECORD_COLUMNS: Final = [
    "position",
    "commit",
    "recorded_at",
    "kind",
    "entity_id",
    "type_id",
    "previous",
    "actor",
    "reason",
    "request_id",
]
"""The columns of LOG_RECORDS."""

_INSTANTS_MIN: Final = -62_135_596_800_000
_INSTANTS_MAX: Final = LATEST // 1_000
"""The milliseconds since the epoch that Python has dates for: the years 1 to 9999."""


def _instant(milliseconds: str) -> str:
    is_in_range = f"{milliseconds} BETWEEN {_INSTANTS_MIN} AND {_INSTANTS_MAX}"
    return f"CASE WHEN {is_in_range} THEN make_timestamptz({milliseconds} * 1000) END"


def _names(enum: Any, column: str) -> str:
    cases = " ".join(f"WHEN {value.number} THEN '{value.name}'" for value in enum.values)
    return f"CASE {column} {cases} END"


_ARTIFACT_STATE: Final = _names(mlmd.Artifact.State.DESCRIPTOR, "n.state")
_EXECUTION_STATE: Final = _names(mlmd.Execution.State.DESCRIPTOR, "n.state")
_EVENT_TYPE: Final = _names(mlmd.Event.Type.DESCRIPTOR, "type")

_NODE: Final = """
SELECT
    n.id, n.type_id, t.name AS type, n.name, n.external_id, {columns}
    n.create_time AS create_time_since_epoch,
    n.update_time AS last_update_time_since_epoch,
    {created_at} AS created_at,
    {updated_at} AS updated_at,
    n.erased_by,
    n.valid_from AS position{further}
FROM {base}.{table} AS n
LEFT JOIN (
    SELECT id, name FROM {base}.types
    WHERE kind = '{kind}_type' AND valid_from <= {upto} AND valid_to > {upto}
) AS t ON t.id = n.type_id{joined}
WHERE n.valid_from <= {upto}{condition}
"""
_NODE_COLUMNS: Final = {
    "artifact": f"n.uri, {_ARTIFACT_STATE} AS state,",
    "execution": f"{_EXECUTION_STATE} AS state,",
    "context": "",
}
_NEXT_POSITION: Final = ", CASE WHEN n.valid_to <= {upto} THEN n.valid_to END AS next_position"
_TYPES: Final = """
SELECT
    kind, id, name, version, external_id, valid_from AS position,
    CASE WHEN valid_to <= {upto} THEN valid_to END AS next_position
FROM {base}.types
WHERE valid_from <= {upto}
"""
_PROPERTIES: Final = """
SELECT
    '{kind}' AS kind, node_id, name, is_custom,
    int_value, double_value, string_value, bool_value, struct_value, proto_value,
    valid_from AS position,
    CASE WHEN valid_to <= {upto} THEN valid_to END AS next_position
FROM {base}.{table}
WHERE valid_from <= {upto}
"""
_LINKS: Final = """
SELECT
    'attribution' AS kind, context_id, artifact_id, NULL::BIGINT AS execution_id,
    NULL::BIGINT AS parent_context_id, valid_from AS position
FROM {base}.attributions WHERE valid_from <= {upto}
UNION ALL
SELECT 'association', context_id, NULL, execution_id, NULL, valid_from
FROM {base}.associations WHERE valid_from <= {upto}
UNION ALL
SELECT 'parent_context', child_id, NULL, NULL, parent_id, valid_from
FROM {base}.parent_contexts WHERE valid_from <= {upto}
"""
_EVENTS: Final = """
SELECT
    artifact_id, execution_id, {event_type} AS type, time AS milliseconds_since_epoch,
    {occurred_at} AS occurred_at, valid_from AS position
FROM {base}.events WHERE valid_from <= {upto}
"""
_COMMITS: Final = """
SELECT
    "commit" AS number, min(position) AS first_position, max(position) AS last_position,
    count(*) AS records, any_value(recorded_at) AS recorded_at, any_value(actor) AS actor,
    any_value(reason) AS reason, any_value(request_id) AS request_id
FROM records GROUP BY "commit"
"""
_ERASURES: Final = f'SELECT * FROM "{STORED_ERASURES}"'
_RECORDS: Final = f'SELECT * FROM "{LOG_RECORDS}" WHERE position <= {{upto}}'


def view_definitions(base: str, upto: int) -> dict[str, str]:
    """Each view's name and query, over the relations in the schema `base` as of a position.

    A view comes after those that it reads.
    """
    versions = {"type": _TYPES.format(base=base, upto=upto)}
    properties = []
    for kind, (_, table) in NODE_TABLES.items():
        versions[kind] = _node_query(base, upto, kind, further=_NEXT_POSITION.format(upto=upto))
        properties.append(_PROPERTIES.format(base=base, upto=upto, kind=kind, table=table))
    versions["property"] = "UNION ALL".join(properties)
    views = {}
    for name, query in versions.items():
        plural = "properties" if name == "property" else f"{name}s"
        views[f"{name}_versions"] = query
        views[plural] = (
            f"SELECT * EXCLUDE (next_position) FROM {name}_versions WHERE next_position IS NULL"
        )
    views["events"] = _EVENTS.format(
        base=base, upto=upto, event_type=_EVENT_TYPE, occurred_at=_instant("time")
    )
    views["links"] = _LINKS.format(base=base, upto=upto)
    views["records"] = _RECORDS.format(upto=upto)
    views["commits"] = _COMMITS
    views["erasures"] = _ERASURES
    return views


def type_view_definition(base: str, upto: int, view: TypeView, *, has_maps: bool = False) -> str:
    """The query of a type's view.

    Values come from the relation of the properties, or with `has_maps` from a map of them in that
    of the nodes.
    """
    further, joined = [""], [""]
    _, properties = NODE_TABLES[view.kind]
    for number, column in enumerate(view.columns):
        name = quoted_text(column.of_property)
        value = f"n.properties[{name}].{column.value}"
        if not has_maps:
            # A join for each: to gather all in one by node takes several times as long.
            value = f"p{number}.{column.value}"
            joined.append(
                f"LEFT JOIN {base}.{properties} AS p{number} ON p{number}.node_id = n.id AND "
                f"p{number}.valid_from = n.valid_from AND p{number}.name = {name} AND "
                f"NOT p{number}.is_custom"
            )
        further.append(f"{value} AS {quoted_name(column.name)}")
    type_ids = ", ".join(map(str, view.type_ids))
    return _node_query(
        base,
        upto,
        view.kind,
        further=", ".join(further),
        joined="\n".join(joined),
        condition=f" AND n.valid_to > {upto} AND n.type_id IN ({type_ids})",
    )


def _node_query(
    base: str, upto: int, kind: str, *, further: str, joined: str = "", condition: str = ""
) -> str:
    return _NODE.format(
        base=base,
        upto=upto,
        kind=kind,
        table=NODE_TABLES[kind][0],
        columns=_NODE_COLUMNS[kind],
        created_at=_instant("n.create_time"),
        updated_at=_instant("n.update_time"),
        further=further,
        joined=joined,
        condition=condition,
    )
