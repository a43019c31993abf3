"""What narrows the nodes that a filter can hold for: values to look up, a first of two steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from eventstore.projections.filter import evaluation
from eventstore.projections.filter.filter_sql import FilterSql, LookUp, PropertyField, SplitFilter
from eventstore.projections.filter.schema import (
    HELD_MEMBERS,
    INDEXED,
    INDEXED_OF_CONTEXTS,
    Typed,
)

if TYPE_CHECKING:
    from eventstore.projections.filter.compiler import Compiler


def look_up_of(left: Typed, members: Sequence[Typed], operator: str = "=") -> LookUp | None:
    """Which nodes to look up when a column or property is compared with literals."""
    parameters = tuple(member.parameter for member in members if member.parameter is not None)
    if len(parameters) < len(members):
        return None
    if left.property is not None and left.property.member in HELD_MEMBERS and operator != "!=":
        return LookUp(left.property, parameters, None, operator)
    if operator != "=" or left.column is None or left.evaluate is None:
        return None
    if left.column.sql not in (INDEXED if left.alias is None else INDEXED_OF_CONTEXTS):
        return None
    return LookUp(left.column.sql, parameters, left.alias)


def narrowest(operands: Sequence[Typed]) -> LookUp | None:
    """The look-up of the operands that gives the fewest nodes, as far as that can be told."""
    found = [operand.look_up for operand in operands if operand.look_up is not None]
    return min(found, key=_breadth, default=None)


def _breadth(look_up: LookUp) -> tuple[bool, int]:
    # One by a context comes first: only then is the neighbour known without SQL.
    if isinstance(look_up.field, PropertyField):
        return True, len(INDEXED) + (look_up.comparison != "=")
    return look_up.alias is None, INDEXED.index(look_up.field)


def split(
    root: Typed, compiled: Compiler, properties: frozenset[tuple[bool, str]]
) -> SplitFilter | None:
    """The filter in two steps: one that the tables answer fast, and one for what they found."""
    if root.logic != "AND":
        return None
    of_nodes = [operand for operand in root.operands if not operand.names.aliases]
    of_event = [operand for operand in root.operands if operand.names.aliases]
    names = {alias for operand in of_event for alias in operand.names.aliases}
    alias = next(iter(names), None)
    if alias is None:
        return _split_by_like(root, compiled)
    if len(names) != 1 or not alias.startswith("events_") or not of_nodes:
        return None
    if any(operand.names.node for operand in of_event):
        return None
    evaluate = evaluation.junction("AND", [operand.evaluate for operand in of_event])
    if evaluate is None:
        return None
    rest = FilterSql(
        f"({' AND '.join(operand.sql for operand in of_nodes)})",
        compiled.joins_but((alias,)),
        {},
        compiled.names_node,
        evaluation.junction("AND", [operand.evaluate for operand in of_nodes]),
        properties,
        narrowest(of_nodes),
    )
    return SplitFilter(compiled.with_parameters(rest), evaluate)


def _split_by_like(root: Typed, compiled: Compiler) -> SplitFilter | None:
    """A LIKE tells more than the properties next to it, and needs no join with them."""
    of_columns = [operand for operand in root.operands if not operand.names.properties]
    if len(of_columns) == len(root.operands) or root.evaluate is None:
        return None
    if not any(typed.is_like for typed in of_columns):
        return None
    condition = f"({' AND '.join(typed.sql for typed in of_columns)})"
    joins = [join for join in compiled.joins_but(()) if f"{join.alias}." in condition]
    evaluate = evaluation.junction("AND", [typed.evaluate for typed in of_columns])
    rest = FilterSql(condition, tuple(joins), {}, names_node=True, evaluate=evaluate)
    return SplitFilter(compiled.with_parameters(rest))
