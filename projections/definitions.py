"""Whether a DuckDB file has the tables that this version makes, and none but these.

Whoever can write the file can change what is defined in it, too; statements on it would fail, or
read a view in place of a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Final

import duckdb

from eventstore.projections.folding import SCHEMA

_DEFINED: Final = """
SELECT schema_name, sql FROM duckdb_tables() WHERE database_name = current_database()
"""
_INSIGNIFICANT: Final = re.compile(r'["\s]')


def are_as_made(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the tables of a database have the names, columns and types of SCHEMA."""
    rows = connection.execute(_DEFINED).fetchall()
    if any(schema != "main" for schema, _ in rows):
        return False
    found = _normalized(sql for _, sql in rows)
    # Making tables to see how DuckDB writes their definitions takes longer than all else here.
    return found == _ours() or found == _as_duckdb_says()


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
