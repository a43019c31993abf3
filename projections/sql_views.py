"""The views that people query with SQL, and running such a query so that it can do no harm.

Views of nodes, types and links show one moment; those whose names end in `_versions` show every
version up to it. They are made for each query, with its position, over the tables and the log.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import duckdb
import pyarrow as pa

from eventstore.errors import InvalidArgumentError, ResourceExhaustedError
from eventstore.log import Log
from eventstore.log.columns import RECORD_SCHEMA
from eventstore.projections.folding import NODE_TABLES
from eventstore.proto import metadata_store_pb2 as mlmd

_RECORD_COLUMNS: Final = [
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
_READS_LOG: Final = re.compile(r"\b(commits|records)\b", re.IGNORECASE)
_STATEMENTS: Final = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


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
    TRY(make_timestamp(n.create_time * 1000)) AS created_at,
    TRY(make_timestamp(n.update_time * 1000)) AS updated_at,
    n.valid_from AS position,
    CASE WHEN n.valid_to <= {upto} THEN n.valid_to END AS next_position
FROM {base}.{table} AS n
LEFT JOIN (
    SELECT id, name FROM {base}.types
    WHERE kind = '{kind}_type' AND valid_from <= {upto} AND valid_to > {upto}
) AS t ON t.id = n.type_id
WHERE n.valid_from <= {upto}
"""
_NODE_COLUMNS: Final = {
    "artifact": f"n.uri, {_ARTIFACT_STATE} AS state,",
    "execution": f"{_EXECUTION_STATE} AS state,",
    "context": "",
}
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
    TRY(make_timestamp(time * 1000)) AS occurred_at, valid_from AS position
FROM {base}.events WHERE valid_from <= {upto}
"""
_COMMITS: Final = """
SELECT
    "commit" AS number, min(position) AS first_position, max(position) AS last_position,
    count(*) AS records, any_value(recorded_at) AS recorded_at, any_value(actor) AS actor,
    any_value(reason) AS reason, any_value(request_id) AS request_id
FROM records GROUP BY "commit"
"""
_RECORDS: Final = """
SELECT * REPLACE (recorded_at::TIMESTAMP AS recorded_at) FROM log_records WHERE position <= {upto}
"""


def view_definitions(base: str, upto: int) -> dict[str, str]:
    """Each view's name and query, over the tables in the schema `base` as of a position."""
    versions = {"type": _TYPES.format(base=base, upto=upto)}
    properties = []
    for kind, (table, property_table) in NODE_TABLES.items():
        versions[kind] = _NODE.format(
            base=base, upto=upto, kind=kind, table=table, columns=_NODE_COLUMNS[kind]
        )
        properties.append(_PROPERTIES.format(base=base, upto=upto, kind=kind, table=property_table))
    versions["property"] = "UNION ALL".join(properties)
    views = {}
    for name, query in versions.items():
        plural = "properties" if name == "property" else f"{name}s"
        views[f"{name}_versions"] = query
        views[plural] = (
            f"SELECT * EXCLUDE (next_position) FROM {name}_versions WHERE next_position IS NULL"
        )
    views["events"] = _EVENTS.format(base=base, upto=upto, event_type=_EVENT_TYPE)
    views["links"] = _LINKS.format(base=base, upto=upto)
    return views


def run_sql(
    cursor: duckdb.DuckDBPyConnection,
    log: Log,
    query: str,
    parameters: Sequence[Any] | Mapping[str, Any] | None,
    position: int,
) -> pa.Table:
    """Run one query over the views as of a position; the cursor is closed.

    The connection's settings keep it from files, extensions and settings, a read-only transaction
    from changes. Raises InvalidArgumentError for what is not one query, or one that fails, and
    ResourceExhaustedError when it needs too much memory.
    """
    with contextlib.closing(cursor):
        ((database,),) = cursor.execute("SELECT current_database()").fetchall()
        views = view_definitions(f'"{database}".main', position)
        if _READS_LOG.search(query):
            cursor.register("log_records", _log_records(log, position))
            views["records"] = _RECORDS.format(upto=position)
            views["commits"] = _COMMITS
        for name, definition in views.items():
            cursor.execute(f"CREATE TEMP VIEW {name} AS {definition}")
        try:
            statements = cursor.extract_statements(query)
            if len(statements) != 1 or statements[0].type not in _STATEMENTS:
                raise InvalidArgumentError(
                    "sql takes one query: a SELECT, WITH, FROM, VALUES, DESCRIBE or EXPLAIN"
                )
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            return cursor.sql(query, params=parameters).to_arrow_table()
        except duckdb.OutOfMemoryException as error:
            raise ResourceExhaustedError(
                f"the query needs more memory than it may take; ask for less of it: {error}"
            ) from None
        except (duckdb.IOException, duckdb.FatalException, duckdb.InternalException):
            raise
        except duckdb.Error as error:
            raise InvalidArgumentError(f"the query fails: {error}") from None


def _log_records(log: Log, position: int) -> Any:
    """The envelopes of the records, read from the segments only as far as the query needs them."""
    import pyarrow.dataset as dataset

    sealed = [segment for segment in log.segments() if segment.state == "sealed"]
    end = sealed[-1].last_position if sealed else 0
    batches = list(log.scan(end, max(end, position), _RECORD_COLUMNS))
    schema = pa.schema([field for field in RECORD_SCHEMA if field.name in _RECORD_COLUMNS])
    parts = [dataset.dataset(pa.Table.from_batches(batches, schema))]
    if sealed:
        paths = [str(segment.path) for segment in sealed]
        parts.insert(0, dataset.dataset(paths, schema=schema, format="parquet"))
    return dataset.dataset(parts)
