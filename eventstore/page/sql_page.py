"""SQL over the views: an editor, the rows of a query, and a chart of them."""

from __future__ import annotations

from shlex import quote
from typing import Final

import msgspec

from eventstore.http_api.catalog import types
from eventstore.http_api.queries import ROWS_SHOWN
from eventstore.http_api.routes import Asked, Html, Route
from eventstore.log.kinds import NODE_KINDS
from eventstore.page.showing import links_of, shown, store_name
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.sql.definitions import view_definitions
from eventstore.sql.type_views import NamedType, shortest_name, type_view, types_by_view

_FIRST: Final = "SELECT type, count(*) AS artifacts\nFROM artifacts\nGROUP BY type\nORDER BY type"

_OF_TYPES_MAX: Final = 50

_COLUMN_TYPES: Final = {
    "int_value": "int64",
    "double_value": "double",
    "bool_value": "bool",
    "proto_value": "binary",
}
"""Those of a type's properties by the kind of their values; all others are strings."""


class Column(msgspec.Struct, frozen=True):
    """A column of a view; its type is Arrow's."""

    name: str
    type: str


class OfType(msgspec.Struct, frozen=True):
    """The view of a type: its name as it is, how many nodes it has, and its columns."""

    name: str
    nodes: int
    columns: list[Column]


_COLUMNS: Final[dict[str, list[Column]]] = {}
"""The columns of each view, which are the same in every store, once they were asked for."""


class SqlPageQuery(msgspec.Struct, frozen=True):
    """The query that is filled in, and which chart of it is shown: the page runs it when told."""

    q: str = ""
    chart: str = ""
    x: str = ""
    y: str = ""


def sql_page(asked: Asked, query: SqlPageQuery) -> Html:
    """Where a query is written."""
    links, text, of_types = links_of(asked), query.q or _FIRST, _of_types(asked)
    return shown(
        asked,
        "sql.html.j2",
        title="SQL",
        section="SQL",
        query=text,
        chart=query.chart,
        x=query.x,
        y=query.y,
        views=_views(asked),
        of_types=of_types[:_OF_TYPES_MAX],
        of_types_left=max(0, len(of_types) - _OF_TYPES_MAX),
        rows_shown=ROWS_SHOWN,
        seconds=asked.serving.limits.query_seconds,
        api=f"{links.prefix}/api/v1/sql",
        command=(
            f"eventstore sql {store_name(asked)} --as-of {asked.moments.at.position} {quote(text)}"
        ),
    )


def _views(asked: Asked) -> dict[str, list[Column]]:
    if not _COLUMNS:
        views = sorted(view_definitions("main", 0))
        # The name of a table is a struct of its columns; `commits` has a column named `records`.
        tables = ", ".join(f"(FROM {view} LIMIT 0) AS of_{view}" for view in views)
        query = f"SELECT {', '.join(f'of_{view} AS {view}' for view in views)} FROM {tables}"
        _COLUMNS.update(
            {
                view.name: [Column(it.name, str(it.type)) for it in view.type]
                for view in asked.store.sql(query).arrow().schema
            }
        )
    return _COLUMNS


def _of_types(asked: Asked) -> list[OfType]:
    """The views of types that have nodes, those with most nodes first."""
    counted = {
        (kind.name, one.id): one for kind in NODE_KINDS for one in types(asked.source, kind.name)
    }
    named = [NamedType(kind, one.id, one.name, 0) for (kind, _), one in counted.items()]
    names = types_by_view(named, _views(asked).keys())
    found = []
    for of_view in dict.fromkeys(names.values()):
        summaries = [counted[one.kind, one.id] for one in of_view]
        if nodes := sum(one.count for one in summaries):
            declared = [
                {its.name: mlmd.PropertyType.Value(its.type) for its in one.properties}
                for one in summaries
            ]
            columns = [
                *_views(asked)[f"{of_view[0].kind}s"],
                *(
                    Column(one.name, _COLUMN_TYPES.get(one.value, "string"))
                    for one in type_view(of_view, declared).columns
                ),
            ]
            found.append(OfType(shortest_name(of_view, names), nodes, columns))
    return sorted(found, key=lambda one: -one.nodes)


ROUTES = (Route("/sql", sql_page, kept=False),)
