"""How values are written on the page.

Whatever a template writes passes `finalized` before it is escaped, so that no stored text shows
itself without: control and bidirectional characters are spelled out.
"""

from __future__ import annotations

from datetime import datetime
from math import isfinite
from typing import Any, Final

import msgspec
from markupsafe import Markup

from eventstore.page.changed_values import paths_of, pieces_of
from eventstore.plain_json import json_text, moment_text
from eventstore.shown_text import shown_lines, shown_text

LIST_CHARACTERS_MAX: Final = 160
_ADDRESS_CHARACTERS_MAX: Final = 2_000
CHARACTERS_MAX: Final = 4_000

_STATE_MARKS: Final = {
    "FAILED": "\u00d7",
    "RUNNING": "◐",
    "CANCELED": "⊘",
    "CACHED": "↺",
    "MARKED_FOR_DELETION": "⚑",
    "DELETED": "\u00d7",
    "ABANDONED": "\u00d7",
    "PENDING": "◐",
}
_BAD_STATES: Final = frozenset({"FAILED", "MARKED_FOR_DELETION", "ABANDONED", "DELETED"})


class Lines(str):
    """Text that is written with its own line breaks."""

    __slots__ = ()


def finalized(value: Any) -> Any:
    """What is written of a value: texts as they can be seen, and nothing for None."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return ""
    if isinstance(value, Lines):
        return shown_lines(value)
    if isinstance(value, str):
        return shown_text(value)
    return value


def brief(text: str | None, characters_max: int = LIST_CHARACTERS_MAX) -> str:
    """A name, or who or why, where many are shown; what is cut off is on the node's own page."""
    if text is None or len(text) <= characters_max:
        return text or ""
    return f"{text[:characters_max]}…"


def is_addressable(text: str) -> bool:
    """Whether a name can stand in an address: browsers and servers take no longer ones."""
    return len(text) <= _ADDRESS_CHARACTERS_MAX


def grouped(number: int) -> str:
    """A count or a position: `3,859`."""
    return f"{number:,}"


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 version`, `3 versions`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def gained(number: int) -> str:
    """How a count has changed: `+12`, with a minus sign where it fell."""
    sign = "\u2212" if number < 0 else "+"
    return f"{sign}{abs(number):,}"


def minute(moment: datetime) -> str:
    """`2026-11-05 02:41`, in UTC."""
    return f"{moment:%Y-%m-%d %H:%M}"


def second(moment: datetime) -> str:
    """`2026-11-05 02:41:07`, in UTC."""
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def exact(moment: datetime) -> str:
    """As exact as it is stored."""
    return moment_text(moment)


def size(number: int) -> str:
    """Bytes: `300 kB`."""
    amount, unit = float(number), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):  # noqa: B007
        if amount < 1_000:
            break
        amount /= 1_000
    return f"{amount:,.0f} {unit}" if amount >= 10 or unit == "B" else f"{amount:,.1f} {unit}"


def json_of(value: Any) -> str:
    """JSON, for scripts to read from an attribute."""
    return json_text(value)


class ShownValue(msgspec.Struct, frozen=True):
    """A value as it is written: `form` is `none`, `text`, `number` or `json`.

    `more` is how many characters were cut off.
    """

    form: str
    text: str
    more: int = 0


def value_of(value: Any, characters_max: int = CHARACTERS_MAX) -> ShownValue:
    """How a property or field is written. Numbers and ids are as stored, without separators."""
    if value is None:
        return ShownValue("none", "—")
    if isinstance(value, datetime):
        return ShownValue("text", moment_text(value))
    if isinstance(value, str):
        form, text = "text", value
    elif isinstance(value, float) and not isfinite(value):
        form, text = "number", json_text(value).strip('"')
    else:
        text = json_text(value)
        form = "number" if isinstance(value, (int, float)) else "json"
    return ShownValue(form, text[:characters_max], max(0, len(text) - characters_max))


def state_mark(state: str) -> str:
    """A sign before the states that a reader should notice."""
    return _STATE_MARKS.get(state, "")


def is_bad_state(state: str) -> bool:
    return state in _BAD_STATES


FILTERS: Final = {
    "brief": brief,
    "json": json_of,
    "lines": Lines,
    "grouped": grouped,
    "gained": gained,
    "minute": minute,
    "second": second,
    "exact": exact,
    "size": size,
    "value_of": value_of,
    "state_mark": state_mark,
}
GLOBALS: Final = {"counted": counted, "paths_of": paths_of, "pieces_of": pieces_of}
TESTS: Final = {"bad_state": is_bad_state, "addressable": is_addressable}
