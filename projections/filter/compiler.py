"""From a parsed filter to SQL: resolve names, check types as GoogleSQL does, bind every literal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from eventstore.projections.filter import functions
from eventstore.projections.filter.filter_sql import FilterSql
from eventstore.projections.filter.lexing import (
    NEIGHBOUR_PREFIX,
    NOT_IN,
    PROPERTY_PREFIX,
    STRING_PREFIX,
    Lexed,
    lex,
    refused,
)
from eventstore.projections.filter.schema import (
    BOOL,
    COLUMNS,
    FLOAT64,
    INT64,
    NEIGHBOURS,
    NULL,
    PROPERTY_MAPS,
    PROPERTY_MEMBERS,
    STRING,
    Column,
    Typed,
    property_join,
    type_join,
)

_INT64_RANGE = range(-(2**63), 2**63)
_NUMERIC = (INT64, FLOAT64)
_COMPARISONS = {
    exp.EQ: "=",
    exp.NEQ: "!=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
_ARITHMETIC = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*"}
_BITWISE = {
    exp.BitwiseAnd: "&",
    exp.BitwiseOr: "|",
    exp.BitwiseLeftShift: "<<",
    exp.BitwiseRightShift: ">>",
}


@lru_cache(maxsize=1024)
def compile_filter(text: str, kind: str) -> FilterSql:
    """Compile a filter query on nodes of a kind (`artifact`, `execution`, `context`).

    Raises InvalidArgumentError that says what is wrong and where.
    """
    lexed = lex(text)
    compiled = Compiler(kind, lexed)
    try:
        root = compiled.compile(_parsed(lexed.text))
    except RecursionError:
        raise refused("it is nested too deeply") from None
    if root.type != BOOL:
        raise refused(f"it is not a valid boolean expression, its type is {root.type}")
    return FilterSql(root.sql, "\n".join(compiled.joins.values()), compiled.parameters)


def _parsed(text: str) -> exp.Expression:
    try:
        statements = sqlglot.parse(f"SELECT 1 WHERE ({text}\n)", read="bigquery")
    except (SqlglotError, RecursionError, ValueError) as error:
        first_line = str(error).splitlines()[0] if str(error) else "not an expression"
        raise refused(f"Syntax error: {first_line}") from None
    where = statements[0].args.get("where") if len(statements) == 1 and statements[0] else None
    if where is None or set(_present(statements[0])) != {"expressions", "where"}:
        raise refused("Syntax error: it must be one boolean expression")
    parsed: exp.Expression = where.this
    return parsed


def _present(statement: Any) -> list[str]:
    return [name for name, value in (statement.args if statement else {}).items() if value]


@dataclass
class Compiler:
    """Walks the parsed expression; collects joins by alias, and parameters."""

    kind: str
    lexed: Lexed
    joins: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)

    def compile(self, node: Any) -> Typed:
        handler = _HANDLERS.get(type(node))
        if handler is None:
            if isinstance(node, exp.Func):
                return functions.compile_function(self, node)
            raise refused(f"{_shown(node)} is not supported in a filter")
        return handler(self, node)

    def bind(self, value: Any) -> str:
        name = f"f_{len(self.parameters)}"
        self.parameters[name] = value
        return f"${name}"

    # Names and literals

    def paren(self, node: exp.Paren) -> Typed:
        inner = self.compile(node.this)
        return Typed(f"({inner.sql})", inner.type)

    def literal(self, node: exp.Literal) -> Typed:
        if node.is_string:
            raise refused(f"Syntax error: unexpected {node.this!r}")
        text = str(node.this)
        if text.isdigit():
            if int(text) not in _INT64_RANGE and int(text) != 2**63:
                raise refused(f"Invalid integer literal: {text}")
            return Typed(f"{self.bind(int(text))}::BIGINT", INT64)
        return Typed(f"{self.bind(float(text))}::DOUBLE", FLOAT64)

    def boolean(self, node: exp.Boolean) -> Typed:
        return Typed("true" if node.this else "false", BOOL)

    def null(self, _: exp.Null) -> Typed:
        return Typed("NULL", NULL)

    def name(self, node: exp.Column) -> Typed:
        if len(node.parts) > 1:
            raise refused(f"Unrecognized name: {_shown(node)}")
        name = node.name
        if name.startswith(STRING_PREFIX):
            content = self.lexed.strings[int(name.removeprefix(STRING_PREFIX))]
            return Typed(f"{self.bind(content)}::VARCHAR", STRING)
        if name.startswith(PROPERTY_PREFIX):
            return self._property(*self.lexed.properties[int(name.removeprefix(PROPERTY_PREFIX))])
        if name.startswith(NEIGHBOUR_PREFIX):
            number = int(name.removeprefix(NEIGHBOUR_PREFIX))
            return self._neighbour(*self.lexed.neighbours[number])
        lowered = name.lower()
        if lowered == "type":
            self.joins.setdefault("node_type", type_join("node_type", "node"))
            return Typed("node_type.name", STRING)
        column = COLUMNS[self.kind].get(lowered)
        if column is None:
            raise refused(f"Unrecognized name: {name}")
        return Typed(f"node.{column.sql}", column.type, column)

    def _property(self, map_name: str, name: str, member: str) -> Typed:
        if member not in PROPERTY_MEMBERS:
            raise refused(
                f"Field name {member} does not exist in {map_name}; use one of "
                f"{', '.join(PROPERTY_MEMBERS)}"
            )
        key = f"{map_name} {name}"
        if key not in self.joins:
            parameter = self.bind(name).removeprefix("$")
            self.joins[key] = property_join(
                f"property_{len(self.joins)}",
                self.kind,
                parameter,
                is_custom=PROPERTY_MAPS[map_name],
            )
        alias = f"property_{list(self.joins).index(key)}"
        return Typed(f"{alias}.{member}", PROPERTY_MEMBERS[member])

    def _neighbour(self, prefix: str, alias: str, field_name: str) -> Typed:
        neighbour = NEIGHBOURS[self.kind].get(prefix)
        if neighbour is None:
            raise refused(f"Unrecognized name: {prefix}_{alias}; a {self.kind} has no {prefix}")
        key = f"{prefix}_{alias}"
        for other in self.joins:
            if other != key and other.lower() == key.lower():
                raise refused(f"aliases {other} and {key} differ only in case")
        field_name = field_name.lower()
        wants_type = field_name == "type" and neighbour.has_type
        if not wants_type and field_name not in neighbour.fields:
            raise refused(f"Field name {field_name} does not exist in {key}")
        if key not in self.joins:
            self.joins[key] = neighbour.joins.replace("{alias}", f"neighbour_{len(self.joins)}")
        row = f"neighbour_{list(self.joins).index(key)}"
        if wants_type:
            self.joins.setdefault(f"{key} type", type_join(f"{row}_type", row))
            return Typed(f"{row}_type.name", STRING)
        column = neighbour.fields[field_name]
        return Typed(f"{row}.{column.sql}", column.type, column)

    # Logic and comparison

    def junction(self, node: exp.And | exp.Or) -> Typed:
        word = "AND" if isinstance(node, exp.And) else "OR"
        operands = [self._boolean_operand(operand, word) for operand in node.flatten()]
        return Typed(f"({f' {word} '.join(operands)})", BOOL)

    def negation(self, node: exp.Not) -> Typed:
        return Typed(f"(NOT {self._boolean_operand(node.this, 'NOT')})", BOOL)

    def comparison(self, node: exp.Binary) -> Typed:
        operator = _COMPARISONS[type(node)]
        enum = self._enum_comparison(node, operator)
        if enum is not None:
            return enum
        left, right = self.compile(node.left), self.compile(node.right)
        self._require_comparable(operator, left, right)
        return Typed(f"({left.sql} {operator} {right.sql})", BOOL)

    def _enum_comparison(self, node: exp.Binary, operator: str) -> Typed | None:
        if operator not in ("=", "!=") or not isinstance(node.left, exp.Column):
            return None
        left = self.compile(node.left)
        if left.column is None or left.column.enum is None or not _is_exact(node.left):
            return None
        if isinstance(node.right, exp.Column) and _is_bare(node.right):
            number = self._enum_number(left.column, node.right.name)
        elif isinstance(node.right, exp.Literal) and not node.right.is_string:
            raise refused(f"Unsupported enum value specified: {node.right.this}")
        else:
            return None
        if operator == "=":
            return Typed(f"({left.sql} = {self.bind(number)})", BOOL)
        return Typed(f"({left.sql} IS DISTINCT FROM {self.bind(number)})", BOOL)

    def _enum_number(self, column: Column, name: str) -> int:
        assert column.enum is not None
        if name not in column.enum:
            raise refused(
                f"Unsupported enum value specified: {name}; use one of {', '.join(column.enum)}"
            )
        return column.enum[name]

    def membership(self, node: exp.In) -> Typed:
        members = list(node.expressions)
        negated = bool(members) and members[0].name == NOT_IN
        members = members[negated:]
        if not members and not any(node.args.get(name) for name in ("field", "query", "unnest")):
            raise refused("Syntax error: the list behind IN is empty")
        left = self.compile(node.this)
        if node.args.get("query") is not None or node.args.get("unnest") is not None:
            raise refused("a subquery is not supported in a filter: list the values")
        if node.args.get("field") is not None:
            if left.column is not None and left.column.enum is not None:
                raise refused("Expected a list of enum values enclosed in parentheses behind IN")
            raise refused("Syntax error: expected a list in parentheses behind IN")
        if left.column is not None and left.column.enum is not None and _is_exact(node.this):
            return self._enum_membership(left, members, negated=negated)
        compiled = [self.compile(member) for member in members]
        for member in compiled:
            if member.type != NULL:
                self._require_comparable("IN", left, member)
        word = "NOT IN" if negated else "IN"
        return Typed(f"({left.sql} {word} ({', '.join(m.sql for m in compiled)}))", BOOL)

    def _enum_membership(self, left: Typed, members: list[Any], *, negated: bool) -> Typed:
        assert left.column is not None
        numbers = []
        for member in members:
            if isinstance(member, exp.Column) and _is_bare(member):
                numbers.append(self._enum_number(left.column, member.name))
            elif isinstance(member, exp.Literal) and len(str(member.this)) == 1:
                numbers.append(int(member.this))
            else:
                raise refused(f"Unsupported enum value specified: {_shown(member)}")
        bound = ", ".join(self.bind(number) for number in numbers)
        if negated:
            return Typed(f"({left.sql} NOT IN ({bound}) OR {left.sql} IS NULL)", BOOL)
        return Typed(f"({left.sql} IN ({bound}))", BOOL)

    def between(self, node: exp.Between) -> Typed:
        subject, low, high = (self.compile(node.args[part]) for part in ("this", "low", "high"))
        self._require_comparable("BETWEEN", subject, low)
        self._require_comparable("BETWEEN", subject, high)
        return Typed(f"({subject.sql} BETWEEN {low.sql} AND {high.sql})", BOOL)

    def like(self, node: exp.Like) -> Typed:
        left, right = self.compile(node.this), self.compile(node.expression)
        if left.type != STRING or right.type != STRING:
            raise refused(
                f"No matching signature for operator LIKE for argument types: {left.type}, "
                f"{right.type}"
            )
        # As SQLite and MySQL do it for MLMD: the case of ASCII letters does not count.
        folded_left, folded_right = (
            functions.ascii_lower(left.sql),
            functions.ascii_lower(right.sql),
        )
        word = "NOT LIKE" if node.args.get("negate") else "LIKE"
        return Typed(f"({folded_left} {word} {folded_right})", BOOL)

    def test(self, node: exp.Is) -> Typed:
        subject, tested = self.compile(node.this), node.expression
        if isinstance(tested, exp.Null):
            return Typed(f"({subject.sql} IS NULL)", BOOL)
        if isinstance(tested, exp.Boolean):
            if subject.type != BOOL:
                raise refused(f"IS {_shown(tested)} needs a BOOL, not {subject.type}")
            word = "true" if tested.this else "false"
            return Typed(f"({subject.sql} IS NOT DISTINCT FROM {word})", BOOL)
        raise refused(f"IS {_shown(tested)} is not supported in a filter")

    # Arithmetic

    def arithmetic(self, node: exp.Binary) -> Typed:
        left, right = self._numeric_operands(node)
        operator = _ARITHMETIC[type(node)]
        return Typed(f"({left.sql} {operator} {right.sql})", _wider(left, right))

    def division(self, node: exp.Div) -> Typed:
        left, right = self._numeric_operands(node)
        return Typed(f"({left.sql}::DOUBLE / nullif({right.sql}::DOUBLE, 0))", FLOAT64)

    def bitwise(self, node: exp.Binary) -> Typed:
        left, right = self.compile(node.left), self.compile(node.right)
        operator = _BITWISE[type(node)]
        if left.type != INT64 or right.type != INT64:
            raise self._no_signature(operator, left, right)
        return Typed(f"({left.sql} {operator} {right.sql})", INT64)

    def bitwise_not(self, node: exp.BitwiseNot) -> Typed:
        inner = self.compile(node.this)
        if inner.type != INT64:
            raise refused(f"No matching signature for operator ~ for argument types: {inner.type}")
        return Typed(f"(~{inner.sql})", INT64)

    def minus(self, node: exp.Neg) -> Typed:
        inner = self.compile(node.this)
        if inner.type not in _NUMERIC:
            raise refused(f"No matching signature for operator - for argument types: {inner.type}")
        return Typed(f"(-{inner.sql})", inner.type)

    def _numeric_operands(self, node: exp.Binary) -> tuple[Typed, Typed]:
        left, right = self.compile(node.left), self.compile(node.right)
        if left.type not in _NUMERIC or right.type not in _NUMERIC:
            operator = {**_ARITHMETIC, exp.Div: "/"}[type(node)]
            raise self._no_signature(operator, left, right)
        return left, right

    def _boolean_operand(self, node: Any, word: str) -> str:
        operand = self.compile(node)
        if operand.type not in (BOOL, NULL):
            raise refused(
                f"No matching signature for operator {word} for argument types: {operand.type}"
            )
        return operand.sql

    def _require_comparable(self, operator: str, left: Typed, right: Typed) -> None:
        if NULL in (left.type, right.type):
            raise refused(f"Operands of {operator} cannot be literal NULL")
        if left.type != right.type and not (left.type in _NUMERIC and right.type in _NUMERIC):
            raise self._no_signature(operator, left, right)

    def _no_signature(self, operator: str, left: Typed, right: Typed) -> Exception:
        return refused(
            f"No matching signature for operator {operator} for argument types: {left.type}, "
            f"{right.type}"
        )


def _wider(left: Typed, right: Typed) -> str:
    return FLOAT64 if FLOAT64 in (left.type, right.type) else INT64


def _is_bare(node: exp.Column) -> bool:
    name = node.name
    prefixes = (STRING_PREFIX, PROPERTY_PREFIX, NEIGHBOUR_PREFIX)
    return not node.this.quoted and not name.startswith(prefixes)


def _is_exact(node: Any) -> bool:
    """Whether an enum column is written in lower case: upstream knows its names only then."""
    return bool(node.name == node.name.lower())


def _shown(node: Any) -> str:
    try:
        return str(node.sql(dialect="bigquery"))
    except (SqlglotError, ValueError, AttributeError):
        return type(node).__name__


_HANDLERS: dict[type, Callable[[Compiler, Any], Typed]] = {
    exp.Paren: Compiler.paren,
    exp.Literal: Compiler.literal,
    exp.Boolean: Compiler.boolean,
    exp.Null: Compiler.null,
    exp.Column: Compiler.name,
    exp.And: Compiler.junction,
    exp.Or: Compiler.junction,
    exp.Not: Compiler.negation,
    exp.In: Compiler.membership,
    exp.Between: Compiler.between,
    exp.Like: Compiler.like,
    exp.Is: Compiler.test,
    exp.Div: Compiler.division,
    exp.Neg: Compiler.minus,
    exp.BitwiseNot: Compiler.bitwise_not,
    **dict.fromkeys(_COMPARISONS, Compiler.comparison),
    **dict.fromkeys(_ARITHMETIC, Compiler.arithmetic),
    **dict.fromkeys(_BITWISE, Compiler.bitwise),
}
