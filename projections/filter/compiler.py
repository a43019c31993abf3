"""From a parsed filter to SQL: resolve names, check types as GoogleSQL does, bind every literal."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from eventstore.projections.filter import evaluation, functions
from eventstore.projections.filter.filter_sql import (
    FilterSql,
    Join,
    PropertyField,
)
from eventstore.projections.filter.lexing import (
    FLOAT_PREFIX,
    INT_PREFIX,
    NEIGHBOUR_PREFIX,
    NOT_IN,
    PROPERTY_PREFIX,
    STRING_PREFIX,
    Lexed,
    lex,
    refused,
)
from eventstore.projections.filter.narrowing import look_up_of, narrowest, split
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
    Operand,
    Typed,
    property_join,
    type_join,
)

_PARAMETER = re.compile(r"\$(f_[0-9]+)")
_DUCKDB_TYPES = {INT64: "BIGINT", FLOAT64: "DOUBLE", STRING: "VARCHAR"}
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
    shape = _compiled(lexed.text, kind, tuple(lexed.properties), tuple(lexed.neighbours))
    values = {
        name: _value(value, lexed) if isinstance(value, _Literal) else value
        for name, value in shape.parameters.items()
    }
    split = shape.split
    if split is not None:
        of_nodes = {name: values[name] for name in split.of_nodes.parameters}
        split = replace(split, of_nodes=replace(split.of_nodes, parameters=of_nodes))
    return replace(shape, parameters=values, split=split)


@dataclass(frozen=True, slots=True)
class _Literal:
    """Stands for a literal of the text in the parameters of what all texts of a shape share."""

    is_string: bool
    index: int


def _value(literal: _Literal, lexed: Lexed) -> str | int | float:
    return (lexed.strings if literal.is_string else lexed.numbers)[literal.index]


@lru_cache(maxsize=512)
def _compiled(
    text: str,
    kind: str,
    properties: tuple[tuple[str, str, str], ...],
    neighbours: tuple[tuple[str, str, str], ...],
) -> FilterSql:
    """Compile an expression whose literals are numbered: programs ask alike, parsing is slow."""
    compiled = Compiler(kind, properties, neighbours)
    try:
        root = compiled.compile(_parsed(text))
    except RecursionError:
        raise refused("it is nested too deeply") from None
    if root.type != BOOL:
        raise refused(f"it is not a valid boolean expression, its type is {root.type}")
    properties_named = frozenset(
        (PROPERTY_MAPS[map_name], name) for map_name, name, _ in properties
    )
    shape = FilterSql(
        root.sql,
        compiled.joins_but(None),
        {},
        compiled.names_node,
        root.evaluate if compiled.aliases <= {root.look_up and root.look_up.alias} else None,
        properties_named,
        root.look_up,
        split(root, compiled, properties_named),
    )
    return compiled.with_parameters(shape)


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
    properties: tuple[tuple[str, str, str], ...]
    neighbours: tuple[tuple[str, str, str], ...]
    joins: dict[str, tuple[Join, ...]] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    names_node: bool = False
    aliases: set[str | None] = field(default_factory=set)
    """Those of neighbours."""
    looks_at_node: bool = False
    """Whether a column or property of the node itself is named."""
    looks_at_properties: bool = False

    def joins_but(self, alias: str | None) -> tuple[Join, ...]:
        """All joins, but those that lead to a neighbour."""
        return tuple(j for key, joins in self.joins.items() if key != alias for j in joins)

    def with_parameters(self, shape: FilterSql) -> FilterSql:
        """The filter with the values that it names, since DuckDB takes no others."""
        texts = [shape.condition, *(on for join in shape.joins for on in join.on)]
        used = set(_PARAMETER.findall(" ".join(texts)))
        parameters = {name: value for name, value in self.parameters.items() if name in used}
        return replace(shape, parameters=parameters)

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
        return replace(inner, sql=f"({inner.sql})", column=None)

    def literal(self, node: exp.Literal) -> Typed:
        if node.is_string:
            raise refused(f"Syntax error: unexpected {node.this!r}")
        return self._literal(int(str(node.this)), INT64)

    def boolean(self, node: exp.Boolean) -> Typed:
        value = bool(node.this)
        return Typed("true" if value else "false", BOOL, evaluate=evaluation.constant(value))

    def null(self, _: exp.Null) -> Typed:
        return Typed("NULL", NULL, evaluate=evaluation.constant(None))

    def name(self, node: exp.Column) -> Typed:
        if len(node.parts) > 1:
            raise refused(f"Unrecognized name: {_shown(node)}")
        name = node.name
        for prefix, kind in ((STRING_PREFIX, STRING), (INT_PREFIX, INT64), (FLOAT_PREFIX, FLOAT64)):
            if name.startswith(prefix):
                index = int(name.removeprefix(prefix))
                return self._literal(_Literal(kind == STRING, index), kind)
        if name.startswith(PROPERTY_PREFIX):
            return self._property(*self.properties[int(name.removeprefix(PROPERTY_PREFIX))])
        if name.startswith(NEIGHBOUR_PREFIX):
            return self._neighbour(*self.neighbours[int(name.removeprefix(NEIGHBOUR_PREFIX))])
        lowered = name.lower()
        self.looks_at_node = True
        if lowered == "type":
            self.names_node = True
            self.joins.setdefault("node_type", (type_join("node_type", "node"),))
            return Typed("node_type.name", STRING, evaluate=evaluation.type_name())
        column = COLUMNS[self.kind].get(lowered)
        if column is None:
            raise refused(f"Unrecognized name: {name}")
        self.names_node |= column.sql != "id"
        evaluate = evaluation.column(column.sql)
        return Typed(f"node.{column.sql}", column.type, column, evaluate)

    def _literal(self, value: Any, kind: str) -> Typed:
        bound = self.bind(value)
        parameter = bound.removeprefix("$")
        evaluate = evaluation.parameter(parameter)
        return Typed(f"{bound}::{_DUCKDB_TYPES[kind]}", kind, None, evaluate, parameter)

    def _property(self, map_name: str, name: str, member: str) -> Typed:
        self.looks_at_node = self.looks_at_properties = True
        if member not in PROPERTY_MEMBERS:
            raise refused(
                f"Field name {member} does not exist in {map_name}; use one of "
                f"{', '.join(PROPERTY_MEMBERS)}"
            )
        key, is_custom = f"{map_name} {name}", PROPERTY_MAPS[map_name]
        if key not in self.joins:
            parameter = self.bind(name).removeprefix("$")
            alias = f"property_{len(self.joins)}"
            join = property_join(alias, self.kind, parameter, is_custom=is_custom)
            self.joins[key] = (join,)
        alias = self.joins[key][0].alias
        evaluate = evaluation.property_member(is_custom, name, member)
        return Typed(
            f"{alias}.{member}",
            PROPERTY_MEMBERS[member],
            evaluate=evaluate,
            property=PropertyField(is_custom, name, member),
        )

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
        self.aliases.add(key)
        if key not in self.joins:
            self.joins[key] = neighbour.joins(f"neighbour_{len(self.joins)}")
        row = self.joins[key][-1].alias
        if wants_type:
            self.joins.setdefault(f"{key} type", (type_join(f"{row}_type", row),))
            evaluate = evaluation.neighbour_type_name() if prefix == "contexts" else None
            return Typed(f"{row}_type.name", STRING, evaluate=evaluate, alias=key)
        column = neighbour.fields[field_name]
        is_evaluated = prefix in ("contexts", "events")
        evaluate = evaluation.neighbour_column(column.sql) if is_evaluated else None
        return Typed(f"{row}.{column.sql}", column.type, column, evaluate, alias=key)

    # Logic and comparison

    def junction(self, node: exp.And | exp.Or) -> Typed:
        word = "AND" if isinstance(node, exp.And) else "OR"
        operands: list[Operand] = []
        aliases, looks_at_node = self.aliases, self.looks_at_node
        looks_at_properties = self.looks_at_properties
        for part in node.flatten():
            self.aliases, self.looks_at_node, self.looks_at_properties = set(), False, False
            operand = self._boolean_operand(part, word)
            named = (frozenset(self.aliases), self.looks_at_node, self.looks_at_properties)
            operands.append(Operand(operand, *named))
            aliases |= self.aliases
            looks_at_node |= self.looks_at_node
            looks_at_properties |= self.looks_at_properties
        self.aliases, self.looks_at_node = aliases, looks_at_node
        self.looks_at_properties = looks_at_properties
        compiled = [operand.typed for operand in operands]
        return Typed(
            f"({f' {word} '.join(operand.sql for operand in compiled)})",
            BOOL,
            evaluate=evaluation.junction(word, [operand.evaluate for operand in compiled]),
            look_up=narrowest(compiled) if word == "AND" else None,
            operands=tuple(operands) if word == "AND" else (),
        )

    def negation(self, node: exp.Not) -> Typed:
        operand = self._boolean_operand(node.this, "NOT")
        return Typed(f"(NOT {operand.sql})", BOOL, evaluate=evaluation.negation(operand.evaluate))

    def comparison(self, node: exp.Binary) -> Typed:
        operator = _COMPARISONS[type(node)]
        enum = self._enum_comparison(node, operator)
        if enum is not None:
            return enum
        left, right = self.compile(node.left), self.compile(node.right)
        self._require_comparable(operator, left, right)
        return Typed(
            f"({left.sql} {operator} {right.sql})",
            BOOL,
            evaluate=evaluation.comparison(operator, left.evaluate, right.evaluate),
            look_up=look_up_of(left, [right], operator),
        )

    def _enum_comparison(self, node: exp.Binary, operator: str) -> Typed | None:
        if operator not in ("=", "!=") or not isinstance(node.left, exp.Column):
            return None
        left = self.compile(node.left)
        if left.column is None or left.column.enum is None or not _is_exact(node.left):
            return None
        if isinstance(node.right, exp.Column) and _is_bare(node.right):
            number = self._enum_number(left.column, node.right.name)
        elif _is_number(node.right):
            raise refused("Unsupported enum value specified: use a name, not a number")
        else:
            return None
        value = evaluation.constant(number)
        if operator == "=":
            sql = f"({left.sql} = {self.bind(number)})"
            return Typed(sql, BOOL, evaluate=evaluation.comparison("=", left.evaluate, value))
        sql = f"({left.sql} IS DISTINCT FROM {self.bind(number)})"
        return Typed(sql, BOOL, evaluate=evaluation.is_distinct(left.evaluate, value))

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
        evaluates = [member.evaluate for member in compiled]
        if left.column is not None or left.property is not None:
            found = f"({left.sql} IN ({', '.join(member.sql for member in compiled)}))"
        else:
            # Of a text that is computed and may be NULL, DuckDB 2.0 takes IN for another condition.
            found = f"({' OR '.join(f'{left.sql} = {member.sql}' for member in compiled)})"
        return Typed(
            f"(NOT {found})" if negated else found,
            BOOL,
            evaluate=evaluation.membership(left.evaluate, evaluates, negated=negated),
            look_up=None if negated else look_up_of(left, compiled),
        )

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
        values = [evaluation.constant(number) for number in numbers]
        evaluate = evaluation.membership(left.evaluate, values, negated=negated)
        if not negated:
            return Typed(f"({left.sql} IN ({bound}))", BOOL, evaluate=evaluate)
        sql = f"({left.sql} NOT IN ({bound}) OR {left.sql} IS NULL)"
        absent = evaluation.is_null(left.evaluate)
        return Typed(sql, BOOL, evaluate=evaluation.junction("OR", [evaluate, absent]))

    def between(self, node: exp.Between) -> Typed:
        subject, low, high = (self.compile(node.args[part]) for part in ("this", "low", "high"))
        self._require_comparable("BETWEEN", subject, low)
        self._require_comparable("BETWEEN", subject, high)
        bounds = [
            evaluation.comparison(">=", subject.evaluate, low.evaluate),
            evaluation.comparison("<=", subject.evaluate, high.evaluate),
        ]
        sql = f"({subject.sql} BETWEEN {low.sql} AND {high.sql})"
        return Typed(sql, BOOL, evaluate=evaluation.junction("AND", bounds))

    def like(self, node: exp.Like) -> Typed:
        left, right = self.compile(node.this), self.compile(node.expression)
        if left.type != STRING or right.type != STRING:
            raise refused(
                f"No matching signature for operator LIKE for argument types: {left.type}, "
                f"{right.type}"
            )
        negated = bool(node.args.get("negate"))
        # As SQLite and MySQL do it for MLMD: the case of ASCII letters does not count.
        sql = functions.like_without_case(left.sql, right.sql)
        evaluate = evaluation.like(left.evaluate, right.evaluate, negated=negated)
        if negated:
            return Typed(f"(NOT {sql})", BOOL, evaluate=evaluate)
        return Typed(sql, BOOL, evaluate=evaluate, is_like=True)

    def test(self, node: exp.Is) -> Typed:
        subject, tested = self.compile(node.this), node.expression
        if isinstance(tested, exp.Null):
            evaluate = evaluation.is_null(subject.evaluate)
            return Typed(f"({subject.sql} IS NULL)", BOOL, evaluate=evaluate)
        if isinstance(tested, exp.Boolean):
            if subject.type != BOOL:
                raise refused(f"IS {_shown(tested)} needs a BOOL, not {subject.type}")
            word = "true" if tested.this else "false"
            evaluate = evaluation.is_truth(subject.evaluate, bool(tested.this))
            sql = f"({subject.sql} IS NOT DISTINCT FROM {word})"
            return Typed(sql, BOOL, evaluate=evaluate)
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

    def _boolean_operand(self, node: Any, word: str) -> Typed:
        operand = self.compile(node)
        if operand.type not in (BOOL, NULL):
            raise refused(
                f"No matching signature for operator {word} for argument types: {operand.type}"
            )
        return operand

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


def _is_number(node: Any) -> bool:
    if isinstance(node, exp.Literal):
        return not node.is_string
    return isinstance(node, exp.Column) and node.name.startswith((INT_PREFIX, FLOAT_PREFIX))


def _wider(left: Typed, right: Typed) -> str:
    return FLOAT64 if FLOAT64 in (left.type, right.type) else INT64


def _is_bare(node: exp.Column) -> bool:
    name = node.name
    prefixes = (STRING_PREFIX, PROPERTY_PREFIX, NEIGHBOUR_PREFIX, INT_PREFIX, FLOAT_PREFIX)
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
