"""Whether a DuckDB file has the tables that this version makes, and nothing but these.

Whoever can write the file can change what is defined in it, too. Statements on it would fail, read
a view in place of a table, or call a macro in place of a function: DuckDB takes what is in the
file for what a statement names before it takes its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Final

import duckdb

from eventstore.projections.table_changes import SCHEMA

# Everything by its full name: a file may hold a macro of the same short name.
_HERE: Final = "database_name = system.main.current_database()"
_DEFINED: Final = f"SELECT schema_name, sql FROM system.main.duckdb_tables() WHERE {_HERE}"
_OTHERS: Final = {
    "functions": "NOT internal",
    "indexes": "true",
    "schemas": "schema_name != 'main'",
    "sequences": "true",
    "triggers": "true",
    "types": "NOT internal",
    "views": "NOT internal",
}
"""What else may be in a file, and how it is told from DuckDB's own; 1.5 knows no triggers."""
_INSIGNIFICANT: Final = re.compile(r'["\s]')


def has_tables_as_made(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether a database's tables are those of SCHEMA, by names, columns and types."""
    rows = connection.execute(_DEFINED).fetchall()
    if any(schema != "main" for schema, _ in rows):
        return False
    found = _normalized(sql for _, sql in rows)
    # Making tables to see how DuckDB writes their definitions takes longer than the rest of this.
    return found == _ours() or found == _as_duckdb_says()


def others_in(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Which sorts of things a database has besides tables: "functions" and the like."""
    return [what for what, condition in _OTHERS.items() if _has(connection, what, condition)]


def _has(connection: duckdb.DuckDBPyConnection, what: str, condition: str) -> bool:
    query = f"SELECT true FROM system.main.duckdb_{what}() WHERE {_HERE} AND {condition} LIMIT 1"
    try:
        return bool(connection.execute(query).fetchall())
    except duckdb.CatalogException:
        return False


@cache
def _ours() -> list[str]:
    return _normalized(SCHEMA.split(";"))


def _as_duckdb_says() -> list[str]:
    with duckdb.connect(":memory:") as connection:
        connection.execute(SCHEMA)
        return _normalized(sql for _, sql in connection.execute(_DEFINED).fetchall())


def _normalized(definitions: Iterable[str]) -> list[str]:
    texts = (_INSIGNIFICANT.sub("", text).removesuffix(";").lower() for text in definitions)
    return sorted(text for text in texts if text)
