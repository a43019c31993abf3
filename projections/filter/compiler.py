"""From a filter's tokens to SQL: resolve names, check types as GoogleSQL does, bind literals."""

from __future__ import annotations

import operator
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

from eventstore.projections.filter import evaluation, functions, operators
from eventstore.projections.filter.evaluation import Evaluate
from eventstore.projections.filter.filter_sql import FilterSql, Join, PropertyField, SemiJoin
from eventstore.projections.filter.lexing import lex
from eventstore.projections.filter.quantifying import quantified
from eventstore.projections.filter.rows import Rows
from eventstore.projections.filter.schema import (
    BOOL,
    COLUMNS,
    DUCKDB_TYPES,
    FLOAT64,
    INT64,
    LIST,
    NEIGHBOURS,
    PROPERTY_MAPS,
    PROPERTY_MEMBERS,
    STRING,
    STRUCT,
    UINT64,
    Literal,
    Names,
    Typed,
    property_join,
    type_join,
)
from eventstore.projections.filter.tokens import (
    FLOAT,
    FORMAT,
    INT,
    INT64_END_LITERAL,
    NUMBER,
    PROPERTY,
    UINT,
    Token,
    refused,
)
from eventstore.wording import did_you_mean, excerpt, with_article

NAMES_MAX: Final = 63
"""How many neighbours and properties a filter may name; ml-metadata's database joins as many."""
DEPTH_MAX: Final = 100
"""How deep operators may nest; ml-metadata's database takes about forty, DuckDB several hundred."""
OPERANDS_MAX: Final = 5_000
"""How many operands all operators and functions take together, without the members of lists."""
SQL_BYTES_MAX: Final = 512 * 1024
"""The size of what a filter is compiled to, which may repeat an operand."""

_CACHED_TOKENS_MAX: Final = 500
_CACHED_BYTES_MAX: Final = 8 * 1024
_EVALUATED_DEPTH_MAX: Final = 50
"""Deeper ones are left to SQL: in Python each level takes calls from the stack."""

_SAME_FIELDS: Final = {"state": "last_known_state", "last_known_state": "state"}
"""The names that artifacts and executions have for the same thing."""
_PARAMETER: Final = re.compile(r"\$(f_[0-9]+)")
_LITERAL_TYPES: Final = {
    INT: INT64,
    NUMBER: INT64,
    FLOAT: FLOAT64,
    UINT: UINT64,
    INT64_END_LITERAL: UINT64,
}


def compile_filter(text: str, kind: str) -> FilterSql:
    if len(text) > _CACHED_BYTES_MAX:
        return _compile(text, kind)
    return _compile_cached(text, kind)


def _compile(text: str, kind: str) -> FilterSql:
    lexed = lex(text)
    shaped = _shape_cached if len(lexed.tokens) <= _CACHED_TOKENS_MAX else _shape
    shape = shaped(tuple(lexed.tokens), kind, tuple(lexed.aliases.values()))
    values = {name: _value(value, lexed.values) for name, value in shape.parameters.items()}
    return replace(shape, parameters=values)


def _value(value: Any, values: Sequence[Any]) -> Any:
    if isinstance(value, Literal):
        return value.value(values)
    if isinstance(value, tuple):
        return [_value(member, values) for member in value]
    return value


def _shape(tokens: tuple[Token, ...], kind: str, aliases: tuple[str, ...]) -> FilterSql:
    """Compile tokens whose literals are numbered: programs ask alike."""
    compiled = Compiler(kind, {alias.lower(): alias for alias in aliases})
    root = Rows(compiled, tokens).read()
    if root.type != BOOL:
        raise refused(f"it is not a valid boolean expression, its type is {root.type}")
    properties_named = frozenset(
        (PROPERTY_MAPS[token.value[0]], token.value[1])
        for token in tokens
        if token.kind == PROPERTY
    )
    aliases_named = root.names.aliases
    condition, semi_joins, left_out = root.sql, tuple[SemiJoin, ...](), set[str]()
    if len(aliases_named) + root.names.node > 1:
        # A join is no worse where one alias is all that the filter names.
        condition, semi_joins = quantified(root, compiled.joins)
        left_out = {name for alias in aliases_named for name in (alias, f"{alias} type")}
    shape = FilterSql(
        condition,
        compiled.joins_but(left_out),
        {},
        compiled.names_node,
        root.evaluate if len(aliases_named) <= 1 else None,
        properties_named,
        next((alias.partition("_")[0] for alias in aliases_named), None),
        _of_neighbour(root),
        root.look_up,
        semi_joins,
    )
    return compiled.with_parameters(shape)


def _of_neighbour(root: Typed) -> Evaluate | None:
    operands = root.operands if root.logic == "AND" else (root,)
    alone = [part.evaluate for part in operands if part.names.aliases and not part.names.node]
    return evaluation.junction("AND", alone) if alone else None


_compile_cached = lru_cache(maxsize=1024)(_compile)
_shape_cached = lru_cache(maxsize=512)(_shape)


@dataclass
class Compiler:
    """Makes SQL of names, literals and operators; collects joins by alias, and parameters."""

    kind: str
    known_aliases: dict[str, str]
    """Those that the filter mentions as MLMD wants them, by those in lower case."""
    joins: dict[str, tuple[Join, ...]] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    names_node: bool = False
    operands: int = 0

    def joins_but(self, aliases: Collection[str]) -> tuple[Join, ...]:
        """All joins except those that lead to some neighbours."""
        return tuple(
            join for key, joins in self.joins.items() if key not in aliases for join in joins
        )

    def with_parameters(self, shape: FilterSql) -> FilterSql:
        """The filter with the values that it names, since DuckDB takes no others."""
        texts = [shape.condition, *(on for join in shape.joins for on in join.on)]
        texts += [text for semi_join in shape.semi_joins for text in semi_join.texts]
        names = {name for text in texts for name in _PARAMETER.findall(text)}
        named = {name: self.parameters[name] for name in sorted(names)}
        return replace(shape, parameters=named)

    def bind(self, value: Any) -> str:
        name = f"f_{len(self.parameters)}"
        self.parameters[name] = value
        return f"${name}"

    def made_of(self, made: Typed, parts: Sequence[Typed]) -> Typed:
        """A piece with the names of its parts; raises when there is too much of it."""
        self.operands += len(parts)
        if self.operands > OPERANDS_MAX:
            raise refused(f"its operators and functions take more than {OPERANDS_MAX} values")
        depth = 1 + max((part.depth for part in parts), default=0)
        if depth > DEPTH_MAX:
            raise refused(f"it is nested too deeply, more than {DEPTH_MAX} operators in each other")
        if len(made.sql) > SQL_BYTES_MAX:
            raise refused(f"it takes more than {SQL_BYTES_MAX} bytes when it is written out")
        return replace(
            made,
            names=_names_of(parts),
            depth=depth,
            evaluate=made.evaluate if depth <= _EVALUATED_DEPTH_MAX else None,
        )

    # Literals

    def literal(self, token: Token) -> Typed:
        """A literal of the text; one above INT64 may still stand for a number."""
        return self.literal_of(*_literal_of(token))

    def literal_of(self, literal: Literal, kind: str) -> Typed:
        bound = self.bind(literal)
        parameter = bound.removeprefix("$")
        return Typed(
            f"{bound}::{DUCKDB_TYPES[kind]}",
            kind,
            evaluate=evaluation.parameter(parameter),
            parameter=parameter,
            literal=literal,
        )

    def negative(self, number: Typed) -> Typed:
        """A literal of the text with a minus right before it."""
        assert number.literal is not None
        return self.literal_of(number.literal.converted(operator.neg), number.type)

    # Names

    def name(self, name: str) -> Typed:
        lowered = name.lower()
        alias = self.known_aliases.get(lowered)
        if alias is not None:
            return self._neighbour(alias)
        names = Names(node=True)
        if lowered == "type":
            self.names_node = True
            self.joins.setdefault("node_type", (type_join("node_type", "node"),))
            return Typed("node_type.name", STRING, evaluate=evaluation.type_name(), names=names)
        column = COLUMNS[self.kind].get(lowered)
        if lowered in PROPERTY_MAPS:
            raise refused(
                f"Unrecognized name: {excerpt(name)}; after its . name a property, which "
                "cannot be empty, and a value of it, such as "
                f"{lowered}.`learning rate`.double_value"
            )
        if column is None:
            known = ["type", *COLUMNS[self.kind]]
            raise refused(
                f"Unrecognized name: {excerpt(name)}{_suggestion(name, known)} "
                f"{with_article(self.kind).capitalize()} has {', '.join(known)}"
            )
        self.names_node |= column.sql != "id"
        evaluate = evaluation.column(column.sql)
        return Typed(f"node.{column.sql}", column.type, column, evaluate, names=names)

    def property(self, map_name: str, name: str) -> Typed:
        key, is_custom = f"{map_name} {name}", PROPERTY_MAPS[map_name]
        if key not in self.joins:
            self._check_joins()
            parameter = self.bind(name).removeprefix("$")
            alias = f"property_{len(self.joins)}"
            self.joins[key] = (property_join(alias, self.kind, parameter, is_custom=is_custom),)
        return Typed("", STRUCT, struct=(map_name, name), names=Names(node=True))

    def _neighbour(self, alias: str) -> Typed:
        prefix = next((p for p in NEIGHBOURS[self.kind] if alias.startswith(f"{p}_")), None)
        if prefix is None:
            neighbours = ", ".join(f"{known}_" for known in NEIGHBOURS[self.kind])
            raise refused(
                f"Unrecognized name: {excerpt(alias)}; the neighbours of "
                f"{with_article(self.kind)} have names that begin with {neighbours}"
            )
        if alias not in self.joins:
            self._check_joins()
            self.joins[alias] = NEIGHBOURS[self.kind][prefix].joins(f"neighbour_{len(self.joins)}")
        return Typed("", STRUCT, struct=(prefix, alias), names=Names(frozenset((alias,))))

    def field(self, whole: Typed, name: str) -> Typed:
        """What `.name` after a piece stands for."""
        if whole.struct is None:
            raise refused(f"Cannot access field {name} on a value with type {whole.type}")
        head, key = whole.struct
        if head in PROPERTY_MAPS:
            return self._property_member(whole, name.lower())
        return self._neighbour_field(whole, head, key, name.lower())

    def _property_member(self, whole: Typed, member: str) -> Typed:
        assert whole.struct is not None
        map_name, name = whole.struct
        if member not in PROPERTY_MEMBERS:
            raise refused(
                f"Field name {excerpt(member)} does not exist in {map_name}; use one of "
                f"{', '.join(PROPERTY_MEMBERS)}"
            )
        is_custom = PROPERTY_MAPS[map_name]
        return Typed(
            f"{self.joins[f'{map_name} {name}'][0].alias}.{member}",
            PROPERTY_MEMBERS[member],
            evaluate=evaluation.property_member(is_custom, name, member),
            property=PropertyField(is_custom, name, member),
            names=whole.names,
        )

    def _neighbour_field(self, whole: Typed, prefix: str, alias: str, name: str) -> Typed:
        neighbour = NEIGHBOURS[self.kind][prefix]
        row = self.joins[alias][-1].alias
        if name == "type" and neighbour.has_type:
            self.joins.setdefault(f"{alias} type", (type_join(f"{row}_type", row),))
            evaluate = evaluation.neighbour_type_name() if prefix == "contexts" else None
            sql = f"{row}_type.name"
            return Typed(sql, STRING, evaluate=evaluate, alias=alias, names=whole.names)
        column = neighbour.fields.get(name)
        if column is None:
            known = [*neighbour.fields, *(("type",) if neighbour.has_type else ())]
            raise refused(
                f"Field name {excerpt(name)} does not exist in "
                f"{excerpt(alias)}{_suggestion(name, known)} It has {', '.join(known)}"
            )
        is_evaluated = prefix in ("contexts", "events")
        evaluate = evaluation.neighbour_column(column.sql) if is_evaluated else None
        return Typed(
            f"{row}.{column.sql}", column.type, column, evaluate, alias=alias, names=whole.names
        )

    def _check_joins(self) -> None:
        if len(self.joins) >= NAMES_MAX:
            raise refused(f"it names more than {NAMES_MAX} neighbours and properties")

    # Operators

    def call(self, name: str, arguments: Sequence[Typed]) -> Typed:
        return self.made_of(functions.called(name, arguments), arguments)

    def cast(self, inner: Typed, type_name: str) -> Typed:
        return self.made_of(functions.cast(self, inner, type_name), [inner])

    def case(
        self, subject: Typed | None, branches: Sequence[tuple[Typed, Typed]], default: Typed | None
    ) -> Typed:
        parts = [part for branch in branches for part in branch]
        parts += [part for part in (subject, default) if part is not None]
        return self.made_of(functions.case(subject, branches, default), parts)

    def list_of(self, members: Sequence[Typed]) -> Typed:
        """The members of a list, which is no value as such."""
        depth = max(member.depth for member in members)
        self.operands += len(members)
        return Typed("", LIST, operands=tuple(members), names=_names_of(members), depth=depth)

    def long_list(self, tokens: Sequence[Token]) -> Typed:
        """A list of literals as one parameter."""
        literals, kinds = zip(*(_literal_of(token) for token in tokens), strict=True)
        one_of_each = [Typed("", kind) for kind in sorted({*kinds})]
        bound = self.bind(literals)
        return Typed(bound, LIST, operands=tuple(one_of_each), parameter=bound.removeprefix("$"))

    def operator(self, word: str, operands: Sequence[Typed]) -> Typed:
        return self.made_of(operators.applied(self, word, operands), operands)


def _suggestion(name: str, known: Sequence[str]) -> str:
    meant = _SAME_FIELDS.get(name.lower())
    return f", did you mean {meant}?" if meant in known else did_you_mean(name, known) or "."


def _literal_of(token: Token) -> tuple[Literal, str]:
    is_constant = token.kind in (FORMAT, NUMBER)
    literal = Literal(None, token.value) if is_constant else Literal(token.value)
    return literal, _LITERAL_TYPES.get(token.kind, STRING)


def _names_of(parts: Sequence[Typed]) -> Names:
    if len(parts) == 1:
        return parts[0].names
    return Names(
        frozenset().union(*(part.names.aliases for part in parts)),
        any(part.names.node for part in parts),
    )
