"""The addresses of what helps to ask: filters as they are written, and the search."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from eventstore.http_api.filters import Completions, FilterCheck, check, complete
from eventstore.http_api.routes import Asked, Kind, Route
from eventstore.http_api.search import HITS_MAX, Hit, search


class FilterQuery(msgspec.Struct, frozen=True):
    """A filter on nodes of a kind."""

    kind: Kind
    filter: str


class CompleteQuery(msgspec.Struct, frozen=True):
    """A filter that is being written, and where the cursor is: at its end if that is not said."""

    kind: Kind
    filter: str = ""
    cursor_at: int | None = None


class SearchQuery(msgspec.Struct, frozen=True):
    """What is looked for."""

    q: str
    limit: Annotated[int, msgspec.Meta(ge=1, le=HITS_MAX)] = 20


class SearchAnswer(msgspec.Struct, frozen=True):
    """What was found, the most likely first."""

    hits: list[Hit]


def filter_check(asked: Asked, query: FilterQuery) -> FilterCheck:  # noqa: ARG001
    """Whether a filter can be asked, and what is wrong with it, and where."""
    return check(query.kind, query.filter)


def filter_complete(asked: Asked, query: CompleteQuery) -> Completions:
    """What could stand at a place of a filter."""
    cursor_at = len(query.filter) if query.cursor_at is None else query.cursor_at
    return complete(asked.source, query.kind, query.filter, cursor_at)


def search_answer(asked: Asked, query: SearchQuery) -> SearchAnswer:
    """What a text may mean: an id, a position, a commit, or what a name begins with."""
    return SearchAnswer(search(asked.source, query.q, limit=query.limit))


ROUTES: Final = (
    Route("/filters/check", filter_check, posts=True),
    Route("/filters/complete", filter_complete, posts=True),
    Route("/search", search_answer),
)
