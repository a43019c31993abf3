"""Pieces of HTML that fit into a notebook, light or dark: styles are on the elements alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from typing import Any, Final

from eventstore.plain_json import json_text, moment_text
from eventstore.shown_text import shown_text

ROWS_MAX: Final = 20
CELL_CHARACTERS_MAX: Final = 120
VALUE_CHARACTERS_MAX: Final = 2_000
_WORD_CHARACTERS_MAX: Final = 50

_LINE: Final = "border-bottom:1px solid rgba(128,128,128,.35)"
_CELL: Final = (
    f"text-align:left;vertical-align:top;padding:.25em .7em .25em 0;{_LINE};"
    "overflow-wrap:break-word;white-space:break-spaces;background:none;max-width:40em"
)
_SOFT: Final = "opacity:.75"


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def text_of(value: Any, characters_max: int | None = None) -> Html:
    """A value as it is shown: texts as they were put, moments in ISO 8601, all else as JSON."""
    if isinstance(value, Html):
        return value
    if value is None:
        return Html("")
    if isinstance(value, datetime):
        return unbroken(moment_text(value))
    text = value if isinstance(value, str) else json_text(value)
    more = 0 if characters_max is None else len(text) - characters_max
    shown = escape(shown_text(text[:characters_max] if more > 0 else text))
    if len(max(shown.split(), key=len, default="")) > _WORD_CHARACTERS_MAX:
        # Only here: elsewhere it would let a table break the words of other cells, too.
        shown = f'<span style="overflow-wrap:anywhere">{shown}</span>'
    if more > 0:
        shown += soft(f"\u2026 ({more:,} more character{'s' if more > 1 else ''})")
    return Html(shown)


def unbroken(text: str) -> Html:
    return Html(f'<span style="white-space:nowrap">{escape(shown_text(text))}</span>')


def soft(text: str) -> Html:
    return Html(f'<span style="{_SOFT}">{text_of(text)}</span>')


def bold(text: Any) -> Html:
    shown = text_of(text, VALUE_CHARACTERS_MAX)
    return Html(f'<strong style="white-space:break-spaces">{shown}</strong>')


def joined(parts: Iterable[Any], separator: str = " ") -> Html:
    return Html(separator.join(text_of(part) for part in parts))


def heading(*parts: Any) -> Html:
    return Html(
        '<div style="margin:.2em 0 .4em;overflow-wrap:break-word;unicode-bidi:isolate">'
        f"{joined(parts)}</div>"
    )


def block(*parts: str) -> Html:
    return Html(f'<div style="max-width:100%">{"".join(parts)}</div>')


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], total: int, things: str = "rows"
) -> Html:
    """The first rows under their columns, and how many there are in all."""
    head = "".join(f'<th style="{_CELL}">{text_of(name, 60)}</th>' for name in columns)
    body = "".join(
        f'<tr style="background:none">{"".join(_cell(value) for value in row)}</tr>' for row in rows
    )
    things = things[:-1] if total == 1 else things
    said = f"{total:,} {things}" if total <= ROWS_MAX else f"{ROWS_MAX} of {total:,} {things}"
    return Html(
        '<div style="overflow-x:auto;max-width:100%"><table style="border-collapse:collapse">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        f'<div style="{_SOFT};margin-top:.3em">{said}</div>'
    )


def fields(rows: Iterable[tuple[Any, Any]]) -> Html:
    """Names, and what they stand for."""
    body = "".join(
        f'<tr style="background:none"><th style="{_CELL};font-weight:normal;{_SOFT}">'
        f"{text_of(name, 200)}</th>"
        f'<td style="{_CELL}">{text_of(value, VALUE_CHARACTERS_MAX)}</td></tr>'
        for name, value in rows
    )
    return Html(
        '<div style="overflow-x:auto;max-width:100%"><table style="border-collapse:collapse">'
        f"<tbody>{body}</tbody></table></div>"
    )


def change(before: Any, after: Any) -> Html:
    """A value that became another; None where it was absent."""
    parts = []
    if before is not None:
        parts.append(f"<del>{text_of(before, CELL_CHARACTERS_MAX)}</del>")
    if after is not None:
        parts.append(f"{text_of(after, CELL_CHARACTERS_MAX)}")
    return Html(" \u2192 ".join(parts))


def _cell(value: Any) -> str:
    return f'<td style="{_CELL}">{text_of(value, CELL_CHARACTERS_MAX)}</td>'
