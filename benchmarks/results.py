"""Show what was measured: a table on the terminal, Markdown and a chart for the README."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import log10

from rich.console import Console
from rich.table import Table

_BAR_WIDTH = 360
_LABEL_WIDTH = 290
_ROW_HEIGHT = 22
_DECADES = 3
"""The chart reaches up to a thousand times as fast, by powers of 10."""


@dataclass(frozen=True)
class Result:
    """One operation: medians as shown, and how many times faster ours is; None without a peer."""

    name: str
    peer: str
    ours: str
    times: float | None


def print_table(title: str, results: Sequence[Result]) -> None:
    """The table, as wide as it needs to be."""
    table = Table(title=title, title_justify="left")
    for column in ("operation", "ml-metadata", "eventstore", "times faster"):
        table.add_column(column, justify="left" if column == "operation" else "right")
    for result in results:
        table.add_row(result.name, result.peer, result.ours, _times(result))
    Console(width=100).print(table)


def markdown(results: Sequence[Result]) -> str:
    """The same as a Markdown table."""
    lines = ["| operation | ml-metadata | eventstore | times faster |", "|---|---|---|---|"]
    lines += [f"| {r.name} | {r.peer} | {r.ours} | {_times(r)} |" for r in results]
    return "\n".join([*lines, ""])


def chart(title: str, results: Sequence[Result]) -> str:
    """Bars by how many times faster than the peer, on a logarithmic scale, as SVG."""
    compared = [result for result in results if result.times is not None]
    height = 60 + _ROW_HEIGHT * len(compared)
    width = _LABEL_WIDTH + _BAR_WIDTH + 60
    middle = _LABEL_WIDTH + _BAR_WIDTH * 0.25
    unit = _BAR_WIDTH * 0.75 / _DECADES
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="8" y="20" font-size="14" font-weight="600">{escape(title)}</text>',
    ]
    for power in range(_DECADES + 1):
        x = middle + power * unit
        parts.append(
            f'<line x1="{x:g}" y1="34" x2="{x:g}" y2="{height - 18}" stroke="#d9dee5"/>'
            f'<text x="{x:g}" y="{height - 5}" text-anchor="middle" fill="#5b6675">'
            f"{10**power}x</text>"
        )
    for row, result in enumerate(compared):
        assert result.times is not None
        length = max(-1.0, min(float(_DECADES), log10(result.times))) * unit
        y = 38 + row * _ROW_HEIGHT
        colour = "#0b5fa5" if result.times >= 1 else "#a61b1b"
        parts.append(
            f'<text x="{_LABEL_WIDTH - 8}" y="{y + 13}" text-anchor="end">{escape(result.name)}'
            f'</text><rect x="{middle + min(0.0, length):g}" y="{y + 2}" width="{abs(length):g}" '
            f'height="{_ROW_HEIGHT - 7}" fill="{colour}"/>'
            f'<text x="{middle + max(0.0, length) + 5:g}" y="{y + 13}" fill="#1c2430">'
            f"{_times(result)}</text>"
        )
    return "\n".join([*parts, "</svg>", ""])


def _times(result: Result) -> str:
    return "" if result.times is None else f"{result.times:.1f}"
