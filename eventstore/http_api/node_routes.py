"""The addresses of nodes: lists, one of them, its versions, events, contexts and members."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec

from eventstore.http_api.catalog import TypeSummary, UsedProperty, types, used_properties
from eventstore.http_api.cursors import cursor_after, cursor_text
from eventstore.http_api.entities import (
    Entity,
    EventRow,
    VersionRow,
    contexts,
    entity,
    events,
    members,
    relatives,
    touching,
    versions,
)
from eventstore.http_api.formats import MEDIA_TYPES, Form, begun, streamed
from eventstore.http_api.lists import (
    ROWS_MAX,
    Column,
    Found,
    NodeRow,
    all_columns,
    found,
    list_columns,
    node_list,
)
from eventstore.http_api.node_batches import node_batches, schema_of
from eventstore.http_api.ordering import Order, Place
from eventstore.http_api.routes import Asked, Kind, Route, Streamed
from eventstore.log.kinds import NODE_KINDS

Limit = Annotated[int, msgspec.Meta(ge=1, le=ROWS_MAX)]
Id = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class NodesQuery(msgspec.Struct, frozen=True):
    """Which nodes, in which order, with which columns.

    `sort` is a column, with a minus before it for the greatest first. `count` is `exactly` to count
    more than 10,000. A `format` other than JSON gives all nodes, whatever cursor and limit say.
    """

    type: str | None = None
    filter: str = ""
    sort: str = "id"
    columns: list[str] | None = None
    count: Literal["", "exactly"] = ""
    format: Form | None = None
    cursor: str | None = None
    limit: Limit = 50


class NodesAnswer(msgspec.Struct, frozen=True):
    """A page of nodes; `next` is the cursor of the next one, None at the end."""

    columns: list[Column]
    rows: list[NodeRow]
    found: Found
    next: str | None


class OneQuery(msgspec.Struct, frozen=True):
    """A node, by its id."""

    id: Id


class PageQuery(msgspec.Struct, frozen=True):
    """A page of what belongs to a node."""

    id: Id
    cursor: str | None = None
    limit: Limit = 50


class EventsQuery(msgspec.Struct, frozen=True):
    """A page of a node's events; of its inputs or its outputs alone if one is chosen."""

    id: Id
    only: Literal["inputs", "outputs"] | None = None
    cursor: str | None = None
    limit: Limit = 25


class ContextPartsQuery(msgspec.Struct, frozen=True):
    """A page of what a context has: members of a kind, parents or children."""

    id: Id
    of: Literal["artifacts", "executions", "parents", "children"]
    cursor: str | None = None
    limit: Limit = 25


class VersionsAnswer(msgspec.Struct, frozen=True):
    """Versions, the newest first, of `count` in all."""

    count: int
    versions: list[VersionRow]
    next: str | None


class EventsAnswer(msgspec.Struct, frozen=True):
    """Events, the newest first; `inputs` and `outputs` are how many there are in all."""

    inputs: int
    outputs: int
    events: list[EventRow]
    next: str | None


class RelatedAnswer(msgspec.Struct, frozen=True):
    """Nodes beside another, by id, of `count` in all."""

    count: int
    nodes: list[NodeRow]
    next: str | None


class CatalogQuery(msgspec.Struct, frozen=True):
    """What lists of a kind of nodes, or of a type, can show."""

    kind: Kind
    type: str | None = None


class CatalogAnswer(msgspec.Struct, frozen=True):
    """Types with their counts, properties in use, and the columns that a list can have."""

    types: list[TypeSummary]
    properties: list[UsedProperty]
    columns: list[Column]


def order_of(sort: str) -> Order:
    """A column, or one after a minus, as an order."""
    return Order(sort.removeprefix("-"), sort.startswith("-"))


def catalog_answer(asked: Asked, query: CatalogQuery) -> CatalogAnswer:
    """What there is of a kind of nodes: types, properties and columns."""
    source = asked.source
    return CatalogAnswer(
        types(source, query.kind),
        used_properties(source, query.kind),
        all_columns(source, query.kind, query.type),
    )


def _listing(kind: str) -> Callable[..., Any]:
    def answer(asked: Asked, query: NodesQuery) -> NodesAnswer | Streamed:
        source, position = asked.source, asked.moments.at.position
        form = query.format or MEDIA_TYPES.get(asked.accept, "json")
        if form != "json":
            return _downloaded(asked, kind, query, form)
        page = node_list(
            source,
            kind,
            type_name=query.type,
            filter_query=query.filter,
            order=order_of(query.sort),
            columns=query.columns,
            after=cursor_after(query.cursor, query, Place),
            limit=query.limit,
        )
        counted = found(
            source,
            kind,
            type_name=query.type,
            filter_query=query.filter,
            exactly=query.count == "exactly",
        )
        return NodesAnswer(
            page.columns, page.rows, counted, cursor_text(position, query, page.after)
        )

    return _named(answer, f"{kind}s", f"A page of {kind}s, filtered and in any order.")


def _downloaded(asked: Asked, kind: str, query: NodesQuery, form: Form) -> Streamed:
    """All nodes of a list, in a form for other tools."""
    source = asked.source
    columns = list_columns(source, kind, query.type, query.columns)
    batches = node_batches(
        source,
        kind,
        columns,
        type_name=query.type,
        filter_query=query.filter,
        order=order_of(query.sort),
    )
    name = f"{query.type or kind}-{asked.moments.at.position}"
    safe = "".join(c if (c.isascii() and c.isalnum()) or c in "-_" else "_" for c in name)
    return streamed(form, safe, begun(batches), schema_of(columns))


def _one(kind: str) -> Callable[..., Any]:
    def answer(asked: Asked, query: OneQuery) -> Entity:
        return entity(asked.source, kind, query.id)

    return _named(answer, kind, f"One {kind}, and which version has set which field.")


def _history(kind: str) -> Callable[..., Any]:
    def answer(asked: Asked, query: PageQuery) -> VersionsAnswer:
        before = cursor_after(query.cursor, query, int)
        page = versions(asked.source, kind, query.id, before=before, limit=query.limit)
        following = cursor_text(asked.moments.at.position, query, page.before)
        return VersionsAnswer(page.count, page.versions, following)

    return _named(answer, f"{kind}_versions", f"The versions of one {kind}, the newest first.")


def _events(kind: str) -> Callable[..., Any]:
    def answer(asked: Asked, query: EventsQuery) -> EventsAnswer:
        page = events(
            asked.source,
            kind,
            query.id,
            inputs=None if query.only is None else query.only == "inputs",
            before=cursor_after(query.cursor, query, int),
            limit=query.limit,
        )
        following = cursor_text(asked.moments.at.position, query, page.before)
        return EventsAnswer(page.inputs, page.outputs, page.events, following)

    return _named(answer, f"{kind}_events", f"The events of one {kind}, the newest first.")


def _contexts(kind: str) -> Callable[..., Any]:
    def answer(asked: Asked, query: PageQuery) -> RelatedAnswer:
        after = cursor_after(query.cursor, query, int)
        page = contexts(asked.source, kind, query.id, after=after, limit=query.limit)
        following = cursor_text(asked.moments.at.position, query, page.after)
        return RelatedAnswer(page.count, page.nodes, following)

    return _named(answer, f"{kind}_contexts", f"The contexts that one {kind} is in.")


def context_parts(asked: Asked, query: ContextPartsQuery) -> RelatedAnswer:
    """The artifacts, executions, parents or children of a context."""
    source, after = asked.source, cursor_after(query.cursor, query, int)
    if query.of in ("artifacts", "executions"):
        page = members(source, query.id, query.of[:-1], after=after, limit=query.limit)
    else:
        are_parents = query.of == "parents"
        page = relatives(source, query.id, parents=are_parents, after=after, limit=query.limit)
    following = cursor_text(asked.moments.at.position, query, page.after)
    return RelatedAnswer(page.count, page.nodes, following)


def context_touching(asked: Asked, query: PageQuery) -> VersionsAnswer:
    """All that touched a context, the newest first: its versions, and links from and to it."""
    before = cursor_after(query.cursor, query, int)
    page = touching(asked.source, query.id, before=before, limit=query.limit)
    following = cursor_text(asked.moments.at.position, query, page.before)
    return VersionsAnswer(page.count, page.versions, following)


def _named(answer: Callable[..., Any], name: str, said: str) -> Callable[..., Any]:
    answer.__name__, answer.__doc__ = name, said
    return answer


def _routes_of(kind: str) -> Sequence[Route]:
    found_at = f"/{kind}s/{{id}}"
    routes = [
        Route(f"/{kind}s", _listing(kind), media_types=[*MEDIA_TYPES]),
        Route(found_at, _one(kind)),
        Route(f"{found_at}/versions", _history(kind)),
    ]
    if kind != "context":
        routes += [
            Route(f"{found_at}/events", _events(kind)),
            Route(f"{found_at}/contexts", _contexts(kind)),
        ]
    return routes


ROUTES: Final = (
    *(route for kind in NODE_KINDS for route in _routes_of(kind.name)),
    Route("/contexts/{id}/touching", context_touching),
    Route("/contexts/{id}/{of}", context_parts),
    Route("/catalog", catalog_answer),
)
