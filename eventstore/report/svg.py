"""A drawing as SVG, in the colours of whatever page it is shown on, and with no style of its own.

The colours are the text's, so that it can be read on a light page, on a dark one, and in print.
"""

from __future__ import annotations

from html import escape
from typing import Final

from eventstore.report.drawing import PADDING, Arrow, Band, Box

_ACCENT: Final = "#2b7bc0"
_FONT: Final = 'font-family="system-ui, sans-serif" fill="currentColor"'
_RADIUS: Final = {"artifact": 16, "execution": 3, "fold": 10}


def band_svg(band: Band, label: str) -> str:
    """One band as an SVG element that is as wide as its place, but never enlarged."""
    size = f"0 0 {band.width:g} {band.height:g}"
    return "".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(label)}" '
            f'width="{band.width:g}" height="{band.height:g}" viewBox="{size}" '
            'style="display:block;max-width:100%;height:auto">',
            *map(_arrow, band.arrows),
            *map(_box, band.boxes),
            "</svg>",
        )
    )


def _arrow(arrow: Arrow) -> str:
    x, y = arrow.head
    title = f"<title>{escape(arrow.title)}</title>" if arrow.title else ""
    return (
        f'<g>{title}<path class="arrow" d="{arrow.path}" fill="none" stroke="currentColor" '
        'stroke-opacity=".55" stroke-width="1.2"/>'
        f'<path d="M{x - 7:g},{y - 4:g} L{x:g},{y:g} L{x - 7:g},{y + 4:g} z" fill="currentColor" '
        'fill-opacity=".55"/></g>'
    )


def _box(box: Box) -> str:
    stroke = (
        f'stroke="{_ACCENT}" stroke-width="2.5"'
        if box.is_subject
        else 'stroke="currentColor" stroke-opacity=".5"'
    )
    dashes = ' stroke-dasharray="5 4"' if box.kind == "fold" else ""
    filled = ".06" if box.kind == "execution" else "0"
    parts = [
        f'<g class="{box.kind}" transform="translate({box.x:g},{box.y:g})">',
        f"<title>{escape(box.title)}</title>",
        f'<rect class="box" width="{box.width}" height="{box.height}" rx="{_RADIUS[box.kind]}" '
        f'fill="currentColor" fill-opacity="{filled}" {stroke}{dashes}/>',
    ]
    looks: tuple[tuple[int, float, str], ...]
    if box.kind == "fold":
        looks = ((20, 12, ""), (36, 11, ' fill-opacity=".75"'))
    else:
        looks = ((18, 11, ' fill-opacity=".75"'), (35, 13, ""), (52, 9.5, ""))
    for line, (y, size, look) in zip(box.lines, looks, strict=False):
        if line:
            parts.append(
                f'<text x="{PADDING}" y="{y}" font-size="{size}" {_FONT}{look}>'
                f"{escape(line)}</text>"
            )
    for line, y in ((box.above, -5), (box.below, box.height + 12)):
        if line:
            weight = ' font-weight="bold"' if line == "origin" else ' fill-opacity=".8"'
            parts.append(
                f'<text x="4" y="{y}" font-size="11" {_FONT}{weight}>{escape(line)}</text>'
            )
    return "".join((*parts, "</g>"))
