"""CAST: of literals in Python as GoogleSQL has it, of all else in SQL as SQLite has it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Final

from eventstore.projections.filter.schema import BOOL, FLOAT64, INT64, STRING, UINT64
from eventstore.projections.filter.tokens import INT64_END, refused

TYPES: Final = {
    "STRING": STRING,
    "INT64": INT64,
    "INT32": INT64,
    "UINT32": INT64,
    "UINT64": UINT64,
    "FLOAT64": FLOAT64,
    "DOUBLE": FLOAT64,
    "FLOAT": FLOAT64,
    "BOOL": BOOL,
    "BOOLEAN": BOOL,
}
"""GoogleSQL's types by their names; the database has no smaller numbers."""

_SPACE: Final = r"[ \t\n\v\f\r]*"
_INTEGER: Final = r"[+-]?[0-9]+"
_NUMBER: Final = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_WHOLE_INTEGER: Final = re.compile(rf"{_SPACE}([+-]?)(?:0[xX]([0-9a-fA-F]+)|([0-9]+)){_SPACE}")
_INTEGER_AT_START: Final = re.compile(f"{_SPACE}({_INTEGER})")
_NUMBER_AT_START: Final = re.compile(f"{_SPACE}({_NUMBER})")
_LONGEST_INTEGER: Final = 4_000
"""Digits that Python turns into a number."""


def _to_int(value: Any) -> int:
    if isinstance(value, str):
        return _text_to_int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise refused(f"Could not cast literal {value} to type INT64")
        rounded = math.floor(abs(value) + 0.5) if abs(value) < 2**52 else abs(value)
        value = int(math.copysign(rounded, value))
    number = int(value)
    if not -INT64_END <= number < INT64_END:
        raise refused(f"Could not cast literal {number} to type INT64")
    return number


def _text_to_int(text: str) -> int:
    whole = _WHOLE_INTEGER.fullmatch(text[:_LONGEST_INTEGER])
    if whole is not None and whole.group(2):
        number = int(whole.group(2), 16) * (-1 if whole.group(1) == "-" else 1)
        if -INT64_END <= number < INT64_END:
            return number
    found = _INTEGER_AT_START.match(text[:_LONGEST_INTEGER])
    number = 0 if found is None else int(found.group(1))
    return max(-INT64_END, min(number, INT64_END - 1))


def _to_uint(value: Any) -> int:
    number = _to_int(value)
    if number < 0:
        raise refused(f"Could not cast literal {number} to type UINT64")
    return number


def _to_float(value: Any) -> float:
    if not isinstance(value, str):
        return float(value)
    found = _NUMBER_AT_START.match(value)
    return 0.0 if found is None else float(found.group(1))


def _to_bool(value: Any) -> bool:
    if not isinstance(value, str):
        return bool(value)
    truth = {"true": True, "false": False}.get(value.lower())
    return _to_float(value) != 0 if truth is None else truth


def _to_string(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        short = f"{value:.15g}"
        return short if float(short) == value else f"{value:.17g}"
    return str(value)


LITERAL_CASTS: Final[dict[str, Callable[[Any], Any]]] = {
    INT64: _to_int,
    UINT64: _to_uint,
    FLOAT64: _to_float,
    BOOL: _to_bool,
    STRING: _to_string,
}


def _text_to_number(pattern: str, kind: str) -> Callable[[str], str]:
    """The number that a text begins with, 0 without one; NULL stays NULL."""
    start = pattern.replace("(?:", "(")

    def written(text: str) -> str:
        digits = f"regexp_extract({text}, '^{_SPACE}({start})', 1)"
        # Digits without end are the largest number: as a double first, which takes all of them.
        number = (
            f"coalesce(try_cast({digits} AS BIGINT), {_clamped(f'try_cast({digits} AS DOUBLE)')})"
            if kind == "BIGINT"
            else f"try_cast({digits} AS DOUBLE)"
        )
        return f"(CASE WHEN {text} IS NULL THEN NULL ELSE coalesce({number}, 0) END)"

    return written


def _clamped(number: str) -> str:
    """A double without its fraction, at most what 64 bits hold."""
    end = f"{INT64_END}::DOUBLE"
    return (
        f"(CASE WHEN {number} >= {end} THEN {INT64_END - 1} WHEN {number} <= -{end} "
        f"THEN -{INT64_END - 1} - 1 ELSE try_cast(trunc({number}) AS BIGINT) END)"
    )


def _plain(kind: str) -> Callable[[str], str]:
    return lambda sql: f"({sql})::{kind}"


def _is_not_zero(sql: str) -> str:
    return f"({sql} != 0)"


CASTS: Final[dict[tuple[str, str], Callable[[str], str]]] = {
    (STRING, INT64): _text_to_number(_INTEGER, "BIGINT"),
    (STRING, UINT64): _text_to_number(_INTEGER, "BIGINT"),
    (STRING, FLOAT64): _text_to_number(_NUMBER, "DOUBLE"),
    (STRING, BOOL): lambda sql: _is_not_zero(_text_to_number(_NUMBER, "DOUBLE")(sql)),
    (FLOAT64, INT64): _clamped,
    (FLOAT64, UINT64): _clamped,
    (FLOAT64, STRING): _plain("VARCHAR"),
    (INT64, FLOAT64): _plain("DOUBLE"),
    (INT64, UINT64): _plain("HUGEINT"),
    (INT64, BOOL): _is_not_zero,
    (INT64, STRING): _plain("VARCHAR"),
    (UINT64, INT64): lambda sql: f"try_cast({sql} AS BIGINT)",
    (UINT64, FLOAT64): _plain("DOUBLE"),
    (UINT64, BOOL): _is_not_zero,
    (UINT64, STRING): _plain("VARCHAR"),
    (BOOL, INT64): _plain("BIGINT"),
    (BOOL, UINT64): _plain("BIGINT"),
    (BOOL, STRING): lambda sql: f"({sql})::INTEGER::VARCHAR",
}
"""By the types from which and to which."""
