"""Faults of DuckDB that can be lived with, found by a probe rather than by a version number."""

from __future__ import annotations

import contextlib
import threading
from typing import Final

import duckdb

from eventstore.projections.tables_check import others_in

_CONDITIONS: Final = (
    "y IN ('abc', 'b')",
    "y LIKE 'ab%'",
    "starts_with(y, 'ab')",
    "suffix(y, 'bc')",
    "contains(y, 'b')",
    "y GLOB 'ab*'",
)
_ROWS = "(SELECT count(*) FROM (SELECT CASE WHEN x = 1 THEN 'abc' END AS y FROM probe) WHERE {})"
_PROBE: Final = f"SELECT {', '.join(_ROWS.format(condition) for condition in _CONDITIONS)}"

_mutex = threading.Lock()
_found: bool | None = None


def avoid_misleading_statistics(connection: duckdb.DuckDBPyConnection) -> None:
    """Keep a database from assuming that a condition on a text that may be NULL is always true.

    DuckDB 2.0 does so with computed texts, and counts too many rows. Where the probe finds no such
    fault, nothing is changed. Raises InvalidInputException when the configuration is locked.
    """
    if _misleading_statistics(connection):
        connection.execute("SET disabled_optimizers = 'statistics_propagation'")


def _misleading_statistics(connection: duckdb.DuckDBPyConnection) -> bool:
    global _found
    with _mutex:
        if _found is None:
            if others_in(connection):
                # The probe might call a macro of the file's. Nothing of such a file is believed.
                return False
            # A connection of its own, whose temporary table goes with it.
            with contextlib.closing(connection.cursor()) as cursor:
                cursor.execute("CREATE TEMP TABLE probe AS SELECT x FROM (VALUES (1), (2)) AS t(x)")
                _found = cursor.execute(_PROBE).fetchall() != [(1,) * len(_CONDITIONS)]
        return _found
