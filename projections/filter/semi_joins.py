"""Neighbours that a filter speaks of one by one: each is looked for apart, not joined with others.

Joined, a node's events under one alias meet those under each other one, as many as their numbers
multiply to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eventstore.projections.filter.filter_sql import Join, SemiJoin
from eventstore.projections.filter.schema import Typed


def apart(
    root: Typed, joins: Mapping[str, tuple[Join, ...]]
) -> tuple[list[Typed], dict[str, SemiJoin]]:
    """The operands of a filter's AND that have to be joined, and the others by alias.

    None are apart where there are not two of them: one join is no worse.
    """
    operands: Sequence[Typed] = root.operands or (root,)
    together = {
        alias
        for operand in operands
        if len(operand.names.aliases) > 1 or operand.names.node
        for alias in operand.names.aliases
    }
    alone = [alias for alias in joins if alias in root.names.aliases and alias not in together]
    if len(alone) < 2:
        return list(operands), {}
    found = {}
    for alias in alone:
        conditions = [operand.sql for operand in operands if alias in operand.names.aliases]
        alias_joins = (*joins[alias], *joins.get(f"{alias} type", ()))
        found[alias] = SemiJoin(alias_joins, f"({' AND '.join(conditions)})")
    return [operand for operand in operands if not operand.names.aliases & found.keys()], found
