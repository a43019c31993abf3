"""How one value became another: long texts by their words, structs by their paths."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Any, Final

import msgspec

from eventstore.plain_values import is_same

_CHARACTERS_MIN: Final = 60
"""Shorter texts are told whole."""

_WORDS_MAX: Final = 1_000
"""Finding what longer ones have in common could take seconds."""

_ALIKE_MIN: Final = 0.3
_AROUND: Final = 40
_WORD: Final = re.compile(r"\s+|\w+|[^\w\s]")


class Piece(msgspec.Struct, frozen=True):
    """A part of a text that was `gone`, `added`, or stayed the `same`."""

    mark: str
    text: str


def pieces_of(before: Any, after: Any) -> list[Piece] | None:
    """What went and what came in a long text, word by word, in order.

    Of what stayed only what is around is told. None where the values are better told whole: they
    are no texts, short, too long to compare, or have little in common.
    """
    if not (isinstance(before, str) and isinstance(after, str)):
        return None
    if min(len(before), len(after)) < _CHARACTERS_MIN:
        return None
    words = [_WORD.findall(text) for text in (before, after)]
    if max(map(len, words)) > _WORDS_MAX:
        return None
    matcher = SequenceMatcher(None, words[0], words[1], autojunk=False)
    if matcher.ratio() < _ALIKE_MIN:
        return None
    pieces = []
    for tag, start, end, start_after, end_after in matcher.get_opcodes():
        gone, added = ("".join(words[0][start:end]), "".join(words[1][start_after:end_after]))
        if tag == "equal":
            is_first, is_last = start == 0, end == len(words[0])
            pieces.append(Piece("same", _cut(gone, is_first=is_first, is_last=is_last)))
        else:
            pieces += [
                Piece(mark, text) for mark, text in (("gone", gone), ("added", added)) if text
            ]
    return pieces


def paths_of(field: str, before: Any, after: Any) -> list[tuple[str, Any, Any]]:
    """A changed field: its name and values, or of a struct those of each path that differs."""
    if not (before and after and isinstance(before, dict) and isinstance(after, dict)):
        return [(field, before, after)]
    then, now = dict(_leaves(field, before)), dict(_leaves(field, after))
    if None in (*then.values(), *now.values()):
        # A null could not be told from a path that is not there.
        return [(field, before, after)]
    return [
        (path, then.get(path), now.get(path))
        for path in {**then, **now}
        if not is_same(then.get(path), now.get(path))
    ]


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The values of a struct that are none themselves, by their paths; a stack, for any depth."""
    pending = [(path, value)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, dict) and value:
            pending += [(f"{path}.{name}", held) for name, held in reversed(value.items())]
        elif isinstance(value, list) and value:
            pending += [(f"{path}[{place}]", value[place]) for place in reversed(range(len(value)))]
        else:
            yield path, value


def _cut(text: str, *, is_first: bool, is_last: bool) -> str:
    before, after = ("" if is_first else text[:_AROUND]), ("" if is_last else text[-_AROUND:])
    return text if len(text) <= 2 * _AROUND else f"{before} … {after}"
