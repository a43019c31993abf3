"""Which queries of users may run: those that reach the views alone.

DuckDB's own parser says what a query names. Its settings keep queries from files and other
databases; its catalogs, and the tables under the views, show more than one moment, or the present.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final, NamedTuple

import duckdb

from eventstore.errors import InvalidArgumentError
from eventstore.sql.definitions import LOG_RECORDS, STORED_ERASURES
from eventstore.sql.sizes import Parameters, check_size
from eventstore.wording import did_you_mean

_STATEMENTS: Final = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
_EXPLAIN: Final = re.compile(
    r"\s*EXPLAIN(\s+ANALYZE\b|\s*\(\s*(ANALYZE|FORMAT)\b[^()]*\)|\b)", re.IGNORECASE
)
_TABLE_FUNCTIONS: Final = frozenset(
    ("generate_series", "json_each", "json_tree", "range", "repeat", "repeat_row", "unnest")
)
_REFUSED_FUNCTIONS: Final = frozenset(
    (
        "current_schemas",
        "current_setting",
        "get_block_size",
        "getenv",
        "getvariable",
        "in_search_path",
        "json_deserialize_sql",
        "json_execute_serialized_sql",
        "json_serialize_plan",
        "json_serialize_sql",
        "pg_get_constraintdef",
        "pg_get_viewdef",
        "stats",
        "txid_current",
        "write_log",
    )
)
"""What reveals the machine or more than the moment, takes queries as texts, or writes."""

_CATALOG_NAME: Final = re.compile(r"(duckdb|pg|pragma|sqlite)_", re.IGNORECASE)


class CheckedQuery(NamedTuple):
    """The text of one query that may run, and the views that it names: those of types apart.

    Names of these are as the query has them, the others in lower case.
    """

    text: str
    views: frozenset[str]
    of_types: frozenset[str] = frozenset()


def checked_query(
    cursor: duckdb.DuckDBPyConnection,
    query: str,
    views: Collection[str],
    parameters: Parameters = None,
    names_of_types: Callable[[], Collection[str]] = tuple,
) -> CheckedQuery:
    """A query as it may run.

    `names_of_types` gives the names of the views of types, in lower case; it is called when the
    query names more than the other views.

    Raises InvalidArgumentError for anything but one query, and for one that names more than the
    views, or a value out of all proportion; a `duckdb.Error` where DuckDB cannot parse it.
    """
    if not isinstance(query, str) or "\0" in query:
        raise InvalidArgumentError(f"sql takes a query as a text without NUL, not {query!r}")
    try:
        query.encode()
    except UnicodeEncodeError:
        raise InvalidArgumentError("the query cannot be written as UTF-8") from None
    statements = cursor.extract_statements(query)
    if len(statements) != 1 or statements[0].type not in _STATEMENTS:
        raise InvalidArgumentError(
            "sql takes one query: a SELECT, WITH, FROM, VALUES, DESCRIBE or EXPLAIN"
        )
    text = checked = statements[0].query
    if statements[0].type == duckdb.StatementType.EXPLAIN:
        text = _from_first_word(text)
        explain = _EXPLAIN.match(text)
        checked = "" if explain is None else text[explain.end() :]
    parsed = _parsed(cursor, checked)
    named, of_types = _views_named(parsed, views, names_of_types)
    for function in _called(parsed):
        check_size(function, parameters)
    return CheckedQuery(text, named, of_types)


def _from_first_word(text: str) -> str:
    """The text without the comments before it, which DuckDB 1.5 leaves in a statement."""
    words = (place for place, kind in duckdb.tokenize(text) if kind != duckdb.token_type.comment)
    return text.encode()[next(words, 0) :].decode()


def _parsed(cursor: duckdb.DuckDBPyConnection, text: str) -> Any:
    ((tree,),) = cursor.execute("SELECT json_serialize_sql(?::VARCHAR)", [text]).fetchall()
    try:
        parsed = json.loads(tree)
    except RecursionError:
        raise InvalidArgumentError("the query is nested too deeply: split it") from None
    if parsed["error"] or len(parsed["statements"]) != 1:
        raise InvalidArgumentError(
            "the query is no SELECT that can be checked: write it as one, and EXPLAIN at its start"
        )
    return parsed


def _views_named(
    parsed: Any, views: Collection[str], names_of_types: Callable[[], Collection[str]]
) -> tuple[frozenset[str], frozenset[str]]:
    tables: set[str] = set()
    shadows: set[str] = set()
    for part in _parts(parsed):
        kind = part.get("type")
        if kind == "BASE_TABLE":
            if _is_qualified(part):
                raise _refused(f"the table {_path(part)}", views)
            tables.add(part["table_name"])
        elif kind == "TABLE_FUNCTION":
            _check_function(part["function"], views)
        elif kind == "SHOW_REF" and part.get("query") is None:
            raise _refused(f"SHOW or DESCRIBE of {part.get('table_name')!r}", views)
        if part.get("function_name", "").lower() in _REFUSED_FUNCTIONS:
            raise _refused(f"the function {part['function_name']}", views)
        shadows.update(str(name).lower() for name in _named_queries(part))
    for name in filter(_is_reserved, shadows):
        raise _refused(f"a common table of the name {name!r}", views)
    others = frozenset(name for name in tables if name.lower() not in views)
    known = names_of_types() if others else ()
    of_types = frozenset(
        name for name in others if name.lower() in known and not _is_reserved(name.lower())
    )
    for name in sorted(name.lower() for name in others - of_types):
        if name not in shadows:
            raise _refused(f"the table {name!r}", views, _meant(name, views, known))
    return frozenset(name.lower() for name in tables - others), of_types


def _is_reserved(name: str) -> bool:
    """Whether a name is of what no query may reach, or looks so."""
    return bool(_CATALOG_NAME.match(name)) or name in (LOG_RECORDS, STORED_ERASURES)


def _meant(name: str, views: Collection[str], of_types: Collection[str]) -> str:
    """What to say to a query that names a view which is not there."""
    several = sorted(known for known in of_types if known.endswith(f"s_of_{name}"))
    if several:
        return f": types of several kinds are called so, use {' or '.join(several)}."
    return did_you_mean(name, [*views, *of_types])


def _parts(parsed: Any) -> Iterator[dict[str, Any]]:
    """Every object of a syntax tree; text of the query is in none of their keys."""
    pending = [parsed]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            yield part
            pending.extend(part.values())
        elif isinstance(part, list):
            pending.extend(part)


def _called(parsed: Any) -> Iterator[dict[str, Any]]:
    """The calls of functions that make one value: those in FROM make rows."""
    in_from = {
        id(part["function"]) for part in _parts(parsed) if part.get("type") == "TABLE_FUNCTION"
    }
    for part in _parts(parsed):
        if part.get("class") == "FUNCTION" and id(part) not in in_from:
            yield part


def _named_queries(part: dict[str, Any]) -> list[str]:
    names = [entry["key"] for entry in part["cte_map"]["map"]] if "cte_map" in part else []
    if part.get("type") in ("RECURSIVE_CTE_NODE", "CTE_NODE"):
        names.append(part.get("cte_name", ""))
    return names


def _check_function(function: Any, views: Collection[str]) -> None:
    name = function.get("function_name", "").lower()
    if name not in _TABLE_FUNCTIONS or function.get("schema") or function.get("catalog"):
        raise _refused(f"the function {name!r} in FROM", views)


def _is_qualified(table: dict[str, Any]) -> bool:
    path = table.get("qualified_name", {}).get("path", [table["table_name"]])
    return bool(table.get("schema_name") or table.get("catalog_name") or len(path) != 1)


def _path(table: dict[str, Any]) -> str:
    parts = (table.get("catalog_name"), table.get("schema_name"), table["table_name"])
    return ".".join(part for part in parts if part)


def _refused(what: str, views: Collection[str], meant: str = "") -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{what} cannot be reached by a query{meant or '.'} It may name the views "
        f"{', '.join(sorted(views))}, those of types (artifacts_of_Model, or Model where nothing "
        "else is called so), its own common tables, and in FROM the functions "
        f"{', '.join(sorted(_TABLE_FUNCTIONS))}"
    )
