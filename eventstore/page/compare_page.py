"""Several nodes side by side, and their numbers in a plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from eventstore.http_api.compare import Cell, ComparedField, Comparison, compare
from eventstore.http_api.compare_routes import CompareQuery as NodesQuery
from eventstore.http_api.compare_routes import chosen_nodes
from eventstore.http_api.points import Points, points
from eventstore.http_api.routes import Asked, Html, Route
from eventstore.page.links import Links
from eventstore.page.showing import links_of, shown, store_name
from eventstore.plain_values import is_same

_SHAPES: Final = "△▢◇○▽☆"
"""Of more nodes than these each has its number."""

_COLUMNS_MAX: Final = 6
"""More nodes than these become rows."""

_NOBODY: Final = Points([], [], [], 0, is_sampled=False)

_RANGE: Final = 48
"""Pixels of the line that a number is shown on, between the least and the greatest."""


class CompareQuery(msgspec.Struct, frozen=True):
    """Ids of one kind, the base first, with commas or each by itself.

    `plot` is a field with numbers, `by` what it is over.
    """

    artifacts: list[str] = []
    executions: list[str] = []
    contexts: list[str] = []
    show: Literal["", "all"] = ""
    plot: str = ""
    by: str = ""


def compare_page(asked: Asked, query: CompareQuery) -> Html:
    """What differs between some nodes."""
    given = (query.artifacts, query.executions, query.contexts)
    kind, ids = chosen_nodes(NodesQuery(*(",".join(filter(None, texts)) for texts in given)))
    found, links = compare(asked.source, kind, ids), links_of(asked)
    ids = [node.id for node in found.nodes]
    plotted = _plotted(asked, query, found)
    names = [node.name or f"{kind} {node.id}" for node in found.nodes]

    def to(order: Sequence[int], **more: object) -> str:
        given = {"show": query.show or None, "plot": query.plot or None, "by": query.by or None}
        return links.to("/compare", **{f"{kind}s": ",".join(map(str, order))}, **{**given, **more})

    return shown(
        asked,
        "compare.html.j2",
        title=f"Compare {', '.join(names[:3])}{' …' if len(names) > 3 else ''}",
        section=f"{kind.capitalize()}s",
        kind=kind,
        nodes=[
            {
                "name": name,
                "id": node.id,
                "type": node.type,
                "state": node.state,
                "shape": _SHAPES[place] if len(ids) <= len(_SHAPES) else place + 1,
                "href": links.entity(kind, node.id),
                "as_base": to([node.id, *(other for other in ids if other != node.id)]),
                "without": to([other for other in ids if other != node.id]),
            }
            for place, (name, node) in enumerate(zip(names, found.nodes, strict=True))
        ],
        sections=[
            {
                "name": section.name,
                "fields": [
                    _shown_field(field, links)
                    for field in section.fields
                    if query.show or not field.is_equal
                ],
            }
            for section in found.sections
        ],
        equal=[(one.name, held) for one in found.sections if (held := _equal(one.fields))],
        fields_total=sum(len(section.fields) for section in found.sections),
        is_all=bool(query.show),
        has_rows=len(ids) > _COLUMNS_MAX,
        differences=to(ids, show=None),
        everything=to(ids, show="all"),
        hidden=[(f"{kind}s", ",".join(map(str, ids))), ("show", query.show)],
        plots=_numbers(found),
        settings=_settings(found),
        plotted=plotted,
        command="\n".join(
            f"eventstore get {store_name(asked)} {kind} {node_id}"
            f" --as-of {asked.moments.at.position}"
            for node_id in ids
        ),
    )


def _shown_field(field: ComparedField, links: Links) -> dict[str, Any]:
    base = field.cells[0]
    numbers = [cell.value for cell in field.cells if cell is not None and _is_number(cell.value)]
    least, greatest = (min(numbers), max(numbers)) if len(numbers) > 1 else (0, 0)
    return {
        "name": field.name,
        "types": field.types if len(field.types) > 1 else [],
        "cells": [
            None
            if cell is None
            else {
                "value": cell.value,
                "href": links.entity(cell.kind, cell.id),
                "more": cell.more,
                "differs": cell is not base
                and (base is None or not is_same(cell.value, base.value)),
                "delta": _delta(cell, base),
                "at": _RANGE * (cell.value - least) / (greatest - least)
                if greatest > least and _is_number(cell.value)
                else None,
            }
            for cell in field.cells
        ],
    }


def _equal(fields: Sequence[ComparedField]) -> list[tuple[str, Any]]:
    """The names and values of what is the same in all."""
    firsts = ((field.name, field.cells[0]) for field in fields if field.is_equal)
    return [(name, cell.value) for name, cell in firsts if cell is not None]


def _delta(cell: Cell, base: Cell | None) -> str:
    """By how much a number differs from the base's."""
    if base is None or cell is base or not (_is_number(cell.value) and _is_number(base.value)):
        return ""
    difference = cell.value - base.value
    if isinstance(difference, int):
        return f"{difference:+}" if difference else ""
    return f"{difference:+.6g}" if difference else ""


def _is_number(value: Any) -> bool:
    """Whether it is one that lies on a line: neither infinite nor none."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and abs(value) < float("inf")


def _numbers(found: Comparison) -> dict[str, ComparedField]:
    """The fields that can be plotted, by name: metrics first."""
    named = {section.name: section.fields for section in found.sections}
    numbers: dict[str, ComparedField] = {}
    for field in (*named.get("Metrics", ()), *named.get("Fields", ())):
        if _has(field):
            numbers.setdefault(field.name, field)
    return numbers


def _settings(found: Comparison) -> dict[str, ComparedField]:
    """What they can be plotted over, beside time: settings that are not all the same."""
    return {
        field.name: field
        for section in found.sections
        for field in section.fields
        if section.name == "Settings" and not field.is_equal and _has(field)
    }


def _has(field: ComparedField) -> bool:
    numbers = [cell for cell in field.cells if cell is not None and _is_number(cell.value)]
    return len(numbers) > 1


def _plotted(asked: Asked, query: CompareQuery, found: Comparison) -> dict[str, Any] | None:
    """The plot that is asked for, or the first one by time; None where there are no numbers."""
    numbers, settings = _numbers(found), _settings(found)
    name = query.plot if query.plot in numbers else next(iter(numbers), None)
    if name is None:
        return None
    by = query.by if query.by in settings else "time"
    cells = numbers[name].cells
    over: list[Any]
    if by == "time":
        around = _around(asked, name, cells)
        times = dict(zip(around.ids, around.x, strict=True))
        over = [None if cell is None else times.get(cell.id) for cell in cells]
    else:
        around = _NOBODY
        over = [None if cell is None else cell.value for cell in settings[by].cells]
    chosen = [
        {
            "name": node.name or f"{node.kind} {node.id}",
            "shape": place if len(cells) <= len(_SHAPES) else None,
            "number": place + 1,
            "x": x,
            "y": cell.value,
        }
        for place, (node, cell, x) in enumerate(zip(found.nodes, cells, over, strict=True))
        if cell is not None and _is_number(cell.value) and _is_number(x)
    ]
    return {
        "name": name,
        "by": by,
        "is_sampled": around.is_sampled,
        "total": around.count,
        "left_out": around.left_out,
        "all": [list(pair) for pair in zip(around.x, around.y, strict=True)],
        "chosen": chosen,
    }


def _around(asked: Asked, name: str, cells: Sequence[Cell | None]) -> Points:
    """The same number of all nodes of the type that the first of the cells is of."""
    first: Any = next(cell for cell in cells if cell is not None and _is_number(cell.value))
    (node,) = getattr(asked.store, f"get_{first.kind}s_by_id")([first.id])
    place = "custom_properties" if "custom_properties." in name else "properties"
    # A context's fields begin with the type of what says them.
    for short in (name.rpartition("custom_properties.")[2], name.partition(".")[2]):
        if short in getattr(node, place):
            field = f"{place}.{short}"
            return points(asked.source, first.kind, node.type, "created_at", field)
    return _NOBODY


ROUTES = (Route("/compare", compare_page),)
