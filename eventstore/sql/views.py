"""The views that people query with SQL, and running such a query so that it can do no harm.

Views of nodes, types and links show one moment; those whose names end in `_versions` show every
version up to it. They are made for each query, with its position, over the tables and the log.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import duckdb
import pyarrow as pa

from eventstore.errors import (
    AbortedError,
    CancelledError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from eventstore.log import Log, Position, has_lost_files
from eventstore.log.record import LATEST
from eventstore.memory_limit import memory_limit_bytes
from eventstore.projections import Projections
from eventstore.projections.duckdb_errors import as_duckdb_error, is_damage
from eventstore.projections.table_changes import NODE_TABLES
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.sql.check import LOG_RECORDS, STORED_ERASURES, checked_query
from eventstore.sql.erasures import erasure_rows
from eventstore.sql.sizes import Parameters
from eventstore.waiting import Waiter, current_waiter
from eventstore.wording import did_you_mean

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
_INSTANTS_MIN: Final = -62_135_596_800_000
_INSTANTS_MAX: Final = LATEST // 1_000
"""The milliseconds since the epoch that Python has dates for: the years 1 to 9999."""

RESULT_BYTES_MAX: Final = memory_limit_bytes()
_NO_COLUMN: Final = re.compile(r'column "([^"]+)" not found|(?:column named|Column) "([^"]+)"')
_BATCH_ROWS: Final = 65_536
_TRIES_MAX: Final = 10


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
_ERASURES: Final = f'FROM "{STORED_ERASURES}"'
_RECORDS: Final = f'SELECT * FROM "{LOG_RECORDS}" WHERE position <= {{upto}}'


def view_definitions(base: str, upto: int) -> dict[str, str]:
    """Each view's name and query, over the tables in the schema `base` as of a position."""
    versions = {"type": _TYPES.format(base=base, upto=upto)}
    properties = []
    for kind, (table, property_table) in NODE_TABLES.items():
        versions[kind] = _NODE.format(
            base=base,
            upto=upto,
            kind=kind,
            table=table,
            columns=_NODE_COLUMNS[kind],
            created_at=_instant("n.create_time"),
            updated_at=_instant("n.update_time"),
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
    views["events"] = _EVENTS.format(
        base=base, upto=upto, event_type=_EVENT_TYPE, occurred_at=_instant("time")
    )
    views["links"] = _LINKS.format(base=base, upto=upto)
    views["records"] = _RECORDS.format(upto=upto)
    views["commits"] = _COMMITS
    views["erasures"] = _ERASURES
    return views


class _RewrittenError(Exception):
    """A file of the log that a query reads was rewritten meanwhile: it is to be asked again."""


def run_sql(
    log: Log,
    projections: Projections,
    query: str,
    parameters: Parameters,
    position: Position,
    timeout_seconds: float | None = None,
    collect: Callable[[pa.RecordBatchReader], pa.Table] | None = None,
    batch_rows: int = _BATCH_ROWS,
) -> pa.Table:
    """Run one query over the views as of a position.

    `collect` takes the rows as they come, and makes the answer of them: all that fit, if it is not
    given. They come in batches of at most so many.

    The connection's settings keep it from files, extensions and settings, a read-only transaction
    from changes, `checked_query` from all but the views. Raises InvalidArgumentError for what is
    not one such query, or one that fails, ResourceExhaustedError when it or its result needs too
    much memory, CancelledError when it is interrupted, and DeadlineExceededError when it takes
    longer than the timeout.
    """
    # Even without a timeout: only a thread that is not in DuckDB takes signals.
    seconds = math.inf if timeout_seconds is None else timeout_seconds
    if collect is None:
        collect = partial(_all_rows, waiter=current_waiter())
    for _ in range(_TRIES_MAX):
        with contextlib.suppress(_RewrittenError):
            return projections.opened_tables().asked(
                lambda cursor: _answer(
                    cursor, log, projections, query, parameters, position, collect, batch_rows
                ),
                position,
                seconds,
                may_be_left=True,
            )
    raise AbortedError("files of the store were rewritten all the time the query ran: try again")


def _answer(
    cursor: duckdb.DuckDBPyConnection,
    log: Log,
    projections: Projections,
    query: str,
    parameters: Parameters,
    position: Position,
    collect: Callable[[pa.RecordBatchReader], pa.Table],
    batch_rows: int,
) -> pa.Table:
    ((database,),) = cursor.execute("SELECT current_database()").fetchall()
    views = view_definitions(f'"{database}".main', position)
    try:
        checked = checked_query(cursor, query, views, parameters)
    except _FAILURES as error:
        raise _translated(error) from None
    records = None
    if checked.views & {"commits", "records"}:
        records = log.dataset(position, _RECORD_COLUMNS)
        cursor.register(LOG_RECORDS, records)
    else:
        del views["commits"], views["records"]
    if "erasures" in checked.views:
        cursor.register(STORED_ERASURES, erasure_rows(log, projections.index, position))
    else:
        del views["erasures"]
    for name, definition in views.items():
        cursor.execute(f"CREATE TEMP VIEW {name} AS {definition}")
    # The tables have names of views, and others: none of them may be found.
    cursor.execute("SET search_path = 'temp'")
    cursor.execute("BEGIN TRANSACTION READ ONLY")
    try:
        relation = _readable(cursor.sql(checked.text, params=parameters))
        return _result(relation, collect, batch_rows)
    except duckdb.BinderException as error:
        columns = _columns(cursor, checked.views)
        meant = _meant(error, columns)
        raise InvalidArgumentError(f"the query fails: {error}{meant}") from None
    except _FAILURES as error:
        if records is not None and has_lost_files(records):
            raise _RewrittenError from None
        raise _translated(error) from None


def _columns(cursor: duckdb.DuckDBPyConnection, views: Iterable[str]) -> dict[str, list[str]]:
    """The columns of views, after a query on them has failed."""
    with contextlib.suppress(duckdb.Error):
        cursor.execute("ROLLBACK")
    found = {}
    for view in sorted(views):
        with contextlib.suppress(duckdb.Error):
            description = cursor.execute(f"FROM {view} LIMIT 0").description or ()
            found[view] = [column[0] for column in description]
    return found


def _meant(error: duckdb.Error, columns: Mapping[str, Sequence[str]]) -> str:
    """What to say to a query that names a column which is not there."""
    match = _NO_COLUMN.search(str(error))
    if match is None or not columns:
        return ""
    known = dict.fromkeys(name for names in columns.values() for name in names)
    name = match.group(1) or match.group(2)
    near = "" if name in known else did_you_mean(name, known).removeprefix(", ")
    have = "; ".join(f"{view} has {', '.join(names)}" for view, names in columns.items())
    return f"\n{f'{near[:1].upper()}{near[1:]} ' if near else ''}{have}"


def _readable(relation: Any) -> Any:
    """The relation with text for types that Arrow has as bytes of DuckDB's own, or with less."""
    if relation is None or all(_readable_type(held) is None for held in relation.types):
        return relation
    columns = []
    for number, (name, held) in enumerate(zip(relation.columns, relation.types, strict=True), 1):
        readable = _readable_type(held)
        value = f"#{number}" if readable is None else f"CAST(#{number} AS {readable})"
        columns.append(f"{value} AS {_quoted(name)}")
    return relation.project(", ".join(columns))


def _readable_type(held: Any) -> str | None:
    """What a type is to be cast to, nested ones with the types inside them; None if to nothing."""
    if str(held) in _AS_TEXT or held.id == "union":
        return "VARCHAR"
    if held.id not in ("list", "array", "struct", "map"):
        return None
    inside = [(name, one) for name, one in held.children if name != "size"]
    casts = [_readable_type(one) for _, one in inside]
    if not any(casts):
        return None
    types = [cast or str(one) for cast, (_, one) in zip(casts, inside, strict=True)]
    if held.id == "list":
        return f"{types[0]}[]"
    if held.id == "array":
        return f"{types[0]}[{dict(held.children)['size']}]"
    if held.id == "map":
        return f"MAP({', '.join(types)})"
    named = zip(inside, types, strict=True)
    return f"STRUCT({', '.join(f'{_quoted(name)} {text}' for (name, _), text in named)})"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _all_rows(reader: pa.RecordBatchReader, waiter: Waiter | None) -> pa.Table:
    """All rows, as long as they fit: DuckDB does not count what it has handed over."""
    batches, size = [], 0
    for batch in reader:
        batches.append(batch)
        size += batch.nbytes
        if waiter is not None:
            waiter.take(batch.nbytes)
        if size > RESULT_BYTES_MAX:
            raise ResourceExhaustedError(
                f"the result is larger than {RESULT_BYTES_MAX >> 20} MiB; ask for less of it, or "
                "add a LIMIT"
            )
    return pa.Table.from_batches(batches, reader.schema)


def _result(
    relation: Any, collect: Callable[[pa.RecordBatchReader], pa.Table], batch_rows: int
) -> pa.Table:
    if relation is None:
        raise InvalidArgumentError("sql takes one query, and this gives no rows")
    return collect(relation.to_arrow_reader(batch_rows))


_AS_TEXT: Final = frozenset(("BIT", "BIGNUM", "VARINT", "UHUGEINT", "TIME WITH TIME ZONE"))

_FAILURES: Final = (duckdb.Error, pa.ArrowException, OSError, RuntimeError, ValueError, TypeError)
"""DuckDB's own; what it says while rows are handed over comes as Arrow's, by its name in front."""


def _translated(error: Exception) -> BaseException:
    text = str(error)
    if type(error) is RuntimeError and text == "Query interrupted":
        return KeyboardInterrupt()  # DuckDB has taken the signal.
    if isinstance(error, duckdb.InterruptException) or text.startswith("INTERRUPT Error"):
        return CancelledError("the query was interrupted")
    found = as_duckdb_error(error)
    if isinstance(found, duckdb.OutOfMemoryException):
        return ResourceExhaustedError(
            f"the query needs more memory than it may take; ask for less of it: {error}"
        )
    if is_damage(found):
        return found
    return InvalidArgumentError(f"the query fails: {error}")
