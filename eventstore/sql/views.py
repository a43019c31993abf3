"""Run a query over the views, so that it can do no harm.

The views are made for each query, with its position, over the tables and the log: those that are
always there, and of types those that the query names.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import duckdb
import pyarrow as pa

from eventstore.cancellation import Waiter, current_waiter
from eventstore.errors import (
    AbortedError,
    CancelledError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from eventstore.log import Log, Position, has_lost_files
from eventstore.log.kinds import NODE_KINDS_BY_NAME
from eventstore.log.readable import read_message
from eventstore.memory_limit import memory_limit_bytes
from eventstore.projections import Projections
from eventstore.projections.duckdb_errors import as_duckdb_error, is_damage
from eventstore.projections.index_tables import TABLES_OF
from eventstore.projections.point_index import PointIndex
from eventstore.sql.check import checked_query
from eventstore.sql.definitions import (
    LOG_RECORDS,
    RECORD_COLUMNS,
    STORED_ERASURES,
    type_view_definition,
    view_definitions,
)
from eventstore.sql.erasures import erasure_rows
from eventstore.sql.sizes import Parameters
from eventstore.sql.type_views import (
    NamedType,
    TypeView,
    quoted_name,
    type_view,
    types_by_view,
)
from eventstore.wording import did_you_mean

RESULT_BYTES_MAX: Final = memory_limit_bytes()
_NO_COLUMN: Final = re.compile(r'column "([^"]+)" not found|(?:column named|Column) "([^"]+)"')
_BATCH_ROWS: Final = 65_536
_TRIES_MAX: Final = 10
_TYPES: Final = """
SELECT kind, id, name, valid_from FROM {base}.types
WHERE valid_from <= $position AND valid_to > $position
"""


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
    base = f'"{database}".main'
    views = view_definitions(base, position)
    of_types: Mapping[str, tuple[NamedType, ...]] = {}

    def names_of_types() -> Collection[str]:
        nonlocal of_types
        of_types = types_by_view(_types(cursor, base, position), views)
        return of_types

    try:
        checked = checked_query(cursor, query, [*views], parameters, names_of_types)
    except _FAILURES as error:
        raise _translated(error) from None
    records = None
    if checked.views & {"commits", "records"}:
        records = log.dataset(position, RECORD_COLUMNS)
        cursor.register(LOG_RECORDS, records)
    else:
        del views["commits"], views["records"]
    if "erasures" in checked.views:
        cursor.register(STORED_ERASURES, erasure_rows(log, projections.index, position))
    else:
        del views["erasures"]
    for name, definition in views.items():
        cursor.execute(f"CREATE TEMP VIEW {name} AS {definition}")
    for name in checked.of_types:
        view = _type_view(projections.index, of_types[name.lower()])
        definition = type_view_definition(base, position, view)
        # Two names of a query may differ in case alone.
        cursor.execute(f"CREATE OR REPLACE TEMP VIEW {quoted_name(name)} AS {definition}")
    # The tables have names of views, and others: none of them may be found.
    cursor.execute("SET search_path = 'temp'")
    cursor.execute("BEGIN TRANSACTION READ ONLY")
    try:
        relation = _readable(cursor.sql(checked.text, params=parameters))
        return _result(relation, collect, batch_rows)
    except duckdb.BinderException as error:
        columns = _columns(cursor, checked.views | checked.of_types)
        meant = _meant(error, columns)
        raise InvalidArgumentError(f"the query fails: {error}{meant}") from None
    except _FAILURES as error:
        if records is not None and has_lost_files(records):
            raise _RewrittenError from None
        raise _translated(error) from None


def _types(cursor: duckdb.DuckDBPyConnection, base: str, position: Position) -> list[NamedType]:
    """The types at a position."""
    found = cursor.execute(_TYPES.format(base=base), {"position": position}).fetchall()
    return [NamedType(kind.removesuffix("_type"), *type_) for kind, *type_ in found]


def _type_view(index: PointIndex, types: Sequence[NamedType]) -> TypeView:
    kind = NODE_KINDS_BY_NAME[types[0].kind].type
    found = (index.newest_stored(TABLES_OF[kind].stored, one.id, one.position) for one in types)
    declared = [read_message(kind.message, entry[1]).properties for entry in found if entry]
    return type_view(types, declared)


def _columns(cursor: duckdb.DuckDBPyConnection, views: Iterable[str]) -> dict[str, list[str]]:
    """The columns of views, after a query on them has failed."""
    with contextlib.suppress(duckdb.Error):
        cursor.execute("ROLLBACK")
    found = {}
    for view in sorted(views):
        with contextlib.suppress(duckdb.Error):
            description = cursor.execute(f"FROM {quoted_name(view)} LIMIT 0").description or ()
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
        columns.append(f"{value} AS {quoted_name(name)}")
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
    return f"STRUCT({', '.join(f'{quoted_name(name)} {text}' for (name, _), text in named)})"


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
