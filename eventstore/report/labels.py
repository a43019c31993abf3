"""Text that fits into a box of a drawing, in whichever font a reader's machine has."""

from __future__ import annotations

import unicodedata
from typing import Final

from eventstore.shown_text import shown_text

_NARROW: Final = frozenset("iIjlt.,:;|!'()[]/\\ fr-")
_WIDE: Final = frozenset("mwW@%&\u2026\u2014")
_CAPITALS: Final = {**dict.fromkeys("DGHNOQU", 0.8), "M": 0.9, "_": 0.52}


def width_of(text: str, size: float) -> float:
    """How wide a text is at most, in pixels, at a size of its letters."""
    return sum(map(_width, text)) * size


def shortened(text: str, width: float, size: float) -> str:
    """The text on one line, shown as it is; its middle left out for `…` where it is too wide.

    Names differ at their ends: in a date, a number, a version.
    """
    line = " ".join(shown_text(text[:1_000]).split())
    if len(text) <= 1_000 and width_of(line, size) <= width:
        return line
    if len(text) > 1_000:
        line = line[:500] + " ".join(shown_text(text[-500:]).split())
    room = width - width_of("\u2026", size)
    head, tail = "", ""
    first, last = 0, len(line) - 1
    while first <= last:
        at_start = len(head) <= len(tail) + 2
        character = line[first] if at_start else line[last]
        room -= width_of(character, size)
        if room < 0:
            break
        if at_start:
            head, first = head + character, first + 1
        else:
            tail, last = character + tail, last - 1
    # A mark that belongs to the letter before it must not begin the tail.
    while tail and unicodedata.combining(tail[0]):
        tail = tail[1:]
    return f"{head.rstrip()}\u2026{tail.lstrip()}"


def _width(character: str) -> float:
    if character in _NARROW:
        return 0.46
    if character in _WIDE:
        return 1.05
    if character < "\x7f":
        return _CAPITALS.get(character, 0.7 if character.isupper() else 0.65)
    if unicodedata.combining(character) or character in "\u200d\ufe0f":
        return 0.0
    if unicodedata.east_asian_width(character) in ("W", "F"):
        return 1.4 if character >= "\U0001f000" else 1.05
    return 0.9
