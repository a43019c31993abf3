"""Lay out a lineage from left to right, as data flows, in bands that fit a page.

A chain that is wider than a page goes on in the next band, a step with many nodes takes several
columns. A line is drawn where nothing is in its way; elsewhere both its ends are named.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from eventstore.lineage import Graph, GraphNode
from eventstore.report.labels import shortened
from eventstore.report.selection import Fold, Key, Selection
from eventstore.shown_text import shown_text
from eventstore.wording import plural

PADDING: Final = 8
_ROWS_MAX: Final = 12
_MARGIN: Final = 14
_NOTE: Final = 15
_ROW_GAP: Final = 14
# States that need no word: what is fine is quiet.
_QUIET_STATES: Final = frozenset(("", "LIVE", "COMPLETE", "CACHED", "UNKNOWN"))


@dataclass(frozen=True, slots=True)
class Shape:
    """How many columns a band has, and how wide boxes and the gaps between them are, in pixels."""

    columns: int
    box_width: int
    gap: int

    @property
    def width(self) -> int:
        """The width of a whole band."""
        return 2 * _MARGIN + self.columns * self.box_width + (self.columns - 1) * self.gap


WIDE: Final = Shape(4, 190, 66)
NARROW: Final = Shape(2, 140, 20)


@dataclass(frozen=True, slots=True)
class Box:
    """A node or fold: where its left upper corner is, in pixels, and what it says.

    `above` and `below` name the ends of lines that are not drawn.
    """

    kind: str
    id: int
    x: float
    y: float
    width: int
    height: int
    lines: tuple[str, ...]
    above: str
    below: str
    title: str
    is_subject: bool


@dataclass(frozen=True, slots=True)
class Arrow:
    """An SVG path from box to box, the point of its head, and what it says."""

    path: str
    head: tuple[float, float]
    title: str


@dataclass(frozen=True, slots=True)
class Band:
    """Some columns of the drawing, as wide as a page."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class _Place:
    band: int
    column: int
    x: float
    y: float


def drawing_of(
    graph: Graph, subject: Key | None, chosen: Selection | None = None, shape: Shape = WIDE
) -> tuple[Band, ...]:
    """The bands of a graph's drawing, from first to last; the subject's box is marked."""
    nodes = {node.key: node for node in graph.nodes}
    folds = {fold.key: fold for fold in chosen.folds} if chosen else {}
    titles: dict[tuple[Key, Key], list[str]] = defaultdict(list)
    for edge in graph.edges:
        titles[edge.source, edge.target].append(shown_text(edge.label))
    for pair in chosen.fold_edges if chosen else ():
        titles[pair] = []
    height = 46 if all(node.state in _QUIET_STATES for node in nodes.values()) else 62
    columns = _columns(_layers([*nodes, *folds], list(titles)))
    places, heights = _places(columns, shape, height)
    drawn, above, below = _lines(titles, places, height)
    names = {key: _name(key, nodes, folds) for key in places}
    boxes: dict[int, list[Box]] = defaultdict(list)
    arrows: dict[int, list[Arrow]] = defaultdict(list)
    for source, target in drawn:
        arrow = _arrow(places[source], places[target], shape, height, titles[source, target])
        arrows[places[source].band].append(arrow)
    origins = chosen.origins if chosen else frozenset[Key]()
    for key, place in places.items():
        stubs = ((above[key], -_MARGIN + 2, 0), (below[key], shape.box_width, _MARGIN - 2))
        for others, start, length in stubs:
            if others:
                arrows[place.band].append(_stub(place, start, length, height))
        said = _ends("from", above[key], names, shape)
        if key in origins and not above[key]:
            said = "origin"
        boxes[place.band].append(
            _box(
                nodes[key] if key in nodes else folds[key],
                place,
                shape,
                height,
                said,
                _ends("to", below[key], names, shape),
                key == subject,
            )
        )
    return tuple(
        Band(tuple(boxes[band]), tuple(arrows[band]), shape.width, heights[band])
        for band in range(len(heights))
    )


def _layers(keys: Iterable[Key], edges: Sequence[tuple[Key, Key]]) -> list[list[Key]]:
    """The nodes by step: each after all that lead to it, cycles apart; its row near theirs."""
    sources: dict[Key, set[Key]] = defaultdict(set)
    targets: dict[Key, set[Key]] = defaultdict(set)
    for source, target in edges:
        sources[target].add(source)
        targets[source].add(target)
    remaining = {key: len(sources[key]) for key in sorted(keys)}
    step_of: dict[Key, int] = {}
    ready = [key for key, count in remaining.items() if count == 0]
    step = 0
    while remaining:
        # In a cycle nothing is without a source that is left: go on with the first node of it.
        ready = ready or [next(iter(remaining))]
        for key in ready:
            step_of[key] = step
            del remaining[key]
        following = []
        for key in ready:
            for target in targets[key]:
                if target in remaining:
                    remaining[target] -= 1
                    if remaining[target] == 0:
                        following.append(target)
        ready = following
        step += 1
    for key in step_of:
        if not sources[key] and targets[key]:
            # What begins with this node is near it.
            step_of[key] = max(0, min(step_of[target] for target in targets[key]) - 1)
    layers: dict[int, list[Key]] = defaultdict(list)
    for key in sorted(step_of):
        layers[step_of[key]].append(key)
    rows: dict[Key, float] = {}
    ordered = []
    for number in sorted(layers):
        found = sorted(layers[number], key=lambda key: (_mean(rows, sources[key]), key))
        rows |= {key: row - len(found) / 2 for row, key in enumerate(found)}
        ordered.append(found)
    return ordered


def _mean(rows: Mapping[Key, float], keys: Iterable[Key]) -> float:
    known = [rows[key] for key in keys if key in rows]
    return sum(known) / len(known) if known else 0.0


def _columns(layers: Iterable[Sequence[Key]]) -> list[Sequence[Key]]:
    """The steps, those with many nodes in several columns of about the same length."""
    columns: list[Sequence[Key]] = []
    for layer in layers:
        count = -(-len(layer) // _ROWS_MAX)
        rows = -(-len(layer) // count)
        columns += [layer[start : start + rows] for start in range(0, len(layer), rows)]
    return columns


def _places(
    columns: Sequence[Sequence[Key]], shape: Shape, height: int
) -> tuple[dict[Key, _Place], list[float]]:
    pitch = height + 2 * _NOTE + _ROW_GAP
    places = {}
    heights: list[float] = []
    for band, start in enumerate(range(0, len(columns), shape.columns)):
        shown = columns[start : start + shape.columns]
        rows = max(map(len, shown))
        heights.append(2 * _NOTE + rows * pitch - _ROW_GAP)
        for column, keys in enumerate(shown):
            for row, key in enumerate(keys):
                x = _MARGIN + column * (shape.box_width + shape.gap)
                y = 2 * _NOTE + (row + (rows - len(keys)) / 2) * pitch
                places[key] = _Place(band, column, x, y)
    return places, heights


def _lines(
    edges: Iterable[tuple[Key, Key]], places: Mapping[Key, _Place], height: int
) -> tuple[list[tuple[Key, Key]], dict[Key, list[Key]], dict[Key, list[Key]]]:
    """The edges that can be drawn, and of the others the ends: before each node, and after it."""
    by_column: dict[tuple[int, int], list[_Place]] = defaultdict(list)
    for place in places.values():
        by_column[place.band, place.column].append(place)
    drawn = []
    above: dict[Key, list[Key]] = defaultdict(list)
    below: dict[Key, list[Key]] = defaultdict(list)
    for source, target in sorted(edges):
        start, end = places[source], places[target]
        top, bottom = min(start.y, end.y), max(start.y, end.y) + height
        if (
            start.band == end.band
            and start.column < end.column
            and not any(
                top - _NOTE <= place.y + height and place.y <= bottom + _NOTE
                for column in range(start.column + 1, end.column)
                for place in by_column[start.band, column]
            )
        ):
            drawn.append((source, target))
        else:
            above[target].append(source)
            below[source].append(target)
    return drawn, above, below


def _ends(word: str, keys: Sequence[Key], names: Mapping[Key, str], shape: Shape) -> str:
    if not keys:
        return ""
    more = f" +{len(keys) - 1}" if len(keys) > 1 else ""
    return shortened(f"{word} {names[keys[0]]}{more}", shape.box_width, 11)


def _name(key: Key, nodes: Mapping[Key, GraphNode], folds: Mapping[Key, Fold]) -> str:
    return f"{key[0]} {key[1]}" if key in nodes else f"{folds[key].nodes:,} left out"


def _box(
    node: GraphNode | Fold,
    place: _Place,
    shape: Shape,
    height: int,
    above: str,
    below: str,
    is_subject: bool,
) -> Box:
    room = shape.box_width - 2 * PADDING
    if isinstance(node, Fold):
        kind, number = node.key
        nodes = f"{node.nodes:,} {plural(node.nodes, 'node')} left out"
        of_these = f"{node.origins:,} of them origins" if node.origins else ""
        title = (
            f"{node.artifacts:,} {plural(node.artifacts, 'artifact')} and "
            f"{node.executions:,} {plural(node.executions, 'execution')} are left out"
        )
        lines = [nodes, of_these]
    else:
        kind, number = node.key
        type_name, name = node.label
        state = "" if node.state in _QUIET_STATES else node.state
        title = f"{kind} {number}: {type_name}, {name}, {node.state or 'no state'}"
        if node.message.name:
            # The id is what the rest of the report names it by.
            type_name = f"{shortened(type_name, room - 8 * len(str(number)) - 8, 11)} {number}"
        lines = [type_name, name, state]
    sizes = (11, 13, 9.5)
    return Box(
        kind,
        number,
        place.x,
        place.y,
        shape.box_width,
        height,
        tuple(shortened(line, room, size) for line, size in zip(lines, sizes, strict=False)),
        above,
        below,
        shown_text(title),
        is_subject,
    )


def _arrow(start: _Place, end: _Place, shape: Shape, height: int, titles: Sequence[str]) -> Arrow:
    start_x, start_y = start.x + shape.box_width, start.y + height / 2
    end_x, end_y = end.x, end.y + height / 2
    bend = (end_x - start_x) / 2
    return Arrow(
        f"M{start_x:g},{start_y:g} C{start_x + bend:g},{start_y:g} "
        f"{end_x - bend:g},{end_y:g} {end_x - 3:g},{end_y:g}",
        (end_x, end_y),
        ", ".join(titles),
    )


def _stub(place: _Place, start: float, length: float, height: int) -> Arrow:
    """The end of a line that is not drawn."""
    x, y = place.x + start, place.y + height / 2
    end = place.x if start < 0 else x + length
    return Arrow(f"M{x:g},{y:g} H{end - 3:g}", (end, y), "")
