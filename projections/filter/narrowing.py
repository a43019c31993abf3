"""What narrows the nodes that a filter can hold for: values that lead to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from eventstore.projections.filter.filter_sql import (
    ContextLookUp,
    FieldLookUp,
    LookUp,
    PropertyLookUp,
    RangeLookUp,
)
from eventstore.projections.filter.schema import HELD_MEMBERS, INDEXED, INDEXED_OF_CONTEXTS, STRING

if TYPE_CHECKING:
    from eventstore.projections.filter.schema import Typed


def look_up_of(left: Typed, members: Sequence[Typed]) -> LookUp | None:
    """Which nodes to look up when a column or property is one of some literals."""
    parameters = tuple(member.parameter for member in members if member.parameter is not None)
    if len(parameters) < len(members):
        return None
    if left.property is not None and left.property.member in HELD_MEMBERS:
        return PropertyLookUp(left.property, parameters)
    if left.column is None:
        return None
    field = left.column.sql
    if left.alias is None:
        return FieldLookUp(field, parameters) if field in INDEXED else None
    is_of_contexts = left.alias.startswith("contexts_") and field in INDEXED_OF_CONTEXTS
    return ContextLookUp(field, parameters) if is_of_contexts else None


def range_of(left: Typed, start: Typed | None, end: Typed | None) -> LookUp | None:
    """Which nodes to look up when the value of a numeric property is between literals."""
    first, last = ("" if bound is None else bound.parameter for bound in (start, end))
    if left.property is None or left.property.member not in HELD_MEMBERS or left.type == STRING:
        return None
    return None if first is None or last is None else RangeLookUp(left.property, first, last)


def narrowest(operands: Sequence[Typed]) -> LookUp | None:
    """The look-up of the operands that gives the fewest nodes, as far as that can be told."""
    found = [operand.look_up for operand in operands if operand.look_up is not None]
    return min(found, key=_breadth, default=None)


def _breadth(look_up: LookUp) -> tuple[int, int]:
    match look_up:
        case FieldLookUp(field):
            return 0, INDEXED.index(field)
        case ContextLookUp(field):
            return 1, INDEXED_OF_CONTEXTS.index(field)
        case PropertyLookUp():
            return 2, 0
        case RangeLookUp():
            return 3, 0
