"""Show what questions take: tables, and a drawing of how it grows."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log10

import msgspec
from rich.table import Table

_COLOURS = ("#0b5fa5", "#146c43", "#8a5a00", "#a61b1b")


class Answer(msgspec.Struct, frozen=True):
    """What one question took of one engine: seconds, and the most memory of its processes.

    `rows_sha256` is of the answer's rows, by which engines are compared.
    """

    engine: str
    records: int
    what: str
    seconds: float
    mebibytes: float
    rows_sha256: str

    @property
    def nanoseconds(self) -> float:
        """What it cost for each record."""
        return self.seconds / self.records * 1e9


def table(answers: Sequence[Answer]) -> Table:
    """By question what each engine took: seconds by size of the store, most memory, ns a record."""
    shown = Table(title="What each question takes", title_justify="left")
    header, rows = _rows(answers)
    for name in header:
        shown.add_column(name, justify="left" if name == header[0] else "right")
    for row in rows:
        shown.add_row(*row)
    return shown


def markdown(answers: Sequence[Answer]) -> str:
    """The same as a Markdown table."""
    header, rows = _rows(answers)
    ruler = ["---"] + ["--:"] * (len(header) - 1)
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, ruler, *rows))


def _rows(answers: Sequence[Answer]) -> tuple[list[str], list[list[str]]]:
    header, rows = ["question"], {answer.what: [answer.what] for answer in answers}
    for engine in sorted({answer.engine for answer in answers}):
        some = [answer for answer in answers if answer.engine == engine]
        sizes = sorted({answer.records for answer in some})
        header += [f"{engine}, {_millions(size)}: s" for size in sizes]
        header += ["MiB at most", f"ns a record of {_millions(sizes[-1])}"]
        for what, row in rows.items():
            found = {answer.records: answer for answer in some if answer.what == what}
            row += [f"{found[size].seconds:.3g}" if size in found else "" for size in sizes]
            most = max((answer.mebibytes for answer in found.values()), default=None)
            last = found.get(sizes[-1])
            row.append("" if most is None else f"{most:,.0f}")
            row.append("" if last is None else f"{last.nanoseconds:,.0f}")
    return header, [*rows.values()]


def _millions(records: int) -> str:
    return f"{records / 1e6:g} M"


def chart(answers: Sequence[Answer]) -> str:
    """What a question costs by the number of records, as SVG: a thin line each, their sum thick."""
    width, height, left, right, top, bottom = 640, 340, 60, 150, 50, 300
    engines = sorted({answer.engine for answer in answers})
    sizes = sorted({answer.records for answer in answers})
    whats = [*dict.fromkeys(answer.what for answer in answers)]
    costs = {(one.engine, one.what, one.records): one.nanoseconds for one in answers}
    for engine in engines:
        for size in sizes:
            some = [costs[engine, what, size] for what in whats if (engine, what, size) in costs]
            if len(some) == len(whats):
                costs[engine, "", size] = sum(some)
    lowest, highest = (f(log10(g(costs.values()))) for f, g in ((floor, min), (ceil, max)))
    across = (width - left - right) / max(log10(sizes[-1] / sizes[0]), 1e-9)
    up = (bottom - top) / max(highest - lowest, 1)

    def point(size: int, cost: float) -> str:
        x = left + log10(size / sizes[0]) * across
        return f"{x:.1f},{bottom - (log10(cost) - lowest) * up:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        '<text x="8" y="20" font-size="14" font-weight="600">Nanoseconds a record, for each of '
        "ten questions and for all of them</text>",
    ]
    for power in range(lowest, highest + 1):
        y = bottom - (power - lowest) * up
        parts.append(
            f'<line x1="{left}" y1="{y:g}" x2="{width - right}" y2="{y:g}" stroke="#d9dee5"/>'
            f'<text x="{left - 8}" y="{y + 4:g}" text-anchor="end" fill="#5b6675">'
            f"{10**power:,}</text>"
        )
    for size in sizes:
        x = left + log10(size / sizes[0]) * across
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle" fill="#5b6675">'
            f"{_millions(size)} records</text>"
        )
    for colour, engine in zip(_COLOURS, engines, strict=False):
        for what in (*whats, ""):
            points = [
                point(size, costs[engine, what, size])
                for size in sizes
                if (engine, what, size) in costs
            ]
            stroke = 'stroke-width="1" opacity="0.35"' if what else 'stroke-width="3"'
            parts.append(
                f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" {stroke}>'
                f"<title>{escape(engine)}: {escape(what) or 'all ten'}</title></polyline>"
            )
            if not what and points:
                x, y = map(float, points[-1].split(","))
                parts.append(
                    f'<text x="{x + 8:g}" y="{y + 4:g}" fill="{colour}">{escape(engine)}, all'
                    "</text>"
                )
    return "\n".join([*parts, "</svg>", ""])
