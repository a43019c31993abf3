"""Lists of artifacts, executions and contexts: by type, filtered, in the order of any column."""

from __future__ import annotations

import json
from functools import partial
from shlex import quote as shell
from typing import Any

import msgspec

from eventstore.errors import InvalidArgumentError, NotFoundError
from eventstore.http_api.catalog import types
from eventstore.http_api.cursors import cursor_after, cursor_text
from eventstore.http_api.differences import differences_of
from eventstore.http_api.filters import parts_of
from eventstore.http_api.lists import Column, Found, NodeList, all_columns, found, node_list
from eventstore.http_api.ordering import PLANNED, Order, Place
from eventstore.http_api.routes import Asked, Html, Route
from eventstore.metadata_store.source import Source
from eventstore.page.showing import as_of, links_of, moment_fields, seen_at, shown, store_name
from eventstore.sql.type_views import quoted_text

_LIMIT = 50
_NUMBERS = frozenset(("INT", "DOUBLE"))
_CHOICES_MAX = 60
_CONDITIONS_MAX = 12
_FORMS = ("csv", "arrow", "parquet")
_IN_NAME = frozenset(("id",))


class ListQuery(msgspec.Struct, frozen=True):
    """`sort` is a column, with `-` before it for descending; `ticked` are ids to compare."""

    type: str | None = None
    filter: str = ""
    sort: str = ""
    columns: list[str] = []
    cursor: str | None = None
    ticked: list[int] = []
    count: bool = False


def nodes(kind: str, asked: Asked, query: ListQuery) -> Html:
    """A page of nodes of a kind."""
    seen, links = seen_at(asked), links_of(asked)
    source = seen.source
    order = Order(query.sort.removeprefix("-") or "id", not query.sort or query.sort[0] == "-")
    columns = [name for one in query.columns for name in one.split(",") if name] or None
    given = {
        "type": query.type,
        "filter": query.filter or None,
        "sort": query.sort or None,
        "columns": ",".join(columns) if columns else None,
    }
    # The same list, whatever is ticked and counted on a page of it.
    listed_by = msgspec.structs.replace(query, ticked=[], count=False)
    known_types = [one for one in types(source, kind) if one.count or one.name == query.type]
    error, listed, counted = None, NodeList([], [], None), Found(0, is_exact=True)
    try:
        listed = node_list(
            source,
            kind,
            type_name=query.type,
            filter_query=query.filter,
            order=order,
            columns=columns,
            after=cursor_after(query.cursor, listed_by, Place),
            limit=_LIMIT,
        )
        counted = found(
            source, kind, type_name=query.type, filter_query=query.filter, exactly=query.count
        )
    except InvalidArgumentError as wrong:
        error = _error(wrong, query.filter)
    headed = _columns(listed.columns, order, partial(links.list, kind), given)
    places = [place for place, one in enumerate(listed.columns) if one.name not in _IN_NAME]
    cursor = cursor_text(asked.moments.at.position, listed_by, listed.after)
    following = links.list(kind, **given, cursor=cursor, **_pinned(asked)) if cursor else None
    chosen = [
        *(("columns", name) for name in columns or ()),
        *((name, text) for name, text in given.items() if name in ("type", "filter")),
        ("sort", query.sort or "-id"),
    ]
    address, at_text = f"/api/v1/{kind}s", seen.moments.at_text
    return shown(
        asked,
        "list.html.j2",
        title=query.type or f"{kind.capitalize()}s",
        section=f"{kind.capitalize()}s",
        kind=kind,
        type=query.type,
        types=known_types,
        filter=query.filter,
        unfiltered=links.list(kind, **(given | {"filter": None})),
        found=_found(counted, is_wrong=error is not None),
        count_link=None if counted.is_exact else links.list(kind, **given, count=1),
        downloads={
            form: links.to(address, chosen, format=form, at=seen.moments.at.position, until=None)
            for form in ("csv", "arrow", "parquet")
        },
        sql=None
        if (q := _sql(kind, query, order)) is None
        else links.to("/sql", q=q, at=at_text, until=None),
        python=_python(kind, query, at_text),
        kept=[(name, text) for name, text in given.items() if text and name in ("type", "sort")]
        + moment_fields(asked),
        choices=_choices(all_columns(source, kind, query.type), listed.columns),
        error=error,
        columns=[headed[place] for place in places],
        rows=[
            {
                "id": row.id,
                "name": row.name,
                "is_erased": row.erased_by is not None,
                "cells": [row.cells[place] for place in places],
            }
            for row in listed.rows
        ],
        ticked=query.ticked,
        first=links.list(kind, **given) if query.cursor else None,
        following=following,
        limit=_LIMIT,
        conditions=[] if listed.rows or error else _conditions(source, kind, query),
        two=seen is not asked,
        found_before=None if seen is asked or error else _found_before(asked, kind, query),
        differing={}
        if seen is asked
        else differences_of(
            source, asked.moments.at.position, kind, [row.id for row in listed.rows]
        ),
        command=_command(kind, query, order, seen),
    )


def _pinned(asked: Asked) -> dict[str, int]:
    """B by its position, which stays the same from page to page."""
    until = asked.moments.until
    return {} if until is None else {"until": until.position}


def _found_before(asked: Asked, kind: str, query: ListQuery) -> str:
    """How many the same list has at A."""
    try:
        counted = found(
            asked.source,
            kind,
            type_name=query.type,
            filter_query=query.filter,
            exactly=query.count,
        )
    except NotFoundError:
        # The type came later.
        return "0"
    return f"{counted.count:,}" if counted.is_exact else f"more than {counted.count:,}"


def _conditions(source: Source, kind: str, query: ListQuery) -> list[dict[str, Any]]:
    """The parts of a filter that AND connects, each with how many nodes fit it alone."""
    texts = parts_of(query.filter)
    if not 2 <= len(texts) <= _CONDITIONS_MAX:
        return []
    try:
        counted = [found(source, kind, type_name=query.type, filter_query=text) for text in texts]
    except InvalidArgumentError:
        # A part that cannot stand alone, such as one half of what neighbours have to be at once.
        return []
    return [
        {"text": text, "found": _found(one, is_wrong=False)}
        for text, one in zip(texts, counted, strict=True)
    ]


def _found(counted: Found, *, is_wrong: bool) -> str:
    if is_wrong:
        return ""
    return f"{counted.count:,} found" if counted.is_exact else f"more than {counted.count:,} found"


def _columns(
    columns: list[Column], order: Order, to_list: partial[str], given: dict[str, Any]
) -> list[dict[str, Any]]:
    """How the columns are headed; a click on one sorts by it, another turns the order round."""
    shown = []
    for one in columns:
        is_sorted = one.name == order.column
        turned = f"-{one.name}" if is_sorted and not order.descending else one.name
        shown.append(
            {
                "name": one.name,
                "label": one.name.removeprefix("properties."),
                "is_number": one.type in _NUMBERS,
                "is_time": one.type == "TIME",
                "sort": ("descending" if order.descending else "ascending") if is_sorted else None,
                "href": to_list(**{**given, "sort": turned}) if one.is_sortable else None,
            }
        )
    return shown


def _choices(known: list[Column], shown: list[Column]) -> list[dict[str, Any]]:
    names = {one.name for one in shown}
    # Those that are shown come first, and stay in their order.
    ordered = [*shown, *(one for one in known if one.name not in names)]
    return [
        {"name": one.name, "is_shown": one.name in names}
        for one in ordered[: max(_CHOICES_MAX, len(shown))]
    ]


def _error(wrong: InvalidArgumentError, text: str) -> dict[str, Any]:
    position = getattr(wrong, "position", None)
    if position is None:
        return {"text": str(wrong), "before": None}
    return {
        "text": str(wrong),
        "before": text[:position],
        "at": text[position : position + 1],
        "after": text[position + 1 :],
    }


def _sql(kind: str, query: ListQuery, order: Order) -> str | None:
    """The query for the same rows; None for a filter or an order that is not put in SQL."""
    if query.filter or order.column != "id":
        return None
    of_type = f" WHERE type = {quoted_text(query.type)}" if query.type else ""
    return f"SELECT * FROM {kind}s{of_type} ORDER BY id{' DESC' if order.descending else ''}"


def _python(kind: str, query: ListQuery, at: str | None) -> str:
    store = "store" if at is None else f"store.as_of({at})"
    if query.type and not query.filter:
        return f"{store}.get_{kind}s_by_type({json.dumps(query.type)})"
    if not query.filter:
        return f"{store}.get_{kind}s()"
    of_type = f"type = {json.dumps(query.type)} AND ({query.filter})"
    condition = json.dumps(of_type if query.type else query.filter)
    return f"{store}.get_{kind}s(eventstore.ListOptions(filter_query={condition}))"


def _command(kind: str, query: ListQuery, order: Order, asked: Asked) -> str:
    words = [f"eventstore list {store_name(asked)} {kind}"]
    if query.type:
        words.append(f"--type {shell(query.type)}")
    if query.filter:
        words.append(f"--filter {shell(query.filter)}")
    if order.column in PLANNED:
        words.append(f"--order-by {PLANNED[order.column]}")
        words += ["--descending"] if order.descending else []
    return f"{' '.join(words)}{as_of(asked)}\n\n{_python(kind, query, asked.moments.at_text)}"


def artifacts(asked: Asked, query: ListQuery) -> Html:
    """A list of artifacts."""
    return nodes("artifact", asked, query)


def executions(asked: Asked, query: ListQuery) -> Html:
    """A list of executions."""
    return nodes("execution", asked, query)


def contexts(asked: Asked, query: ListQuery) -> Html:
    """A list of contexts."""
    return nodes("context", asked, query)


ROUTES = (
    Route("/artifacts", artifacts),
    Route("/executions", executions),
    Route("/contexts", contexts),
)
