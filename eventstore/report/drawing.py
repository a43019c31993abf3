"""Lay out a lineage graph from left to right, as data flows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from eventstore.lineage import Graph, GraphNode

_BOX_WIDTH: Final = 190
_BOX_HEIGHT: Final = 46
_COLUMN: Final = _BOX_WIDTH + 90
_ROW: Final = _BOX_HEIGHT + 22
_MARGIN: Final = 12
_LABEL_CHARACTERS: Final = 26


@dataclass(frozen=True, slots=True)
class Box:
    """A node: where its left upper corner is, in pixels, and what it says."""

    kind: str
    id: int
    x: float
    y: float
    type_name: str
    name: str
    state: str
    title: str
    is_subject: bool
    width: int = _BOX_WIDTH
    height: int = _BOX_HEIGHT


@dataclass(frozen=True, slots=True)
class Arrow:
    """An event: an SVG path from box to box, and what it says."""

    path: str
    title: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """Boxes and arrows, and the size of it all in pixels."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    width: float
    height: float


def drawing_of(graph: Graph, subject: tuple[str, int]) -> Drawing:
    """The drawing of a graph; the subject's box is marked."""
    columns = _columns(graph)
    places = {}
    for column, keys in enumerate(columns):
        for row, key in enumerate(keys):
            places[key] = (_MARGIN + column * _COLUMN, _MARGIN + row * _ROW)
    boxes = tuple(_box(node, *places[node.key], node.key == subject) for node in graph.nodes)
    arrows = tuple(
        Arrow(_curve(places[edge.source], places[edge.target]), edge.label) for edge in graph.edges
    )
    rows = max((len(keys) for keys in columns), default=0)
    return Drawing(
        boxes,
        arrows,
        2 * _MARGIN + len(columns) * _COLUMN - (_COLUMN - _BOX_WIDTH),
        2 * _MARGIN + rows * _ROW - (_ROW - _BOX_HEIGHT),
    )


def _columns(graph: Graph) -> list[list[tuple[str, int]]]:
    """The nodes by column: each to the right of all that lead to it, cycles apart."""
    sources: dict[tuple[str, int], set[tuple[str, int]]] = defaultdict(set)
    targets: dict[tuple[str, int], set[tuple[str, int]]] = defaultdict(set)
    for edge in graph.edges:
        sources[edge.target].add(edge.source)
        targets[edge.source].add(edge.target)
    remaining = {node.key: len(sources[node.key]) for node in graph.nodes}
    columns: list[list[tuple[str, int]]] = []
    rows: dict[tuple[str, int], int] = {}
    while remaining:
        # In a cycle nothing is without a source that is left: go on with the first node of it.
        found = [key for key, count in remaining.items() if count == 0] or [min(remaining)]
        found.sort(key=lambda key: (_mean(rows[s] for s in sources[key] if s in rows), key))
        rows |= {key: row for row, key in enumerate(found)}
        columns.append(found)
        for key in found:
            del remaining[key]
        for key in found:
            for target in targets[key]:
                if target in remaining:
                    remaining[target] -= 1
    return columns


def _mean(rows: Iterable[int]) -> float:
    known = list(rows)
    return sum(known) / len(known) if known else 0.0


def _box(node: GraphNode, x: float, y: float, is_subject: bool) -> Box:
    type_name, name = node.label
    return Box(
        node.kind,
        node.id,
        x,
        y,
        _shortened(type_name),
        _shortened(name),
        node.state,
        f"{node.kind} {node.id}: {type_name}, {name}, {node.state or 'no state'}",
        is_subject,
    )


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    if len(line) <= _LABEL_CHARACTERS:
        return line
    return line[: _LABEL_CHARACTERS - 1] + "\u2026"


def _curve(source: tuple[float, float], target: tuple[float, float]) -> str:
    start_x, start_y = source[0] + _BOX_WIDTH, source[1] + _BOX_HEIGHT / 2
    end_x, end_y = target[0] - 4, target[1] + _BOX_HEIGHT / 2
    bend = max(45.0, abs(end_x - start_x) / 2)
    return (
        f"M{start_x:g},{start_y:g} C{start_x + bend:g},{start_y:g} "
        f"{end_x - bend:g},{end_y:g} {end_x:g},{end_y:g}"
    )
