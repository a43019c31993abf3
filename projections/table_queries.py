"""The rows of a query of the DuckDB tables, how long it may take, and what is said if it fails."""

from __future__ import annotations

import re
from typing import Any, Final

import duckdb

from eventstore.errors import InvalidArgumentError, ResourceExhaustedError

_FOLDING_FAULT: Final = "BindBuiltinScalarFunction"
"""What DuckDB 2.0 complains of when it folds part of a comparison of texts to NULL."""

_TABLE: Final = re.compile(r"\b(FROM|JOIN) (\w+) AS\b")

_SHORT_SQL: Final = 4_000
"""A query of no more than this is interrupted fast, unless a function is slow on one value."""

_SLOW_FUNCTION: Final = re.compile(r"list_transform")

STATEMENT_SECONDS_MAX: Final = 30.0
"""How long a query may take. The slowest measured on a million nodes took a hundredth of this."""


def is_interrupted_fast(sql: str) -> bool:
    """Whether a query ends soon after its interrupt, so that it need not run in a thread."""
    return len(sql) <= _SHORT_SQL and not _SLOW_FUNCTION.search(sql)


def all_rows(
    cursor: duckdb.DuckDBPyConnection, sql: str | duckdb.Statement, parameters: dict[str, Any]
) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    try:
        try:
            return cursor.execute(sql, parameters).fetchall()
        except duckdb.InvalidInputException as error:
            if _FOLDING_FAULT not in str(error):
                raise
            text = sql if isinstance(sql, str) else sql.query
            return cursor.execute(_opaque(text), parameters).fetchall()
    except (
        duckdb.ConversionException,
        duckdb.InvalidInputException,
        duckdb.OutOfRangeException,
    ) as error:
        raise InvalidArgumentError(str(error)) from None
    except duckdb.OutOfMemoryException as error:
        raise ResourceExhaustedError(
            f"the query needs more memory than it may take; ask for less of it: {error}"
        ) from None


def too_slow() -> ResourceExhaustedError:
    return ResourceExhaustedError(
        f"the query takes longer than {STATEMENT_SECONDS_MAX:g} seconds; ask for less, or name "
        "fewer neighbours in the filter"
    )


def _opaque(sql: str) -> str:
    """The same query without what DuckDB knows of the columns' values: it has faults there."""
    return _TABLE.sub(r"\1 (SELECT try(COLUMNS('(.*)')) AS '\\1' FROM \2) AS", sql)
