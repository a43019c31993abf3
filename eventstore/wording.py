"""Pieces of sentences: numbers with their nouns, articles, and what a misspelt name may mean."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_EXCERPT_MAX: Final = 100


def plural(number: int, noun: str) -> str:
    """`finding` for one, else `findings`."""
    return noun if number == 1 else f"{noun}s"


def counted(number: int, noun: str) -> str:
    """`1 finding`, `2 findings`."""
    return f"{number} {plural(number, noun)}"


def are(number: int) -> str:
    """`is` for one, else `are`."""
    return "is" if number == 1 else "are"


def with_article(noun: str) -> str:
    """`a context`, `an artifact`."""
    return f"{'an' if noun[:1].lower() in 'aeio' else 'a'} {noun}"


def duration(seconds: int) -> str:
    """`90 days`, `1 day 12 hours`."""
    words = []
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        count, seconds = divmod(seconds, length)
        if count:
            words.append(counted(count, unit))
    return " ".join(words) or "0 seconds"


def excerpt(text: str, most: int = _EXCERPT_MAX) -> str:
    """A text for a message; of a long one, its beginning and how long it is."""
    if len(text) <= most:
        return text
    return f"{text[:most]}... ({len(text):,} characters)"


def quoted(text: str) -> str:
    """The same in quotes, with what a text cannot show escaped."""
    if len(text) <= _EXCERPT_MAX:
        return repr(text)
    return f"{text[:_EXCERPT_MAX]!r}... ({len(text):,} characters)"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`, did you mean state?` for a name that is nearly a known one, else nothing.

    A name that is part of a known one, or contains one, counts as well.
    """
    # Not at the top: only failures need it.
    import difflib

    by_folded = {each.casefold(): each for each in known}
    folded = name.casefold()
    found = difflib.get_close_matches(folded, by_folded, n=1, cutoff=0.6)
    is_part = (each for each in by_folded if min(len(folded), len(each)) > 3)
    found = found or [each for each in is_part if folded in each or each in folded][:1]
    return f", did you mean {by_folded[found[0]]}?" if found else ""
