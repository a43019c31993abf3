"""Nodes of the point index, judged one by one in Python: for a few, faster than a query."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from eventstore.log.kinds import CONTEXT, NodeKind
from eventstore.log.readable import read_message
from eventstore.projections.erased_nodes import Tombstone
from eventstore.projections.index_look_ups import lacking
from eventstore.projections.index_tables import CONTEXTS_OF, EVENTS_OF, TABLES_OF
from eventstore.projections.listing import Found, Listing, Row
from eventstore.projections.point_index import PointIndex
from eventstore.proto import metadata_store_pb2 as mlmd

if TYPE_CHECKING:
    from eventstore.projections.filter import FilterSql
    from eventstore.projections.filter.evaluation import Evaluate, Neighbour, Parameters

NeighboursOf: TypeAlias = "Callable[[Sequence[int]], Mapping[int, Sequence[Neighbour]]]"
"""By node what its filter is asked for one after the other."""


class TooManyError(Exception):
    """More nodes would have to be judged than a query takes."""


_FIELDS: Final = {
    "create_time": "create_time_since_epoch",
    "update_time": "last_update_time_since_epoch",
}
_PRESENT: Final = ("name", "external_id", "state")


@dataclass(frozen=True, slots=True)
class Candidates:
    """All nodes that can be listed are among these, in the order of ids if that is the listing's.

    They are judged `at_once`. A listing that is not complete after `nodes_max` is scanned.
    """

    reason: str
    count: int
    node_ids: Iterable[int]
    nodes_max: int
    at_once: int
    neighbours_of: NeighboursOf | None


def judged(index: PointIndex, listing: Listing, candidates: Candidates) -> Found:
    """The rows of a listing. Raises TooManyError when that would take too long."""
    rows: list[Row] = []
    payloads: dict[int, bytes] = {}
    wanted = listing.limit if listing.order_by == "id" else None
    neighbours_of, remaining = candidates.neighbours_of, iter(candidates.node_ids)
    nodes = 0
    while some := list(islice(remaining, candidates.at_once)):
        nodes += len(some)
        if nodes > candidates.nodes_max:
            raise TooManyError
        beside: Mapping[int, Sequence[Neighbour]] = {}
        if neighbours_of is not None:
            beside = neighbours_of(some)
            some = [node_id for node_id in some if beside.get(node_id)]
        for row, payload in _matching(index, listing, some, beside):
            rows.append(row)
            payloads[row[0]] = payload
        if wanted is not None and len(rows) >= wanted:
            break
    return Found(listing.in_order(rows), payloads)


def _matching(
    index: PointIndex,
    listing: Listing,
    node_ids: Sequence[int],
    neighbours: Mapping[int, Sequence[Neighbour]],
) -> Iterator[tuple[Row, bytes]]:
    """Those of the nodes that the listing has, each with its payload, in no order."""
    kind, where = listing.kind, listing.where
    stored = index.newest_of_each(TABLES_OF[kind].stored, node_ids, listing.as_of)
    is_parsed = where is not None or listing.type_id is not None or listing.order_by != "id"
    for node_id, (_, payload) in stored.items():
        row = node_id, node_id
        if is_parsed:
            candidate = JudgedNode(kind, payload, index, listing.as_of)
            if listing.type_id is not None and candidate.node.type_id != listing.type_id:
                continue
            if where is not None and not candidate.matches(where, neighbours.get(node_id, ())):
                continue
            row = node_id, candidate.column(listing.order_by)
        if listing.is_after(row):
            yield row, payload


def neighbours_in_index(
    index: PointIndex, listing: Listing, neighbours_max: int
) -> NeighboursOf | None:
    """What finds the neighbours that a listing's filter can hold with; None if it names none.

    It raises TooManyError after it has looked at so many.
    """
    where, kind, as_of = listing.where, listing.kind, listing.as_of
    if where is None or where.neighbours is None:
        return None
    counted = 0
    # Any node will do for conditions on neighbours alone.
    blank = JudgedNode(kind, b"", index, as_of)

    def found(node_ids: Sequence[int]) -> Mapping[int, Sequence[Neighbour]]:
        nonlocal counted
        of_each = (_events if where.neighbours == "events" else _contexts)(
            index, kind, node_ids, as_of
        )
        counted += sum(map(len, of_each.values()))
        if counted > neighbours_max:
            raise TooManyError
        if where.of_neighbour is None:
            return of_each
        return {
            node_id: blank.holding(where.of_neighbour, where.parameters, neighbours)
            for node_id, neighbours in of_each.items()
        }

    return found


def _events(
    index: PointIndex, kind: NodeKind, node_ids: Sequence[int], as_of: int
) -> Mapping[int, Sequence[Neighbour]]:
    found = index.values_of_each(EVENTS_OF[kind], node_ids, as_of)
    return {node_id: [*map(JudgedEvent, events)] for node_id, events in found.items()}


def _contexts(
    index: PointIndex, kind: NodeKind, node_ids: Sequence[int], as_of: int
) -> Mapping[int, Sequence[Neighbour]]:
    linked = {node_id: index.ids(CONTEXTS_OF[kind], node_id, as_of) for node_id in node_ids}
    contexts = judged_contexts(index, {id_ for ids in linked.values() for id_ in ids}, as_of)
    try:
        return {node_id: [contexts[id_] for id_ in ids] for node_id, ids in linked.items()}
    except KeyError as error:
        raise lacking(CONTEXT, error.args[0]) from None


def judged_contexts(
    index: PointIndex, context_ids: Collection[int], as_of: int
) -> dict[int, JudgedNode]:
    """By id the contexts that there are, to be asked as neighbours."""
    stored = index.newest_of_each(TABLES_OF[CONTEXT].stored, sorted(context_ids), as_of)
    return {
        context_id: JudgedNode(CONTEXT, payload, index, as_of)
        for context_id, (_, payload) in stored.items()
    }


class JudgedNode:
    """A node of the point index as the tables would show it."""

    def __init__(self, kind: NodeKind, payload: bytes, index: PointIndex, as_of: int) -> None:
        self.node = read_message(kind.message, payload)
        self._is_erased = isinstance(payload, Tombstone)
        self._kind = kind
        self._index = index
        self._as_of = as_of
        self._neighbour: Neighbour | None = None

    def matches(self, where: FilterSql, neighbours: Sequence[Neighbour]) -> bool:
        """Whether a filter holds, with any of the neighbours if it names such."""
        evaluate = where.evaluate
        assert evaluate is not None, "only SQL evaluates the filter"
        if not all(name in self._properties(is_custom) for is_custom, name in where.properties):
            return False
        if where.neighbours is None:
            return evaluate(self, where.parameters) is True
        return any(evaluate(self, where.parameters) is True for self._neighbour in neighbours)

    def holding(
        self, evaluate: Evaluate, parameters: Parameters, neighbours: Iterable[Neighbour]
    ) -> list[Neighbour]:
        """Those of the neighbours beside which a condition holds for the node."""
        found = []
        for self._neighbour in neighbours:
            if evaluate(self, parameters) is True:
                found.append(self._neighbour)
        return found

    def neighbour(self) -> Neighbour:
        assert self._neighbour is not None, "the filter names no neighbour"
        return self._neighbour

    def column(self, name: str) -> Any:
        field = _FIELDS.get(name, name)
        if name == "state":
            field = self._kind.state_field or name
        if name in _PRESENT and not self.node.HasField(field):
            return None
        if name == "uri" and self._is_erased:
            return None
        return getattr(self.node, field)

    def type_name(self) -> str:
        types = TABLES_OF[self._kind.type].stored
        found = self._index.newest(types, self.node.type_id, self._as_of)
        if found is None:
            raise lacking(self._kind.type, self.node.type_id)
        return _type_name(self._kind.type.message, found[1])

    def property(self, is_custom: bool, name: str, member: str, /) -> Any:
        value = self._properties(is_custom)[name]
        return getattr(value, member) if value.WhichOneof("value") == member else None

    def _properties(self, is_custom: bool) -> Any:
        return self.node.custom_properties if is_custom else self.node.properties


class JudgedEvent:
    """An event of the point index as the tables would show it."""

    def __init__(self, payload: bytes) -> None:
        self._event = mlmd.Event.FromString(payload)

    def column(self, name: str) -> Any:
        return getattr(self._event, "milliseconds_since_epoch" if name == "time" else name)

    def type_name(self) -> str:
        raise AssertionError("an event's type has no name of its own")


@lru_cache(maxsize=256)
def _type_name(type_message: Any, payload: bytes) -> str:
    name: str = read_message(type_message, payload).name
    return name
