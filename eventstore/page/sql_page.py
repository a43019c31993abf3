"""SQL over the views: an editor, the rows of a query, and a chart of them."""

from __future__ import annotations

from shlex import quote
from typing import Final

import msgspec

from eventstore.http_api.queries import ROWS_SHOWN
from eventstore.http_api.routes import Asked, Html, Route
from eventstore.page.showing import links_of, shown, store_name
from eventstore.sql.definitions import view_definitions

_FIRST: Final = "SELECT type, count(*) AS artifacts\nFROM artifacts\nGROUP BY type\nORDER BY type"

_COLUMNS: Final[dict[str, list[dict[str, str]]]] = {}
"""The columns of each view, which are the same in every store, once they were asked for."""


class SqlPageQuery(msgspec.Struct, frozen=True):
    """The query that is filled in, and which chart of it is shown: the page runs it when told."""

    q: str = ""
    chart: str = ""
    x: str = ""
    y: str = ""


def sql_page(asked: Asked, query: SqlPageQuery) -> Html:
    """Where a query is written."""
    links, text = links_of(asked), query.q or _FIRST
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
        rows_shown=ROWS_SHOWN,
        seconds=asked.serving.limits.query_seconds,
        api=f"{links.prefix}/api/v1/sql",
        command=(
            f"eventstore sql {store_name(asked)} --as-of {asked.moments.at.position} {quote(text)}"
        ),
    )


def _views(asked: Asked) -> dict[str, list[dict[str, str]]]:
    if not _COLUMNS:
        views = sorted(view_definitions("main", 0))
        # The name of a table is a struct of its columns; `commits` has a column named `records`.
        tables = ", ".join(f"(FROM {view} LIMIT 0) AS of_{view}" for view in views)
        query = f"SELECT {', '.join(f'of_{view} AS {view}' for view in views)} FROM {tables}"
        _COLUMNS.update(
            {
                view.name: [{"name": it.name, "type": str(it.type)} for it in view.type]
                for view in asked.store.sql(query).arrow().schema
            }
        )
    return _COLUMNS


ROUTES = (Route("/sql", sql_page, kept=False),)
