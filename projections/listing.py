"""What a listing asks for, and what answers it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import msgspec

from eventstore.log.kinds import NodeKind
from eventstore.log.record import Position

if TYPE_CHECKING:
    from eventstore.projections.filter import FilterSql

Row: TypeAlias = tuple[int, int]
"""The id of a node, and what the listing orders it by."""


class AllNodes(msgspec.Struct, frozen=True):
    """Whatever nodes of the kind there are."""


class InContext(msgspec.Struct, frozen=True):
    """Those that are attributed to or associated with a context."""

    context_id: int


class NodeIds(msgspec.Struct, frozen=True):
    """Those of some ids that there are."""

    node_ids: Sequence[int]


ALL_NODES: Final = AllNodes()


class Listing(msgspec.Struct, frozen=True):
    """Which nodes to list, as of which position, and in which order; ties are ordered by id.

    `order_by` is a column of the tables. `after` is the (order value, id) of the last row of the
    page before. `within` limits it to these ids.
    """

    kind: NodeKind
    as_of: Position
    among: AllNodes | InContext | NodeIds = ALL_NODES
    type_id: int | None = None
    order_by: str = "id"
    descending: bool = False
    after: tuple[int, int] | None = None
    limit: int | None = None
    where: FilterSql | None = None
    within: range | None = None

    def ids(self, highest: int) -> range:
        """The ids that a listing by id can have, in its order, if there is none above `highest`."""
        last = None if self.after is None else self.after[1]
        if self.descending:
            return range(highest if last is None else min(highest, last - 1), 0, -1)
        return range(1 if last is None else max(1, last + 1), highest + 1)

    def is_after(self, row: Row) -> bool:
        """Whether a row comes after the page before."""
        if self.after is None:
            return True
        said = row[1], row[0]
        return said < self.after if self.descending else said > self.after

    def in_order(self, rows: Iterable[Row]) -> list[Row]:
        """The rows as the listing orders and limits them."""
        ordered = sorted(rows, key=lambda row: (row[1], row[0]), reverse=self.descending)
        return ordered[: self.limit]


class Found(NamedTuple):
    """The rows of a listing, in order, and the payloads of those that were read for it."""

    rows: list[Row]
    payloads: Mapping[int, bytes]
