"""The ids of nodes in order: by SQL on the tables, or from the point index for a few nodes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from heapq import merge
from itertools import dropwhile, groupby, islice
from typing import TYPE_CHECKING, Any, Final

from eventstore.log import record as kinds
from eventstore.log.readable import read_message
from eventstore.projections import index_tables
from eventstore.projections.index_tables import hash64, name_key
from eventstore.projections.point_index import PointIndex
from eventstore.proto import metadata_store_pb2 as mlmd

if TYPE_CHECKING:
    from eventstore.projections.filter import FilterSql, PropertyField
    from eventstore.projections.filter.evaluation import Candidate

NOT_ENDED: Final = 9_223_372_036_854_775_807
"""`valid_to` of the version that is current."""

NODE_TABLES: Final = {
    kinds.ARTIFACT: "artifacts",
    kinds.EXECUTION: "executions",
    kinds.CONTEXT: "contexts",
}
"""The table of each node kind."""

_CANDIDATES_MAX: Final = 2_000
_CANDIDATES_AT_ONCE: Final = 64
_CONTEXTS_MAX: Final = 100
_NAMES_MAX: Final = 500
_SPLIT_ROWS_MAX: Final = 256


@dataclass(frozen=True)
class Listing:
    """Which nodes to list, as of which position, and in which order; ties are ordered by id.

    `order_by` is a column of the tables. `after` is the (order value, id) of the last row of the
    page before.
    """

    kind: str
    as_of: int
    type_id: int | None = None
    context_id: int | None = None
    node_ids: Sequence[int] | None = None
    order_by: str = "id"
    descending: bool = False
    after: tuple[int, int] | None = None
    limit: int | None = None
    where: FilterSql | None = None


def listed_from_index(index: PointIndex, listing: Listing) -> list[tuple[int, int]] | None:
    """The same rows without a query, where few nodes are asked for or can match.

    Those of a context, those that a filter names by an indexed value. None when they are many, or
    the filter holds what only SQL evaluates.
    """
    where = listing.where
    if _is_of_all(listing):
        return _first_of_all(index, listing)
    if where is not None and where.evaluate is None:
        return None
    candidates = _candidates(index, listing)
    if candidates is None or len(candidates) > _CANDIDATES_MAX:
        return None
    node_ids = sorted(candidates, reverse=listing.descending)
    rows: list[tuple[int, int]] = []
    for start in range(0, len(node_ids), _CANDIDATES_AT_ONCE):
        some = node_ids[start : start + _CANDIDATES_AT_ONCE]
        rows += matching_rows(index, listing, {id_: candidates[id_] for id_ in some})
        if listing.order_by == "id" and listing.limit is not None and len(rows) >= listing.limit:
            break
    return in_order(rows, listing)


def _is_of_all(listing: Listing) -> bool:
    """Whether a page of all nodes of a kind is asked for, by id."""
    narrowed = (listing.type_id, listing.context_id, listing.node_ids, listing.where)
    return narrowed == (None,) * 4 and listing.order_by == "id" and listing.limit is not None


def _first_of_all(index: PointIndex, listing: Listing) -> list[tuple[int, int]] | None:
    """A page of ids, which have few gaps; None where they have many."""
    nodes, limit = _TABLES[listing.kind].nodes, listing.limit
    assert limit is not None
    highest = index.highest_id(listing.kind)
    if listing.descending:
        first = highest if listing.after is None else min(highest, listing.after[1] - 1)
        ids = range(first, 0, -1)
    else:
        ids = range(1 if listing.after is None else max(1, listing.after[1] + 1), highest + 1)
    rows: list[tuple[int, int]] = []
    for start in range(0, min(len(ids), 4 * limit), limit):
        some = ids[start : start + limit]
        found = index.newest_of_each(nodes, some, listing.as_of)
        rows += [(node_id, node_id) for node_id in some if node_id in found]
        if len(rows) >= limit:
            return rows[:limit]
    return rows if len(ids) <= 4 * limit else None


def in_order(rows: Iterable[tuple[int, int]], listing: Listing) -> list[tuple[int, int]]:
    """(id, order value) as the listing orders and limits them."""
    ordered = sorted(rows, key=lambda row: (row[1], row[0]), reverse=listing.descending)
    return ordered[: listing.limit]


def matching_rows(
    index: PointIndex, listing: Listing, candidates: Mapping[int, Sequence[_IndexedNode]]
) -> list[tuple[int, int]]:
    """(id, order value) of those of the nodes that a listing has, in no order.

    The candidates are ids, each with the contexts that its filter is to look at.
    """
    where, tables = listing.where, _TABLES[listing.kind]
    found = index.newest_of_each(tables.nodes, sorted(candidates), listing.as_of)
    rows = []
    for node_id, (_, payload) in found.items():
        node = read_message(tables.message, payload)
        if listing.type_id is not None and node.type_id != listing.type_id:
            continue
        if where is not None:
            candidate = _IndexedNode(node, tables, index, listing.as_of)
            if not candidate.matches(where, candidates[node_id]):
                continue
        value = getattr(node, _FIELDS.get(listing.order_by, listing.order_by))
        if listing.after is None or _is_after((value, node_id), listing):
            rows.append((node_id, value))
    return rows


def split_listing(listing: Listing, *, is_small: bool) -> Listing | None:
    """What to list first, to check the rest of the filter on; None where that does not help.

    In a store that is not small the tables join nodes with events faster than they are looked up.
    """
    where = listing.where
    if where is None or where.split is None or listing.limit is None:
        return None
    if where.split.of_event is not None and not is_small:
        return None
    return replace(listing, where=where.split.of_nodes, limit=_SPLIT_ROWS_MAX)


def rows_of_split(
    index: PointIndex, listing: Listing, rows: Sequence[tuple[int, int]]
) -> list[tuple[int, int]] | None:
    """The first of the rows found in the first step that the whole of the filter holds for.

    None when more rows would have to be looked at.
    """
    where, wanted = listing.where, listing.limit
    assert where is not None
    assert where.split is not None
    assert wanted is not None
    found: list[tuple[int, int]] = []
    for start in range(0, len(rows), _CANDIDATES_AT_ONCE):
        some = rows[start : start + _CANDIDATES_AT_ONCE]
        node_ids = [row[0] for row in some]
        if where.split.of_event is not None:
            matching = {*_having_event(index, listing, node_ids)}
        else:
            matching = {
                id_ for id_, _ in matching_rows(index, listing, dict.fromkeys(node_ids, ()))
            }
        found += [row for row in some if row[0] in matching]
        if len(found) >= wanted:
            return found[:wanted]
    return found if len(rows) < _SPLIT_ROWS_MAX else None


def _having_event(index: PointIndex, listing: Listing, node_ids: Sequence[int]) -> list[int]:
    """Those of the nodes that have an event as a split listing's filter wants it."""
    where = listing.where
    assert where is not None
    assert where.split is not None
    assert where.split.of_event is not None
    of_event, table = where.split.of_event, _EVENTS[listing.kind]
    events = index.values_of_each(table, node_ids, listing.as_of)
    return [
        node_id
        for node_id in node_ids
        if node_id in events
        and any(
            of_event(_BesideEvent(value), where.parameters) is True for value in events[node_id]
        )
    ]


def property_looked_up(listing: Listing) -> tuple[PropertyField, str, list[Any]] | None:
    """The property that narrows a listing's nodes, how it is compared, and with what.

    None when there is none, or the filter holds what only SQL evaluates.
    """
    where = listing.where
    if where is None or listing.context_id is not None or listing.node_ids is not None:
        return None
    look_up = where.of_nodes.look_up
    if look_up is None or where.of_nodes.evaluate is None or isinstance(look_up.field, str):
        return None
    if look_up.comparison != "=" and (where.of_nodes is where or listing.limit is None):
        # Half of all nodes may be in a range; where the filter says more, the tables find them
        # faster.
        return None
    values = look_up.values(where.parameters)
    return look_up.field, look_up.comparison, values


def listed_of(
    index: PointIndex, listing: Listing, node_ids: Sequence[Sequence[int]]
) -> list[tuple[int, int]] | None:
    """The rows of a listing among some nodes: sequences of ids, each ascending.

    None when too many of them would have to be looked at.
    """
    where = listing.where
    assert where is not None
    of_nodes = replace(listing, where=where.of_nodes)
    is_split = where.of_nodes is not where
    wanted = listing.limit if listing.order_by == "id" else None
    if wanted is None and sum(map(len, node_ids)) > _CANDIDATES_MAX:
        return None
    if listing.descending:
        node_ids = [ids[::-1] for ids in node_ids]
    merged = merge(*node_ids, reverse=listing.descending)
    candidates: Iterator[int] = (node_id for node_id, _ in groupby(merged))
    if listing.order_by == "id" and listing.after is not None:
        last_id = listing.after[1]
        passed = last_id.__le__ if listing.descending else last_id.__ge__
        candidates = dropwhile(passed, candidates)
    rows: list[tuple[int, int]] = []
    for _ in range(_CANDIDATES_MAX // _CANDIDATES_AT_ONCE + 1):
        some = [*islice(candidates, _CANDIDATES_AT_ONCE)]
        having = _having_event(index, listing, some) if is_split else some
        rows += matching_rows(index, of_nodes, dict.fromkeys(having, ()))
        if len(some) < _CANDIDATES_AT_ONCE or (wanted is not None and len(rows) >= wanted):
            return in_order(rows, listing)
    return None


def is_by_time(listing: Listing) -> bool:
    """Whether a listing is the first of all nodes by a time that match its filter, if any."""
    where = listing.where
    is_evaluated = where is None or (where.evaluate is not None and where.look_up is None)
    is_of_all = listing.context_id is None and listing.node_ids is None
    return listing.order_by != "id" and listing.limit is not None and is_evaluated and is_of_all


def listed_by_time(
    index: PointIndex,
    listing: Listing,
    node_ids: Sequence[int],
    others: Iterator[tuple[int, int]],
) -> list[tuple[int, int]] | None:
    """The first of some nodes and of others, whose (time, id) come in the order of the listing.

    The others need not have those times any more. None when too many of them would have to be
    looked at.
    """
    wanted = listing.limit
    assert wanted is not None
    rows = matching_rows(index, listing, dict.fromkeys(node_ids, ()))
    known = {*node_ids}
    others = (row for row in others if row[1] not in known)
    found = 0
    at_once = max(wanted, _CANDIDATES_AT_ONCE) if listing.where is not None else wanted
    for _ in range(0, 2 * wanted + _SPLIT_ROWS_MAX, at_once):
        some = {(node_id, time) for time, node_id in islice(others, at_once)}
        candidates = dict.fromkeys((node_id for node_id, _ in some), ())
        matching = [row for row in matching_rows(index, listing, candidates) if row in some]
        rows += matching
        found += len(matching)
        if len(some) < at_once or found >= wanted:
            return in_order(rows, listing)
    return None


def _candidates(index: PointIndex, listing: Listing) -> Mapping[int, Sequence[_IndexedNode]] | None:
    """The ids of all nodes that the listing can have, None when that cannot be told."""
    where = listing.where
    has_alias = where is not None and where.look_up_alias is not None
    if listing.node_ids is not None:
        return None if has_alias else dict.fromkeys(listing.node_ids, ())
    if listing.context_id is not None:
        if has_alias:
            return None
        table = _LINKED_BY_CONTEXT[listing.kind]
        return dict.fromkeys(index.ids(table, listing.context_id, listing.as_of), ())
    return None if where is None else _looked_up(index, listing.kind, where, listing.as_of)


def _is_after(row: tuple[int, int], listing: Listing) -> bool:
    assert listing.after is not None
    return row < listing.after if listing.descending else row > listing.after


def _looked_up(
    index: PointIndex, kind: str, where: FilterSql, as_of: int
) -> dict[int, list[_IndexedNode]] | None:
    """The ids of nodes that bear what a filter asks for, and perhaps of some that did.

    With the contexts that the look-up has found them in, if it has. None when they are too many.
    """
    look_up = where.look_up
    if look_up is None or not isinstance(look_up.field, str):
        return None
    values = look_up.values(where.parameters)
    if look_up.alias is None:
        node_ids = _bearing(index, kind, look_up.field, values, as_of)
        return None if node_ids is None else {node_id: [] for node_id in node_ids}
    context_ids = _bearing(index, kinds.CONTEXT, look_up.field, values, as_of)
    if context_ids is None or len(context_ids) > _CONTEXTS_MAX:
        return None
    contexts = _TABLES[kinds.CONTEXT]
    found: dict[int, list[_IndexedNode]] = {}
    for context_id in set(context_ids):
        stored = index.newest(contexts.nodes, context_id, as_of)
        if stored is None:
            continue
        context = _IndexedNode(read_message(mlmd.Context, stored[1]), contexts, index, as_of)
        for node_id in index.ids(_LINKED_BY_CONTEXT[kind], context_id, as_of):
            found.setdefault(node_id, []).append(context)
    return found


def _bearing(
    index: PointIndex, kind: str, field: str, values: list[Any], as_of: int
) -> list[int] | None:
    """The ids of the nodes that bear, or bore, one of the values in an indexed field."""
    tables = _TABLES[kind]
    match field:
        case "id":
            return [int(value) for value in values if math.isfinite(value)]
        case "external_id":
            table, keys = tables.external_ids, [hash64(value) for value in values]
        case "uri":
            # Artifacts without a uri have the empty one.
            if "" in values:
                return None
            table, keys = index_tables.ARTIFACT_URIS, [hash64(value) for value in values]
        case _:
            type_ids = list(index.keys(tables.types, as_of))
            if len(type_ids) * len(values) > _NAMES_MAX:
                return None
            table = tables.names
            named = [name_key(type_id, value) for type_id in type_ids for value in values]
            keys = [*index.known_keys(table, named)]
    return [node_id for key in keys for node_id in index.ids(table, key, as_of)]


@dataclass(frozen=True)
class _Tables:
    """A node kind's messages and tables of the point index."""

    message: Any
    type_message: Any
    nodes: int
    types: int
    names: int
    external_ids: int


_TABLES: Final = {
    kinds.ARTIFACT: _Tables(
        mlmd.Artifact,
        mlmd.ArtifactType,
        index_tables.ARTIFACTS,
        index_tables.ARTIFACT_TYPES,
        index_tables.ARTIFACT_NAMES,
        index_tables.ARTIFACT_EXTERNAL_IDS,
    ),
    kinds.EXECUTION: _Tables(
        mlmd.Execution,
        mlmd.ExecutionType,
        index_tables.EXECUTIONS,
        index_tables.EXECUTION_TYPES,
        index_tables.EXECUTION_NAMES,
        index_tables.EXECUTION_EXTERNAL_IDS,
    ),
    kinds.CONTEXT: _Tables(
        mlmd.Context,
        mlmd.ContextType,
        index_tables.CONTEXTS,
        index_tables.CONTEXT_TYPES,
        index_tables.CONTEXT_NAMES,
        index_tables.CONTEXT_EXTERNAL_IDS,
    ),
}
_LINKED_BY_CONTEXT: Final = {
    kinds.ARTIFACT: index_tables.ARTIFACTS_BY_CONTEXT,
    kinds.EXECUTION: index_tables.EXECUTIONS_BY_CONTEXT,
}
_EVENTS: Final = {
    kinds.ARTIFACT: index_tables.EVENTS_BY_ARTIFACT,
    kinds.EXECUTION: index_tables.EVENTS_BY_EXECUTION,
}
_FIELDS: Final = {
    "create_time": "create_time_since_epoch",
    "update_time": "last_update_time_since_epoch",
}
_PRESENT: Final = ("name", "external_id", "state")


class _IndexedNode:
    """A node of the point index as the tables would show it."""

    def __init__(self, node: Any, tables: _Tables, index: PointIndex, as_of: int) -> None:
        self._node = node
        self._tables = tables
        self._index = index
        self._as_of = as_of
        self._neighbour: Candidate | None = None

    def matches(self, where: FilterSql, neighbours: Sequence[_IndexedNode]) -> bool:
        """Whether a filter holds, with any of the neighbours if there are some."""
        assert where.evaluate is not None
        return self.has_all(where.properties) and any(
            where.evaluate(seen, where.parameters) is True for seen in self.beside(neighbours)
        )

    def beside(self, neighbours: Sequence[Candidate]) -> Iterator[_IndexedNode]:
        """The node with each of some neighbours in turn; once, if there are none to look at."""
        for self._neighbour in neighbours or (None,):
            yield self

    def neighbour(self) -> Candidate:
        assert self._neighbour is not None, "the filter looks up no neighbour"
        return self._neighbour

    def has_all(self, properties: Iterable[tuple[bool, str]]) -> bool:
        return all(name in self._properties(is_custom) for is_custom, name in properties)

    def column(self, name: str) -> Any:
        field = _FIELDS.get(name, name)
        if name == "state" and isinstance(self._node, mlmd.Execution):
            field = "last_known_state"
        if name in _PRESENT and not self._node.HasField(field):
            return None
        return getattr(self._node, field)

    def type_name(self) -> str:
        found = self._index.newest(self._tables.types, self._node.type_id, self._as_of)
        assert found is not None, f"type {self._node.type_id} of a node is not in the index"
        return _type_name(self._tables.type_message, found[1])

    def property(self, is_custom: bool, name: str, member: str, /) -> Any:
        value = self._properties(is_custom)[name]
        return getattr(value, member) if value.WhichOneof("value") == member else None

    def _properties(self, is_custom: bool) -> Any:
        return self._node.custom_properties if is_custom else self._node.properties


class _BesideEvent:
    """A node of which only one event is asked for."""

    def __init__(self, event: bytes) -> None:
        self._event = mlmd.Event.FromString(event)

    def neighbour(self) -> _BesideEvent:
        return self

    def column(self, name: str) -> Any:
        return getattr(self._event, "milliseconds_since_epoch" if name == "time" else name)

    def type_name(self) -> str:
        raise AssertionError("an event's type has no name of its own")

    def property(self, _is_custom: bool, _name: str, _member: str, /) -> Any:
        raise AssertionError("an event has no properties")


@lru_cache(maxsize=256)
def _type_name(type_message: Any, payload: bytes) -> str:
    name: str = read_message(type_message, payload).name
    return name
