"""The same conditions in Python, for a handful of nodes: a query of DuckDB's costs more.

Values are None for NULL, and logic is three-valued as in SQL. What is not here is left to SQL.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, Protocol


class Neighbour(Protocol):
    """A context or event that a condition on a node names."""

    def column(self, name: str) -> Any:
        """The value of a column of the tables, None for NULL."""

    def type_name(self) -> str:
        """The name of its type."""


class Candidate(Neighbour, Protocol):
    """A node that a condition is evaluated on."""

    def neighbour(self) -> Neighbour:
        """The neighbour that is looked at."""

    def property(self, is_custom: bool, name: str, member: str, /) -> Any:
        """The value of a property that it has, None when its value is of another type."""


Parameters = dict[str, Any]
Evaluate = Callable[[Candidate, Parameters], Any]

_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ASCII_LOWER: Final = str.maketrans(_UPPER, _UPPER.lower())


def constant(value: Any) -> Evaluate:
    return lambda _, __: value


def parameter(name: str) -> Evaluate:
    return lambda _, parameters: parameters[name]


def column(name: str) -> Evaluate:
    return lambda node, _: node.column(name)


def type_name() -> Evaluate:
    return lambda node, _: node.type_name()


def neighbour_column(name: str) -> Evaluate:
    return lambda node, _: node.neighbour().column(name)


def neighbour_type_name() -> Evaluate:
    return lambda node, _: node.neighbour().type_name()


def property_member(is_custom: bool, name: str, member: str) -> Evaluate:
    return lambda node, _: node.property(is_custom, name, member)


def comparison(word: str, left: Evaluate | None, right: Evaluate | None) -> Evaluate | None:
    if left is None or right is None:
        return None
    compare = _OPERATORS[word]
    first_of, second_of = left, right

    def evaluate(node: Candidate, parameters: Parameters) -> bool | None:
        first, second = first_of(node, parameters), second_of(node, parameters)
        return None if first is None or second is None else compare(*_alike(first, second))

    return evaluate


def is_null(subject: Evaluate | None) -> Evaluate | None:
    if subject is None:
        return None
    return lambda node, parameters: subject(node, parameters) is None


def is_truth(subject: Evaluate | None, value: bool) -> Evaluate | None:
    if subject is None:
        return None
    return lambda node, parameters: subject(node, parameters) is value


def negation(operand: Evaluate | None) -> Evaluate | None:
    if operand is None:
        return None

    def evaluate(node: Candidate, parameters: Parameters) -> bool | None:
        value = operand(node, parameters)
        return None if value is None else not value

    return evaluate


def junction(word: str, operands: Sequence[Evaluate | None]) -> Evaluate | None:
    """AND or OR of three-valued operands."""
    known = [operand for operand in operands if operand is not None]
    if len(known) < len(operands):
        return None
    if len(known) == 1:
        return known[0]
    decides = word == "OR"

    def evaluate(node: Candidate, parameters: Parameters) -> bool | None:
        result: bool | None = not decides
        for operand in known:
            value: bool | None = operand(node, parameters)
            if value is decides:
                return decides
            if value is None:
                result = None
        return result

    return evaluate


def long_membership(left: Evaluate | None, name: str) -> Evaluate | None:
    """Whether a value is in the list of literals, none of them NULL, that a parameter holds."""
    if left is None:
        return None

    def evaluate(node: Candidate, parameters: Parameters) -> bool | None:
        value, members = left(node, parameters), parameters[name]
        if value is None:
            return None
        if isinstance(members[0], float):
            value = float(value)
        return value in members

    return evaluate


def like(left: Evaluate | None, right: Evaluate | None) -> Evaluate | None:
    """LIKE without regard to the case of ASCII letters, as on SQLite."""
    if left is None or right is None:
        return None

    def evaluate(node: Candidate, parameters: Parameters) -> bool | None:
        text, pattern = left(node, parameters), right(node, parameters)
        if text is None or pattern is None:
            return None
        return _like_pattern(pattern).fullmatch(text.translate(_ASCII_LOWER)) is not None

    return evaluate


@lru_cache(maxsize=256)
def _like_pattern(pattern: str) -> re.Pattern[str]:
    """A regular expression that takes no more than length times length, whatever the pattern."""
    first, *rest = [
        "".join("." if character == "_" else re.escape(character) for character in part)
        for part in re.split("%+", pattern.translate(_ASCII_LOWER))
    ]
    if not rest:
        return re.compile(first, re.DOTALL)
    *middle, last = rest
    # The first place where a part is found will do: what follows only has more room.
    found = "".join(f"(?>.*?{part})" for part in middle)
    return re.compile(f"{first}{found}.*{last}", re.DOTALL)


def _alike(first: Any, second: Any) -> tuple[Any, Any]:
    """Both as doubles when one is, as SQL compares them; what is not a number is the greatest."""
    if type(first) is not type(second):
        first, second = float(first), float(second)
    if first != first or second != second:
        return first != first, second != second
    return first, second
