"""The operators of a flat expression, in the order in which they apply.

What is in parentheses, in a list or in a CASE is an operand by the time that its surroundings are
parsed, so an expression is a row of operands and operators: no depth of nesting costs a stack.
sqlglot finds how the operators bind; what it lets pass and GoogleSQL refuses is refused here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from eventstore.projections.filter.tokens import refused

COMPARISON, BETWEEN = "=", "BETWEEN"
"""Comparisons of all sorts bind alike, so they stand as one."""

_SHAPE_BYTES_MAX: Final = 1_000


class Step(NamedTuple):
    """Apply an operator to the topmost values of a stack, or push an operand (operator None).

    `operand` is the number of the one to push, or of the first one after the operator.
    """

    operator: str | None
    operand: int


_OPERATORS: Final[dict[type, tuple[str, int]]] = {
    exp.EQ: (COMPARISON, 2),
    exp.Between: (BETWEEN, 2),
    exp.BitwiseOr: ("|", 3),
    exp.BitwiseAnd: ("&", 3),
    exp.BitwiseLeftShift: ("<<", 3),
    exp.BitwiseRightShift: (">>", 3),
    exp.Add: ("+", 4),
    exp.Sub: ("-", 4),
    exp.Mul: ("*", 5),
    exp.Div: ("/", 5),
}
"""What they are written as, and how tightly they bind."""
_WORDS: Final = {kind: word for kind, (word, _) in _OPERATORS.items()}
_LEVELS: Final = {kind: level for kind, (_, level) in _OPERATORS.items()} | {exp.Column: 6}
_BITWISE: Final = {"|": 0, "&": 1, "<<": 2, ">>": 2}
"""How tightly GoogleSQL binds them; sqlglot reads them from left to right."""


def steps_of(shape: str) -> Sequence[Step]:
    """What computes a row such as `o0 + o1 = o2`, without AND, OR and NOT, on a stack."""
    return _cached_steps(shape) if len(shape) <= _SHAPE_BYTES_MAX else _steps(shape)


def _steps(shape: str) -> Sequence[Step]:
    try:
        parsed = sqlglot.parse_one(f"SELECT {shape}", read="bigquery")
        (root,) = parsed.expressions
        return tuple(_postfix(root))
    except (SqlglotError, RecursionError, ValueError, KeyError) as error:
        # The row has operands and operators in turn, so this is one that cannot follow another.
        raise refused("Syntax error: an operator after which it cannot stand") from error


_cached_steps = lru_cache(maxsize=2048)(_steps)


def _postfix(root: exp.Expression) -> Iterator[Step]:
    """The steps of a tree, on a stack of its own: a long row leans far to the left."""
    pending: list[exp.Expression | Step] = [root]
    while pending:
        node = pending.pop()
        if isinstance(node, Step):
            yield node
            continue
        if isinstance(node, exp.Column):
            yield Step(None, _first_operand(node))
            continue
        word = _WORDS[type(node)]
        if word in _BITWISE:
            pending += reversed(_bitwise(node))
            continue
        parts = _parts(node)
        _check_levels(node, parts)
        pending.append(Step(word, _first_operand(parts[1])))
        pending += reversed(parts)


def _parts(node: exp.Expression) -> list[exp.Expression]:
    names = ("this", "low", "high") if isinstance(node, exp.Between) else ("this", "expression")
    return [node.args[name] for name in names]


def _check_levels(node: exp.Expression, parts: Sequence[exp.Expression]) -> None:
    level = _LEVELS[type(node)]
    for number, part in enumerate(parts):
        is_chain = number == 0 and level != _LEVELS[exp.EQ]
        if _LEVELS[type(part)] < level + (not is_chain):
            raise refused(
                f"Syntax error: {_WORDS[type(part)]} cannot stand there, put it in parentheses"
            )


def _bitwise(root: exp.Expression) -> list[exp.Expression | Step]:
    """The steps of a row of bitwise operators, in GoogleSQL's order."""
    row: list[exp.Expression] = []
    operators: list[str] = []
    node = root
    while _WORDS.get(type(node)) in _BITWISE:
        left, right = _parts(node)
        if _LEVELS[type(right)] <= _LEVELS[exp.BitwiseOr]:
            raise refused("Syntax error: put what is after a bitwise operator in parentheses")
        row.append(right)
        operators.append(_WORDS[type(node)])
        node = left
    if _LEVELS[type(node)] <= _LEVELS[exp.BitwiseOr]:
        raise refused("Syntax error: put what is before a bitwise operator in parentheses")
    steps: list[exp.Expression | Step] = [node]
    waiting: list[Step] = []
    for operator, right in zip(reversed(operators), reversed(row), strict=True):
        while waiting and _BITWISE[str(waiting[-1].operator)] >= _BITWISE[operator]:
            steps.append(waiting.pop())
        waiting.append(Step(operator, _first_operand(right)))
        steps.append(right)
    return [*steps, *reversed(waiting)]


def _first_operand(node: exp.Expression) -> int:
    while not isinstance(node, exp.Column):
        node = node.this
    return int(node.name.removeprefix("o"))
