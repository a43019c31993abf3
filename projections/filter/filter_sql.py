"""A compiled filter, kept apart from its compiler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True, slots=True)
class PropertyField:
    """A member of a property's values: `int_value`, `double_value` or `string_value`."""

    is_custom: bool
    name: str
    member: str


@dataclass(frozen=True, slots=True)
class LookUp:
    """What a node must bear to match: one of the values of parameters, or of a list, in a field.

    `field` is `id`, `name`, `external_id` or `uri`, of the context under an alias if there is one,
    which are indexed, or that of a property, whose values may be held. Those may also be compared
    with the one parameter by another `comparison`: <, <=, > or >=.
    """

    field: str | PropertyField
    parameters: tuple[str, ...]
    alias: str | None = None
    comparison: str = "="

    def values(self, parameters: dict[str, Any]) -> list[Any]:
        """What a node must bear one of."""
        named = [parameters[name] for name in self.parameters]
        return list(named[0]) if named and isinstance(named[0], list) else named


@dataclass(frozen=True)
class FilterSql:
    """A filter as SQL on the row `node`: a condition, the joins that it needs, and its values.

    `names_node` says whether condition or joins name any column of `node` but its id. `evaluate`
    is the same condition in Python, None where only SQL will do; it holds for nodes that have all
    of `properties`, the (is_custom, name) that the filter mentions. `look_up` narrows the nodes
    that can match, None when nothing does; its alias is the one neighbour that `evaluate` knows.
    `split` is the same filter in two steps, where there is one. `semi_joins` are those that the
    condition names.
    """

    condition: str
    joins: tuple[Join, ...]
    parameters: dict[str, Any]
    names_node: bool = True
    evaluate: Evaluate | None = None
    properties: frozenset[tuple[bool, str]] = frozenset()
    look_up: LookUp | None = None
    split: SplitFilter | None = None
    semi_joins: tuple[SemiJoin, ...] = ()

    @property
    def of_nodes(self) -> FilterSql:
        """All that it says of nodes, if the rest is about their events."""
        return self if self.split is None or self.split.of_event is None else self.split.of_nodes

    @property
    def look_up_alias(self) -> str | None:
        """The neighbour that `evaluate` needs, if any."""
        return None if self.look_up is None else self.look_up.alias


@dataclass(frozen=True, slots=True)
class SplitFilter:
    """A filter in two steps: `of_nodes` is answered fast, the rest is looked up for what it found.

    The rest is what the filter says of one of their events, `of_event`, evaluated with an event as
    the neighbour; without it what the filter says of their properties.
    """

    of_nodes: FilterSql
    of_event: Evaluate | None = None
