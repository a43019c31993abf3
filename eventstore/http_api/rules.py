"""Holds, retention rules and erasures as of the moment, and what each of them covers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final, Protocol, TypeVar

import msgspec

from eventstore.answers import (
    DueAnswer,
    DueVersion,
    ErasedFile,
    PinnedNode,
    Refusal,
    RuleAnswer,
    Scope,
)
from eventstore.errors import InvalidArgumentError, NotFoundError
from eventstore.http_api.catalog import kept, node_kind, tables_rows
from eventstore.http_api.lists import NodeRow, node_rows
from eventstore.log import records_at
from eventstore.log.erased import Spans
from eventstore.log.kinds import ARTIFACT, CONTEXT, EXECUTION, NODE_KINDS, NodeKind
from eventstore.log.record import Position
from eventstore.metadata_store.source import Source
from eventstore.projections.filter import compile_filter
from eventstore.projections.index_tables import MEMBERS_OF, TABLES_OF
from eventstore.projections.lineage import walk
from eventstore.projections.listing import Listing
from eventstore.projections.listing_sql import listing_sql
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import retention_pb2 as retention
from eventstore.retention.expiry import due
from eventstore.retention.guards import holds_in_force
from eventstore.retention.holds import HoldAnswer, hold
from eventstore.retention.holds import holds as holds_as_of
from eventstore.retention.precedence import ChosenVersion, locks
from eventstore.retention.rules import rule
from eventstore.retention.rules import rules as rules_as_of
from eventstore.retention.scopes import nodes_in_scope, scope_of
from eventstore.store.erasures import StoredErasure, actor_at, erasure_as_of, erasures_as_of
from eventstore.times import Microseconds, moment_of, now_in_microseconds

COVERED_MAX: Final = 10_000
"""So many nodes are found that a hold or rule covers; then it is said that there are more."""

_WALKED_MAX: Final = 2_000
_HOPS_MAX: Final = 2**62


class _Numbered(Protocol):
    @property
    def number(self) -> int: ...


_T = TypeVar("_T")
_N = TypeVar("_N", bound=_Numbered)


class Coverage(msgspec.Struct, frozen=True):
    """How many nodes a hold or rule covers as of the moment, by kind.

    `upstream` counts those that led to what a hold is about, which it covers as well. Where it is
    not complete, there are more.
    """

    in_scope: dict[str, int]
    upstream: dict[str, int]
    is_complete: bool


class HoldRow(msgspec.Struct, frozen=True):
    """A hold, and how much it covers; nothing once it is released."""

    hold: HoldAnswer
    covers: Coverage | None


class RuleRow(msgspec.Struct, frozen=True):
    """A retention rule, who recorded it as it is, and how much is in its scope."""

    rule: RuleAnswer
    recorded_by: str | None
    covers: Coverage | None


class ErasureRow(msgspec.Struct, frozen=True):
    """An erasure: its stage, who asked for it and why, and what was destroyed.

    `contents` and `whos` are how many records lose their content, or who put them. `files` has the
    hashes of rewritten files once it is completed.
    """

    number: int
    stage: str
    basis: str
    ticket: str
    position: int
    requested_at: datetime
    actor: str | None
    proposed_by: str | None
    completed_position: int | None
    completed_at: datetime | None
    contents: int
    whos: int
    first_position: int | None
    last_position: int | None
    files: list[ErasedFile]


class ExpiredPage(msgspec.Struct, frozen=True):
    """Some of what has expired: `due` would go; `refused` is held or locked; `pinned` is in use.

    The counts are of all of it, in this order.
    """

    due_count: int
    refused_count: int
    pinned_count: int
    due: list[DueVersion]
    refused: list[Refusal]
    pinned: list[PinnedNode]


class ExpiredPlace(msgspec.Struct, array_like=True, frozen=True):
    """Where a page of what has expired begins: as of a position and a time, after so many."""

    position: int
    now: int
    passed: int


class CoveredNode(msgspec.Struct, frozen=True):
    """A node that a hold or rule covers: it is in scope, or upstream of what is."""

    node: NodeRow
    is_upstream: bool


class ErasedRecord(msgspec.Struct, frozen=True):
    """A record that an erasure is of, and what it takes of it."""

    kind: str
    id: int
    position: int
    content: bool
    who: bool
    redacted: list[str]
    replaced_by: int | None


class Covering(msgspec.Struct, frozen=True):
    """What protects an entity as of the moment: holds that cover it, and locks until a time.

    Where it is not complete, more led on from it than was followed.
    """

    holds: list[Refusal]
    locks: list[Refusal]
    is_complete: bool


def holds(source: Source, *, after: int = 0, limit: int = 50) -> tuple[list[HoldRow], int | None]:
    """Holds as of the moment, by number, after one of a number, and the number that leads on."""
    page, last = _page(holds_as_of(source.log, source.snapshot()), after, limit)
    rows = [
        HoldRow(
            one,
            None
            if one.stage == "released"
            else _coverage(source, ("hold", one.number), one.scope, upstream=True),
        )
        for one in page
    ]
    return rows, last


def rules(source: Source, *, after: int = 0, limit: int = 50) -> tuple[list[RuleRow], int | None]:
    """Retention rules as of the moment, by number, as `holds` lists holds."""
    page, last = _page(rules_as_of(source.log, source.snapshot()), after, limit)
    rows = [
        RuleRow(
            one,
            actor_at(source.log, one.position),
            None
            if one.is_withdrawn
            else _coverage(source, ("rule", one.number), one.scope, upstream=False),
        )
        for one in page
    ]
    return rows, last


def erasures(
    source: Source, *, after: int = 0, limit: int = 50
) -> tuple[list[ErasureRow], int | None]:
    """Erasures as of the moment, by number, as `holds` lists holds."""
    found = erasures_as_of(source.projections.index, source.position())
    page, last = _page(found, after, limit)
    return [_erasure_row(source, one) for one in page], last


def expired(source: Source) -> DueAnswer:
    """What `eventstore retention apply --dry-run` tells: what is due now, and what keeps it."""
    return due(source.log, source.engine.snapshot(), now_in_microseconds())


def expired_page(
    source: Source, after: ExpiredPlace | None = None, limit: int = 50
) -> tuple[ExpiredPage, ExpiredPlace | None]:
    """So much of what `expired` tells, from a place on, and the place that follows.

    All pages are of the position and the time of the first one. Each finds out anew what is due.
    """
    if after is None:
        after = ExpiredPlace(source.engine.snapshot().position, now_in_microseconds(), 0)
    snapshot = source.engine.snapshot(as_of=Position(after.position))
    told = due(source.log, snapshot, Microseconds(after.now))
    start, end = after.passed, after.passed + limit
    refused_from = len(told.due)
    pinned_from = refused_from + len(told.refused)
    count = pinned_from + len(told.pinned)

    def part(one: list[_T], begin: int) -> list[_T]:
        return one[max(0, start - begin) : max(0, end - begin)]

    page = ExpiredPage(
        len(told.due),
        len(told.refused),
        len(told.pinned),
        part(told.due, 0),
        part(told.refused, refused_from),
        part(told.pinned, pinned_from),
    )
    return page, msgspec.structs.replace(after, passed=end) if end < count else None


def covered(
    source: Source, by: str, number: int, *, after: int = 0, limit: int = 50
) -> tuple[list[CoveredNode], int | None]:
    """The nodes that a `hold` or `rule` covers, from a place on, and the place that follows.

    Raises NotFoundError for an unknown one.
    """
    snapshot = source.snapshot()
    of = hold(source.log, snapshot, number) if by == "hold" else rule(source.log, snapshot, number)
    found, _ = _covered(source, (by, number), of.scope, upstream=by == "hold")
    page = found[after : after + limit]
    rows = {
        (row.kind, row.id): row
        for kind in NODE_KINDS
        for row in node_rows(source, kind, [id_ for of, id_, _ in page if of == kind.name], ())
    }
    nodes = [CoveredNode(rows[of, id_], is_upstream) for of, id_, is_upstream in page]
    return nodes, after + limit if after + limit < len(found) else None


def erased_records(
    source: Source, number: int, *, after: int = 0, limit: int = 50
) -> tuple[list[ErasedRecord], int | None]:
    """The records that an erasure is of, after a position, and the position that leads on.

    Raises NotFoundError for an unknown one.
    """
    stored = erasure_as_of(source.projections.index, number, source.position())
    if stored is None:
        raise NotFoundError(f"there is no erasure {number} at position {source.position()}")
    ranges = sorted(stored.message.ranges, key=lambda one: one.first_position)
    spans = Spans.of((one.first_position, one.last_position) for one in ranges)
    left = spans.within(after + 1, 2**62)
    page = Spans.of((at, at) for at in islice(left.positions(), limit))
    found = []
    for batch in records_at(source.log, page, ["position", "kind", "entity_id"]):
        for row in batch.to_pylist():
            position = row["position"]
            of = next(r for r in ranges if r.first_position <= position <= r.last_position)
            found.append(
                ErasedRecord(
                    row["kind"],
                    row["entity_id"],
                    position,
                    of.content,
                    of.who,
                    list(of.redacted_properties),
                    of.replaced_by or None,
                )
            )
    return found, page.lasts[-1] if page and len(left) > len(page) else None


def covering(source: Source, kind: str, node_id: int) -> Covering:
    """What protects a node, in its newest version as of the moment, from being erased."""
    of_kind, snapshot = node_kind(kind), source.snapshot()
    found = snapshot.newest(TABLES_OF[of_kind].stored, node_id)
    if found is None:
        raise NotFoundError(f"no {kind} has id {node_id}")
    one = ChosenVersion(kind, node_id, found[0])
    locked = [*locks(source.log, snapshot, [one], now_in_microseconds())]
    in_force = [*holds_in_force(snapshot)]
    if not in_force:
        return Covering([], locked, is_complete=True)
    ids, is_complete = _downstream(source, of_kind, node_id)
    held = []
    for first, current in in_force:
        scope = scope_of(first.message.scope)
        if any(nodes_in_scope(snapshot, scope, of, ids[of], first.position) for of in NODE_KINDS):
            proposed = None if current is first else current.position
            said = first.message
            held.append(
                Refusal(
                    by="hold",
                    number=said.id,
                    recorded_at_position=first.position,
                    kind=kind,
                    id=node_id,
                    position=found[0],
                    basis=said.basis,
                    ticket=said.ticket,
                    release_proposed_at=proposed,
                )
            )
    return Covering(held, locked, is_complete)


def _downstream(
    source: Source, kind: NodeKind, node_id: int
) -> tuple[dict[NodeKind, set[int]], bool]:
    """A node and what it led to, by kind, and whether that is all of it."""
    ids: dict[NodeKind, set[int]] = {of: set() for of in NODE_KINDS}
    ids[kind].add(node_id)
    if kind is CONTEXT:
        return ids, True
    walked = walk(
        source.projections,
        as_of=source.position(),
        starting_kind=kind.name,
        starting_ids=[node_id],
        max_num_hops=_HOPS_MAX,
        direction=mlmd.LineageSubgraphQueryOptions.DOWNSTREAM,
        endings={},
        max_nodes=_WALKED_MAX,
    )
    ids[ARTIFACT] |= walked.artifact_ids
    ids[EXECUTION] |= walked.execution_ids
    return ids, not walked.left_out


def _coverage(source: Source, what: tuple[str, int], scope: Scope, *, upstream: bool) -> Coverage:
    found, is_complete = _covered(source, what, scope, upstream=upstream)

    def counted(is_upstream: bool) -> dict[str, int]:
        of_each = {kind.name: 0 for kind in NODE_KINDS}
        for kind, _, beyond in found:
            of_each[kind] += beyond is is_upstream
        return of_each

    return Coverage(counted(False), counted(True), is_complete)


_Found = tuple[list[tuple[str, int, bool]], bool]


def _covered(source: Source, what: tuple[str, int], scope: Scope, *, upstream: bool) -> _Found:
    """The kind and id of each node in scope, then of those upstream; and whether these are all."""
    return kept(source, ("covered", *what), lambda: _found(source, scope, upstream=upstream))


def _found(source: Source, scope: Scope, *, upstream: bool) -> _Found:
    ids: dict[NodeKind, list[int]] = {}
    left = COVERED_MAX
    for kind in NODE_KINDS:
        ids[kind] = _in_scope(source, scope, kind, left + 1)
        left -= len(ids[kind])
        if left < 0:
            ids[kind] = ids[kind][:left]
            return [(of.name, id_, False) for of in ids for id_ in ids[of]], False
    found = [(kind.name, id_, False) for kind in ids for id_ in ids[kind]]
    is_complete, beyond = True, dict[NodeKind, set[int]]()
    if upstream:
        for kind in (ARTIFACT, EXECUTION):
            walked = walk(
                source.projections,
                as_of=source.position(),
                starting_kind=kind.name,
                starting_ids=ids[kind],
                max_num_hops=_HOPS_MAX,
                direction=mlmd.LineageSubgraphQueryOptions.UPSTREAM,
                endings={},
                max_nodes=COVERED_MAX,
            )
            is_complete &= not walked.left_out
            beyond[ARTIFACT] = beyond.get(ARTIFACT, set()) | walked.artifact_ids
            beyond[EXECUTION] = beyond.get(EXECUTION, set()) | walked.execution_ids
    for kind, reached in beyond.items():
        found += [(kind.name, id_, True) for id_ in sorted(reached - {*ids[kind]})]
    return found[:COVERED_MAX], is_complete and len(found) <= COVERED_MAX


def _in_scope(source: Source, scope: Scope, kind: NodeKind, limit: int) -> list[int]:
    """The first nodes of a kind that are in scope as of the moment, by id."""
    if scope.kinds and kind.name not in scope.kinds:
        return []
    conditions = ["valid_from <= $as_of AND valid_to > $as_of"]
    parameters: dict[str, Any] = {"limit": limit}
    if scope.entities:
        conditions.append("id IN (SELECT unnest($ids))")
        parameters["ids"] = [id_ for of, id_ in scope.entities if of == kind.name]
    if scope.type_ids:
        conditions.append("type_id IN (SELECT unnest($type_ids))")
        parameters["type_ids"] = list(scope.type_ids)
    if scope.context_ids:
        conditions.append("id IN (SELECT unnest($members))")
        parameters["members"] = _members(source, scope.context_ids, kind)
    if scope.filter_query:
        try:
            where = compile_filter(scope.filter_query, kind.name)
        except InvalidArgumentError:
            # It is for nodes of another kind.
            return []
        sql, bound = listing_sql(Listing(kind, source.position(), where=where), is_now=False)
        parameters |= bound
        conditions.append(f"id IN (SELECT id FROM ({sql}) AS listed(id, value))")
    sql = f"SELECT id FROM {kind.name}s WHERE {' AND '.join(conditions)} ORDER BY id LIMIT $limit"
    return [row[0] for row in tables_rows(source, sql, parameters)]


def _members(source: Source, context_ids: Iterable[int], kind: NodeKind) -> list[int]:
    if kind is CONTEXT:
        return [*context_ids]
    snapshot = source.snapshot()
    return [id_ for of in context_ids for id_ in snapshot.linked_ids(MEMBERS_OF[kind], of)]


def _page(found: Sequence[_N], after: int, limit: int) -> tuple[Sequence[_N], int | None]:
    """Those after a number, and the number that leads on to the rest."""
    left = [one for one in found if one.number > after]
    page = left[:limit]
    return page, page[-1].number if len(left) > len(page) else None


def _erasure_row(source: Source, stored: StoredErasure) -> ErasureRow:
    log, message = source.log, stored.message
    asked = stored.requested_at or stored.position
    is_completed = message.stage == retention.Erasure.COMPLETED
    erased = stored.erased
    both = erased.content.union(erased.who)
    return ErasureRow(
        stored.number,
        retention.Erasure.Stage.Name(message.stage).lower(),
        message.basis,
        message.ticket,
        asked,
        moment_of(log.recorded_at(asked)),
        actor_at(log, asked),
        None if stored.proposed_at is None else actor_at(log, stored.proposed_at),
        stored.position if is_completed else None,
        moment_of(log.recorded_at(stored.position)) if is_completed else None,
        len(erased.content),
        len(erased.who),
        both.firsts[0] if both else None,
        both.lasts[-1] if both else None,
        [
            ErasedFile(
                file.segment, old_sha256=file.old_sha256.hex(), new_sha256=file.new_sha256.hex()
            )
            for file in message.files
        ],
    )
