"""A compiled filter, kept apart from its compiler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from eventstore.projections.filter.evaluation import Evaluate


@dataclass(frozen=True, slots=True)
class Join:
    """An inner join of a filter: a table under an alias.

    `node_key` is the column that holds the listed node's id, None when `on` leads from another
    alias. `ends` says whether rows of the table have an end, `repeats` whether a node may have
    several.
    """

    table: str
    alias: str
    on: tuple[str, ...] = ()
    node_key: str | None = None
    ends: bool = True
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class SemiJoin:
    """Neighbours that a node must have: the joins that lead to each of them, and what holds.

    The first of each of the `chains` has the node's key. `of_node` are the joins that `condition`
    needs of the node itself. Where there are several chains, `of_chains` is what holds of each
    alone, and `tests` are the columns of them that `condition` names, and what these say.
    """

    chains: tuple[tuple[Join, ...], ...]
    of_node: tuple[Join, ...]
    condition: str
    of_chains: tuple[str, ...] = ()
    tests: tuple[tuple[str, str], ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """All conditions in it."""
        on = (condition for join in self.joins for condition in join.on)
        return (self.condition, *self.of_chains, *(said for _, said in self.tests), *on)

    @property
    def joins(self) -> tuple[Join, ...]:
        return (*self.of_node, *(join for chain in self.chains for join in chain))


def having(number: int) -> str:
    """How a condition says that a node is found by the semi-join of a number."""
    return f"having({number})"


Span: TypeAlias = tuple[Any, Any]
"""The first and the last value that is meant; None where there is no such end."""


@dataclass(frozen=True, slots=True)
class PropertyField:
    """A member of a property's values: `int_value`, `double_value` or `string_value`."""

    is_custom: bool
    name: str
    member: str


@dataclass(frozen=True, slots=True)
class FieldLookUp:
    """The node bears one of the values in `id`, `name`, `external_id` or `uri`."""

    field: str
    parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContextLookUp:
    """The node is in a context that bears one of the values in `id` or `name`."""

    field: str
    parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PropertyLookUp:
    """The node bears one of the values in a property."""

    property: PropertyField
    parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RangeLookUp:
    """The node bears a value in a property from one to another; "" where there is no such end."""

    property: PropertyField
    start: str
    end: str


LookUp: TypeAlias = FieldLookUp | ContextLookUp | PropertyLookUp | RangeLookUp
"""What is true of all nodes that match a filter, where that leads to them."""


@dataclass(frozen=True)
class FilterSql:
    """A filter as SQL on the row `node`: a condition, the joins that it needs, and its values.

    `names_node` says whether condition or joins name any column of `node` but its id. `evaluate`
    is the same condition in Python, None where only SQL will do. It holds for nodes that have all
    of `properties`, the (is_custom, name) that the filter mentions; of `neighbours`, if it mentions
    such (`contexts` or `events`), it is asked for one after the other; `of_neighbour` is what it
    says of them alone. `look_up` narrows the nodes that can match, None when nothing does.
    `semi_joins` are those that the condition names.
    """

    condition: str
    joins: tuple[Join, ...]
    parameters: dict[str, Any]
    names_node: bool = True
    evaluate: Evaluate | None = None
    properties: frozenset[tuple[bool, str]] = frozenset()
    neighbours: str | None = None
    of_neighbour: Evaluate | None = None
    look_up: LookUp | None = None
    semi_joins: tuple[SemiJoin, ...] = ()

    def looked_up_spans(self, look_up: PropertyLookUp | RangeLookUp) -> list[Span]:
        """Spans of which the value of a property must be in one."""
        if isinstance(look_up, PropertyLookUp):
            return [(value, value) for value in self.looked_up_values(look_up)]
        return [(self.parameters.get(look_up.start), self.parameters.get(look_up.end))]

    def looked_up_values(self, look_up: FieldLookUp | ContextLookUp | PropertyLookUp) -> list[Any]:
        """What a node must bear one of."""
        named = [self.parameters[name] for name in look_up.parameters]
        return list(named[0]) if named and isinstance(named[0], list) else named
