"""What a filter can name: the columns of each node kind, its neighbours, and their joins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from eventstore.projections.filter.evaluation import Evaluate
from eventstore.projections.filter.filter_sql import Join, LookUp, PropertyField

INT64: Final = "INT64"
FLOAT64: Final = "DOUBLE"
STRING: Final = "STRING"
BOOL: Final = "BOOL"
UINT64: Final = "UINT64"
STRUCT: Final = "STRUCT"
NULL: Final = "NULL"
"""GoogleSQL's types, as its messages spell them; NULL is that of the literal."""
LIST: Final = "list"
TEST: Final = "test"
"""What follows IN and IS, which is no value."""
NUMERIC: Final = (INT64, FLOAT64, UINT64)
DUCKDB_TYPES: Final = {
    INT64: "BIGINT",
    FLOAT64: "DOUBLE",
    STRING: "VARCHAR",
    BOOL: "BOOLEAN",
    UINT64: "HUGEINT",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, and its type."""

    sql: str
    type: str


class Names(NamedTuple):
    """What a piece names: neighbours by alias, the listed node itself."""

    aliases: frozenset[str] = frozenset()
    node: bool = False


NO_NAMES: Final = Names()


@dataclass(frozen=True, slots=True)
class Literal:
    """The value of a numbered literal or a constant, and what is made of it."""

    index: int | None
    constant: Any = None
    conversions: tuple[Callable[[Any], Any], ...] = ()

    def value(self, values: Sequence[Any]) -> Any:
        """The value, given those of the text's literals."""
        value = self.constant if self.index is None else values[self.index]
        for convert in self.conversions:
            value = convert(value)
        return value

    def converted(self, convert: Callable[[Any], Any]) -> Literal:
        return Literal(self.index, self.constant, (*self.conversions, convert))


@dataclass(frozen=True, slots=True)
class Typed:
    """A piece of SQL and its GoogleSQL type; `column` when it is a column as such.

    `evaluate` is the same in Python, None where only SQL will do. `alias` is that of the neighbour
    whose column it is. `parameter` names the value of a literal, `literal` is that. `look_up` is
    what a node must bear for a condition to be true. `operands` are those of `logic` (AND, OR, NOT,
    IS TRUE or IS FALSE), or the members of a list. `property` is the one that it is; `struct` says
    what `.` leads to a field of. `depth` is that of the tree of operators.
    """

    sql: str
    type: str
    column: Column | None = None
    evaluate: Evaluate | None = None
    parameter: str | None = None
    literal: Literal | None = None
    look_up: LookUp | None = None
    alias: str | None = None
    operands: tuple[Typed, ...] = ()
    property: PropertyField | None = None
    struct: tuple[str, str] | None = None
    logic: str = ""
    names: Names = NO_NAMES
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A kind of neighbour: its fields, and the joins that lead to a row of it, by its alias.

    `has_type` says that `type` is the name of the neighbour's type, which takes a join of its own.
    """

    fields: dict[str, Column]
    joins: Callable[[str], tuple[Join, ...]]
    has_type: bool = False


_NODE: Final = {
    "id": Column("id", INT64),
    "type_id": Column("type_id", INT64),
    "name": Column("name", STRING),
    "external_id": Column("external_id", STRING),
    "create_time_since_epoch": Column("create_time", INT64),
    "last_update_time_since_epoch": Column("update_time", INT64),
}
COLUMNS: Final = {
    "artifact": {
        **_NODE,
        "uri": Column("uri", STRING),
        "state": Column("state", INT64),
    },
    "execution": {**_NODE, "last_known_state": Column("state", INT64)},
    "context": _NODE,
}
"""The columns of the listed node, `type` apart."""


def _linked(links: str, near: str, far: str, kind: str, *without: str) -> Neighbour:
    """Nodes of a kind, by way of a table of links."""

    def joins(alias: str) -> tuple[Join, ...]:
        link = f"{alias}_link"
        return (
            Join(links, link, node_key=near, ends=False, repeats=True),
            Join(f"{kind}s", alias, on=(f"{alias}.id = {link}.{far}",)),
        )

    left_out = ("type_id", *without)
    fields = {name: column for name, column in COLUMNS[kind].items() if name not in left_out}
    return Neighbour(fields, joins, has_type=True)


def _contexts(links: str, near: str, far: str) -> Neighbour:
    return _linked(links, near, far, "context", "external_id")


def _events(near: str, far: str) -> Neighbour:
    fields = {
        "type": Column("type", INT64),
        "milliseconds_since_epoch": Column("time", INT64),
        far: Column(far, INT64),
    }
    return Neighbour(
        fields, lambda alias: (Join("events", alias, node_key=near, ends=False, repeats=True),)
    )


NEIGHBOURS: Final = {
    "artifact": {
        "contexts": _contexts("attributions", "artifact_id", "context_id"),
        "events": _events("artifact_id", "execution_id"),
    },
    "execution": {
        "contexts": _contexts("associations", "execution_id", "context_id"),
        "events": _events("execution_id", "artifact_id"),
    },
    "context": {
        "parent_contexts": _contexts("parent_contexts", "child_id", "parent_id"),
        "child_contexts": _contexts("parent_contexts", "parent_id", "child_id"),
        "artifacts": _linked("attributions", "context_id", "artifact_id", "artifact"),
        "executions": _linked("associations", "context_id", "execution_id", "execution"),
    },
}
"""The neighbours of each node kind by the prefix of their alias."""

INDEXED: Final = ("id", "external_id", "name", "uri")
"""The columns whose values nodes are looked up by, the most telling first."""

INDEXED_OF_CONTEXTS: Final = ("id", "name")
"""The columns of contexts whose values their artifacts and executions are looked up by."""

HELD_MEMBERS: Final = ("int_value", "double_value", "string_value")
"""The members of properties by whose values nodes may be looked up."""

PROPERTY_MEMBERS: Final = {
    "int_value": INT64,
    "double_value": FLOAT64,
    "string_value": STRING,
    "bool_value": BOOL,
}
PROPERTY_MAPS: Final = {"properties": False, "custom_properties": True}
"""The two maps, and whether their rows are custom ones."""


def type_join(alias: str, row: str) -> Join:
    """The join that makes `{alias}.name` the type name of a row of nodes."""
    return Join("types", alias, on=(f"{alias}.id = {row}.type_id",))


def property_join(alias: str, kind: str, parameter: str, *, is_custom: bool) -> Join:
    """The join with one property, by the parameter that holds its name."""
    custom = f"{'' if is_custom else 'NOT '}{alias}.is_custom"
    on = (f"{alias}.name = ${parameter}", custom)
    return Join(f"{kind}_properties", alias, on=on, node_key="node_id")
