"""Operators, by GoogleSQL's types and with SQLite's meaning, which is what MLMD's users know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from eventstore.projections.filter import evaluation, functions
from eventstore.projections.filter.narrowing import look_up_of, narrowest, range_of
from eventstore.projections.filter.schema import (
    BOOL,
    DUCKDB_TYPES,
    FLOAT64,
    INT64,
    NULL,
    NUMERIC,
    STRING,
    UINT64,
    Typed,
)
from eventstore.projections.filter.tokens import INT64_END, refused

if TYPE_CHECKING:
    from eventstore.projections.filter.compiler import Compiler


_SIGNED: Final = {"+": NUMERIC, "-": (INT64, FLOAT64), "~": (INT64,)}
"""What takes a sign."""


def applied(compiler: Compiler, word: str, operands: Sequence[Typed]) -> Typed:
    """An operator on its operands; raises InvalidArgumentError for types that it does not take."""
    if word in ("AND", "OR"):
        return _junction(word, operands)
    if word == "NOT":
        return _negation(operands[0])
    if len(operands) == 1:
        return _signed(word, operands[0])
    if word in ("IS", "IS NOT"):
        return _test(operands[0], operands[1], negated=word == "IS NOT")
    if word.startswith("NOT "):
        if word == "NOT LIKE":
            _refuse_null(word, operands)
        found = applied(compiler, word.removeprefix("NOT "), operands)
        evaluate = evaluation.negation(found.evaluate)
        return replace(found, sql=f"(NOT {found.sql})", evaluate=evaluate, look_up=None)
    if word == "IN":
        left, listed = operands
        if listed.parameter is not None:
            return _long_membership(compiler, left, listed)
        return _membership(left, listed.operands)
    if word == "BETWEEN":
        return _between(*operands)
    if word in ("<<", ">>"):
        return _shift(word, *operands)
    _refuse_null(word, operands)
    if word == "LIKE":
        return _like(*operands)
    if word in ("+", "-", "*"):
        return _arithmetic(word, *operands)
    if word == "/":
        return _division(*operands)
    if word in ("|", "&"):
        return _bitwise(word, *operands)
    return _comparison(word, *operands)


def widened(sql: str) -> str:
    """Arithmetic in 128 bits, NULL where they do not suffice: no row fails for another's value."""
    return f"try({sql})"


def narrowed(operand: Typed) -> str:
    """An integer in 64 bits, the nearest one if it has outgrown them."""
    if operand.column is not None or operand.property is not None or operand.literal is not None:
        return operand.sql
    # DuckDB leaves NULL out of greatest and least.
    number = operand.sql
    return (
        f"(CASE WHEN {number} > {INT64_END - 1} THEN {INT64_END - 1} WHEN {number} < "
        f"{-INT64_END + 1} THEN {-INT64_END + 1} - 1 ELSE {number} END)::BIGINT"
    )


# Logic and comparison


def _junction(word: str, operands: Sequence[Typed]) -> Typed:
    if any(operand.type not in (BOOL, NULL) for operand in operands):
        raise _no_signature(word, operands)
    return Typed(
        f"({f' {word} '.join(operand.sql for operand in operands)})",
        BOOL,
        evaluate=evaluation.junction(word, [operand.evaluate for operand in operands]),
        look_up=narrowest(operands) if word == "AND" else None,
        operands=tuple(operands),
        logic=word,
    )


def _negation(operand: Typed) -> Typed:
    _refuse_null("NOT", [operand])
    if operand.type != BOOL:
        raise _no_signature("NOT", [operand])
    return Typed(
        f"(NOT {operand.sql})",
        BOOL,
        evaluate=evaluation.negation(operand.evaluate),
        operands=(operand,),
        logic="NOT",
    )


def _comparison(word: str, left: Typed, right: Typed) -> Typed:
    _require_comparable(word, [left, right])
    look_up = None
    if word == "=":
        look_up = look_up_of(left, [right])
    elif word != "!=":
        look_up = range_of(left, *((right, None) if word in (">", ">=") else (None, right)))
    evaluate = evaluation.comparison(word, left.evaluate, right.evaluate)
    return Typed(f"({left.sql} {word} {right.sql})", BOOL, evaluate=evaluate, look_up=look_up)


def _test(subject: Typed, tested: Typed, *, negated: bool) -> Typed:
    _refuse_struct([subject])
    logic = ""
    if tested.alias != "NULL" and subject.type not in (BOOL, NULL):
        raise _no_signature(f"IS {tested.alias}", [subject])
    if tested.alias in ("NULL", "UNKNOWN"):
        sql, evaluate = f"({subject.sql} IS NULL)", evaluation.is_null(subject.evaluate)
    else:
        sql = f"({subject.sql}::BOOLEAN IS NOT DISTINCT FROM {tested.sql.lower()})"
        evaluate = evaluation.is_truth(subject.evaluate, tested.alias == "TRUE")
        logic = f"IS {tested.alias}"
    # A negation asks what it names, which is otherwise known only of the whole.
    found = Typed(
        sql, BOOL, evaluate=evaluate, operands=(subject,), logic=logic, names=subject.names
    )
    return _negation(found) if negated else found


def _membership(left: Typed, members: Sequence[Typed]) -> Typed:
    _require_comparable("IN", [left, *members])
    if left.type == NULL:
        left = replace(left, sql=f"NULL::{DUCKDB_TYPES[_widest(members)]}")
    if left.column is not None or left.property is not None:
        found = f"({left.sql} IN ({', '.join(member.sql for member in members)}))"
    else:
        # On a computed text that may be NULL, DuckDB 2.0 takes IN for another condition.
        found = f"({' OR '.join(f'{left.sql} = {member.sql}' for member in members)})"
    equalities = [evaluation.comparison("=", left.evaluate, one.evaluate) for one in members]
    evaluate = evaluation.junction("OR", equalities)
    return Typed(found, BOOL, evaluate=evaluate, look_up=look_up_of(left, members))


def _long_membership(compiler: Compiler, left: Typed, listed: Typed) -> Typed:
    """Whether a value is in a list that is a parameter; its operands say of which types it is."""
    _require_comparable("IN", [left, *listed.operands])
    kind = _widest([left, *listed.operands])
    if left.type == NULL:
        left = replace(left, sql=f"NULL::{DUCKDB_TYPES[kind]}")
    parameter = listed.parameter
    assert parameter is not None
    if kind == FLOAT64:
        literals = compiler.parameters[parameter]
        compiler.parameters[parameter] = tuple(literal.converted(float) for literal in literals)
    sql = f"({left.sql} IN (SELECT unnest({listed.sql}::{DUCKDB_TYPES[kind]}[])))"
    evaluate = evaluation.long_membership(left.evaluate, parameter)
    return Typed(sql, BOOL, evaluate=evaluate, look_up=look_up_of(left, [listed]))


def _between(subject: Typed, low: Typed, high: Typed) -> Typed:
    _require_comparable("BETWEEN", [subject, low, high])
    if subject.type == NULL and {low.type, high.type} <= {*NUMERIC, NULL}:
        subject = replace(subject, sql="NULL::BIGINT")
    bounds = [
        evaluation.comparison(">=", subject.evaluate, low.evaluate),
        evaluation.comparison("<=", subject.evaluate, high.evaluate),
    ]
    return Typed(
        f"({subject.sql} BETWEEN {low.sql} AND {high.sql})",
        BOOL,
        evaluate=evaluation.junction("AND", bounds),
        look_up=range_of(subject, low, high),
    )


def _like(left: Typed, right: Typed) -> Typed:
    if left.type != STRING or right.type != STRING:
        raise _no_signature("LIKE", [left, right])
    # As SQLite and MySQL do it for MLMD: the case of ASCII letters does not count.
    sql = functions.like_without_case(left.sql, right.sql)
    return Typed(sql, BOOL, evaluate=evaluation.like(left.evaluate, right.evaluate))


# Arithmetic


def _arithmetic(word: str, left: Typed, right: Typed) -> Typed:
    kind = _common_number(word, left, right)
    if kind == INT64:
        return Typed(widened(f"{left.sql}::HUGEINT {word} {right.sql}::HUGEINT"), INT64)
    return Typed(_known(f"({left.sql}::DOUBLE {word} {right.sql}::DOUBLE)"), FLOAT64)


def _division(left: Typed, right: Typed) -> Typed:
    if left.type not in NUMERIC or right.type not in NUMERIC:
        raise _no_signature("/", [left, right])
    return Typed(_known(f"({left.sql}::DOUBLE / nullif({right.sql}::DOUBLE, 0))"), FLOAT64)


def _known(sql: str) -> str:
    """A double, NULL where it is not a number, as on SQLite."""
    return f"nullif({sql}, 'nan'::DOUBLE)"


def _common_number(word: str, left: Typed, right: Typed) -> str:
    kinds = {left.type, right.type}
    if not kinds <= {*NUMERIC} or (UINT64 in kinds and FLOAT64 not in kinds):
        raise _no_signature(word, [left, right])
    return FLOAT64 if FLOAT64 in kinds else INT64


def _bitwise(word: str, left: Typed, right: Typed) -> Typed:
    if left.type != INT64 or right.type != INT64:
        raise _no_signature(word, [left, right])
    return Typed(f"({narrowed(left)} {word} {narrowed(right)})", INT64)


def _shift(word: str, left: Typed, right: Typed) -> Typed:
    if not {left.type, right.type} <= {INT64, NULL}:
        raise _no_signature(word, [left, right])
    return Typed(_shifted(narrowed(left), narrowed(right), to_left=word == "<<"), INT64)


def _shifted(number: str, places: str, *, to_left: bool) -> str:
    """A shift as SQLite has it: bits that leave are gone, a negative one goes the other way."""
    back = f"-greatest({places}, -63)"
    up, down = (places, back) if to_left else (back, places)
    shifted = f"({number}::HUGEINT * (1::HUGEINT << least(greatest({up}, 0), 63)::HUGEINT))"
    end, whole = f"{INT64_END}::HUGEINT", f"{2 * INT64_END}::HUGEINT"
    left = f"((({shifted} % {whole} + {whole} + {end}) % {whole}) - {end})::BIGINT"
    right = f"({number} >> least(greatest({down}, 0), 63))"
    gone, is_left = (
        (f"{places} >= 64", f"{places} >= 0") if to_left else (f"{places} <= -64", f"{places} < 0")
    )
    return (
        f"(CASE WHEN {number} IS NULL OR {places} IS NULL THEN NULL WHEN {gone} THEN 0 "
        f"WHEN {is_left} THEN {left} ELSE {right} END)"
    )


def _signed(word: str, operand: Typed) -> Typed:
    _refuse_null(word, [operand])
    if operand.type not in _SIGNED[word]:
        raise _no_signature(word, [operand])
    if word == "+":
        return replace(operand, column=None)
    if word == "-" and operand.type == INT64:
        return Typed(widened(f"-({operand.sql}::HUGEINT)"), INT64)
    return Typed(f"({word}{operand.sql if word == '-' else narrowed(operand)})", operand.type)


def _refuse_null(word: str, operands: Sequence[Typed]) -> None:
    if any(operand.type == NULL for operand in operands):
        raise refused(f"Operands of {word} cannot be literal NULL")


def _refuse_struct(operands: Sequence[Typed]) -> None:
    for operand in operands:
        if operand.struct is not None:
            raise refused(f"{'.'.join(operand.struct)} is no value; name a field of it")


def _require_comparable(word: str, operands: Sequence[Typed]) -> None:
    _refuse_struct(operands)
    kinds = {operand.type for operand in operands} - {NULL}
    alike = {*NUMERIC} if len(operands) == 2 and word != "IN" else {INT64, FLOAT64}
    if (len(kinds) > 1 and not kinds <= alike) or not kinds <= {*DUCKDB_TYPES}:
        raise _no_signature(word, operands)


def _widest(operands: Sequence[Typed]) -> str:
    kinds = {operand.type for operand in operands} - {NULL}
    for kind in (FLOAT64, UINT64):
        if kind in kinds:
            return kind
    return kinds.pop() if kinds else INT64


def _no_signature(word: str, operands: Sequence[Typed]) -> Exception:
    return functions.no_signature(word, operands, "operator")
