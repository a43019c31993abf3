"""Filters without the CASTs that SQLite computes otherwise: what ml-metadata is asked instead.

To SQLite, STRING and BOOL are names that it does not know, so it makes numbers of what is cast to
them. The same value can be had in other ways, in which both agree.
"""

from __future__ import annotations

import re
from typing import Final

from eventstore import errors
from eventstore.projections.filter import compile_filter, lexing

_TARGET: Final = re.compile(r"\s*\bas\s+`?(string|bool|boolean)`?\s*$", re.IGNORECASE)
_LITERAL: Final = re.compile(
    r"\s*([-+]?\s*[\d.][\w.]*|null|true|false|r?'[^']*'|r?\"[^\"]*\")\s*", re.IGNORECASE
)
_TYPES: Final = {
    "string": "IFNULL({}, 'a') = 'a'",
    "int": "(({}) | 1) = 1",
    "float": "IFNULL({}, 1.5) = 1.5",
    "bool": "IFNULL({}, TRUE)",
}
_INSTEAD: Final = {
    ("int", "string"): "(CASE WHEN ({0}) IS NOT NULL THEN FORMAT('%d', {0}) END)",
    ("bool", "string"): "(CASE WHEN ({0}) THEN '1' WHEN NOT ({0}) THEN '0' END)",
    ("string", "string"): "({})",
    ("int", "bool"): "(({}) != 0)",
    ("string", "bool"): "(CAST({} AS FLOAT64) != 0)",
    ("bool", "bool"): "({})",
}


def without_casts(kind: str, text: str) -> str | None:
    """The same filter; None where there is a CAST for which there is no other way."""
    while (found := _innermost(kind, text)) is not None:
        start, end, instead = found
        if instead is None:
            return None
        text = f"{text[:start]}{instead}{text[end:]}"
    return text


def _innermost(kind: str, text: str) -> tuple[int, int, str | None] | None:
    """Where the first CAST ends that is to be replaced, and by what."""
    opened: list[tuple[int, int, bool]] = []
    word, word_start = "", 0
    for match in lexing._TOKEN.finditer(text):
        if match.lastgroup in ("blank", "comment"):
            continue
        token = match.group()
        if token == "(":
            opened.append((word_start, match.end(), word.upper() == "CAST"))
        elif token == ")" and opened:
            start, inner, is_cast = opened.pop()
            target = _TARGET.search(text, inner, match.start()) if is_cast else None
            if target is not None:
                value = text[inner : target.start()]
                # Of a literal, GoogleSQL makes one before SQLite sees it.
                if not _LITERAL.fullmatch(value):
                    return start, match.end(), _instead(kind, value, target.group(1))
        word, word_start = token, match.start()
    return None


def _instead(kind: str, value: str, target: str) -> str | None:
    target = "bool" if target.lower() == "boolean" else target.lower()
    for value_type, condition in _TYPES.items():
        try:
            compile_filter(condition.format(value), kind)
        except errors.InvalidArgumentError:
            continue
        form = _INSTEAD.get((value_type, target))
        return None if form is None else form.format(value)
    return None
