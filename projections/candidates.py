"""All nodes that can be in a listing, where the point index or held values tell them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from heapq import merge
from itertools import chain, dropwhile, groupby
from typing import Any

from eventstore.log.kinds import CONTEXT, NodeKind
from eventstore.projections.filter.filter_sql import (
    ContextLookUp,
    FieldLookUp,
    FilterSql,
    PropertyLookUp,
    RangeLookUp,
)
from eventstore.projections.held_values import HeldValues
from eventstore.projections.index_tables import (
    ARTIFACT_URIS,
    MEMBERS_OF,
    TABLES_OF,
    hash64,
    name_key,
)
from eventstore.projections.judging import (
    Candidates,
    JudgedNode,
    NeighboursOf,
    judged_contexts,
    neighbours_in_index,
)
from eventstore.projections.limits import CandidateLimits
from eventstore.projections.listing import AllNodes, InContext, Listing, NodeIds
from eventstore.projections.point_index import PointIndex


class NoneFoundError(Exception):
    """No few nodes are known to hold all of a listing; says why."""


class CandidateFinder:
    """Looks candidates up as of one listing."""

    def __init__(
        self, index: PointIndex, held: HeldValues, listing: Listing, limits: CandidateLimits
    ) -> None:
        self._index = index
        self._held = held
        self._listing = listing
        self._limits = limits

    def candidates(self) -> Candidates:
        """The candidates of a listing. Raises NoneFoundError."""
        listing = self._listing
        where = listing.where
        if where is not None and where.evaluate is None:
            raise NoneFoundError("the filter holds what only SQL evaluates")
        match listing.among:
            case NodeIds(node_ids):
                return self._few(f"{len(node_ids):,} given ids", {*node_ids})
            case InContext(context_id):
                members = self._index.ids(MEMBERS_OF[listing.kind], context_id, listing.as_of)
                return self._few(f"the nodes of context {context_id}", {*members})
            case AllNodes():
                return self._page_by_id() if where is None else self._looked_up(where)

    def _page_by_id(self) -> Candidates:
        """The next ids, of which few are missing."""
        listing = self._listing
        if listing.order_by != "id" or listing.limit is None or listing.type_id is not None:
            raise NoneFoundError("all nodes are asked for, but not a page of them by id")
        node_ids = listing.ids(self._index.highest_id(listing.kind.sequence))
        at_once = max(1, min(listing.limit, len(node_ids)))
        nodes_max = self._limits.gaps_max * at_once
        count = min(len(node_ids), nodes_max)
        return Candidates("a page of all nodes by id", count, node_ids, nodes_max, at_once, None)

    def _looked_up(self, where: FilterSql) -> Candidates:
        """What the filter's look-up leads to."""
        listing, look_up = self._listing, where.look_up
        if look_up is None:
            raise NoneFoundError("the filter asks for no value that is looked up")
        match look_up:
            case FieldLookUp(field):
                found = self._bearing(listing.kind, field, where.looked_up_values(look_up))
                return self._few(f"look-up by {field}", {*found})
            case ContextLookUp(field):
                contexts = self._in_contexts(look_up, where.looked_up_values(look_up))
                return self._few(f"look-up by context {field}", contexts, lambda _: contexts)
            case PropertyLookUp(asked) | RangeLookUp(asked):
                wanted = where.looked_up_spans(look_up)
                parts = self._held.nodes_bearing(listing.kind.name, asked, wanted)
                if parts is None:
                    raise NoneFoundError(f"values of property {asked.name!r} are not held")
                reason = f"held values of property {asked.name!r}"
                if isinstance(look_up, RangeLookUp):
                    count = sum(map(len, parts))
                    if count > self._limits.sorted_max:
                        raise NoneFoundError(f"{reason}: {count:,} are too many to put in order")
                    parts = [*map(sorted, parts)]
                in_all = self._index.highest_id(listing.kind.sequence)
                limits = self._limits
                nodes_max = limits.held_min + in_all // limits.held_share
                return self._among(reason, parts, nodes_max=min(nodes_max, limits.nodes_max))

    def _few(
        self, reason: str, node_ids: Collection[int], neighbours_of: NeighboursOf | None = None
    ) -> Candidates:
        if len(node_ids) > self._limits.nodes_max:
            raise NoneFoundError(f"{reason}: {len(node_ids):,} are too many to judge")
        return self._among(reason, [sorted(node_ids)], neighbours_of)

    def _among(
        self,
        reason: str,
        parts: Sequence[Sequence[int]],
        neighbours_of: NeighboursOf | None = None,
        *,
        nodes_max: int | None = None,
    ) -> Candidates:
        """The nodes of sequences of ids, each ascending, which are not walked to their ends."""
        listing, limits = self._listing, self._limits
        if nodes_max is None:
            nodes_max = limits.nodes_max
        count = sum(map(len, parts))
        is_cut = listing.order_by == "id" and listing.limit is not None
        if count > nodes_max and not is_cut:
            raise NoneFoundError(f"{reason}: {count:,} are too many to judge")
        parts = [ids[::-1] if listing.descending else ids for ids in parts if ids]
        merged = merge(*parts, reverse=listing.descending) if len(parts) > 1 else chain(*parts)
        node_ids: Iterable[int] = (node_id for node_id, _ in groupby(merged))
        if listing.order_by == "id" and listing.after is not None:
            last_id = listing.after[1]
            is_passed = last_id.__le__ if listing.descending else last_id.__ge__
            node_ids = dropwhile(is_passed, node_ids)
        if neighbours_of is None:
            neighbours_of = neighbours_in_index(self._index, listing, limits.neighbours_max)
        return Candidates(reason, count, node_ids, nodes_max, limits.at_once, neighbours_of)

    def _in_contexts(
        self, look_up: ContextLookUp, values: list[Any]
    ) -> Mapping[int, Sequence[JudgedNode]]:
        """By node the contexts that bear one of the values."""
        listing = self._listing
        context_ids = {*self._bearing(CONTEXT, look_up.field, values)}
        if len(context_ids) > self._limits.contexts_max:
            raise NoneFoundError(f"{len(context_ids):,} contexts are too many to look into")
        found: dict[int, list[JudgedNode]] = {}
        contexts = judged_contexts(self._index, context_ids, listing.as_of)
        for context_id, context in contexts.items():
            for node_id in self._index.ids(MEMBERS_OF[listing.kind], context_id, listing.as_of):
                found.setdefault(node_id, []).append(context)
        return found

    def _bearing(self, kind: NodeKind, field: str, values: list[Any]) -> list[int]:
        """The ids of the nodes that bear, or bore, one of the values in an indexed field."""
        index, as_of, tables = self._index, self._listing.as_of, TABLES_OF[kind]
        match field:
            case "id":
                return [int(value) for value in values if math.isfinite(value)]
            case "external_id":
                table, keys = tables.external_ids, [hash64(value) for value in values]
            case "uri":
                if "" in values:
                    raise NoneFoundError("artifacts without a uri have the empty one")
                table, keys = ARTIFACT_URIS, [hash64(value) for value in values]
            case _:
                type_ids = list(index.keys(TABLES_OF[kind.type].stored, as_of))
                if len(type_ids) * len(values) > self._limits.names_max:
                    raise NoneFoundError("too many names and types to look up")
                table = tables.names
                named = [name_key(type_id, value) for type_id in type_ids for value in values]
                keys = [*index.known_keys(table, named)]
        return [node_id for key in keys for node_id in index.ids(table, key, as_of)]
