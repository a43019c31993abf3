"""The address of SQL."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from eventstore.http_api.formats import MEDIA_TYPES, Form, begun, streamed
from eventstore.http_api.queries import ROWS_SHOWN, QueryColumn, all_batches, first_rows
from eventstore.http_api.routes import Asked, Route, Streamed


class SqlQuery(msgspec.Struct, frozen=True):
    """One query. A `format` other than JSON gives all rows, whatever the limit says."""

    q: str
    limit: Annotated[int, msgspec.Meta(ge=1, le=ROWS_SHOWN)] = ROWS_SHOWN
    format: Form | None = None


class SqlAnswer(msgspec.Struct, frozen=True):
    """The first rows of a result, and the limits: of rows, and of time in seconds."""

    columns: list[QueryColumn]
    rows: list[list[Any]]
    has_more: bool
    limit: int
    deadline_seconds: float


def sql_answer(asked: Asked, query: SqlQuery) -> SqlAnswer | Streamed:
    """The rows of a query over the views, as of the moment."""
    seconds = asked.serving.limits.query_seconds
    form = query.format or MEDIA_TYPES.get(asked.accept, "json")
    if form != "json":
        batches, schema = all_batches(asked.source, query.q, seconds)
        return streamed(form, f"query-{asked.moments.at.position}", begun(batches), schema)
    found = first_rows(asked.source, query.q, seconds, query.limit)
    return SqlAnswer(found.columns, found.rows, found.has_more, query.limit, seconds)


ROUTES: Final = (Route("/sql", sql_answer, posts=True, is_query=True, media_types=[*MEDIA_TYPES]),)
