"""Walk the graph of artifacts, executions and the events between them, as of a position."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from eventstore.cancellation import check_wanted
from eventstore.log import record as kind_names
from eventstore.log.kinds import ARTIFACT, EXECUTION, NodeKind
from eventstore.log.record import Position
from eventstore.projections.index_tables import EVENTS_OF
from eventstore.projections.listing import Listing, NodeIds
from eventstore.projections.point_index import PointIndex
from eventstore.projections.projections import Projections
from eventstore.proto import metadata_store_pb2 as mlmd

if TYPE_CHECKING:
    from eventstore.projections.filter import FilterSql

_Query = mlmd.LineageSubgraphQueryOptions
_NODE_KINDS = {kind.name: kind for kind in (ARTIFACT, EXECUTION)}

INPUTS = frozenset((mlmd.Event.INPUT, mlmd.Event.DECLARED_INPUT, mlmd.Event.INTERNAL_INPUT))
OUTPUTS = frozenset(
    (
        mlmd.Event.OUTPUT,
        mlmd.Event.DECLARED_OUTPUT,
        mlmd.Event.INTERNAL_OUTPUT,
        mlmd.Event.PENDING_OUTPUT,
    )
)


class Ending(msgspec.Struct, frozen=True):
    """Nodes of a kind at which a walk stops, and whether they are part of the answer.

    `where` compiles the filter that tells them: like upstream, only when there are nodes to tell.
    """

    where: Callable[[], FilterSql]
    is_included: bool


class Walked(msgspec.Struct, frozen=True):
    """What a walk reached: ids by kind, and the events on the way in the order of the levels."""

    artifact_ids: set[int]
    execution_ids: set[int]
    events: list[mlmd.Event]
    left_out: int = 0
    """How many nodes were found beyond the greatest number; the walk ended with them."""
    unfollowed: frozenset[tuple[str, int]] = frozenset()
    """By kind and id: the last nodes of such a walk, whose own neighbours were not looked at."""


def walk(
    projections: Projections,
    *,
    as_of: Position,
    starting_kind: str,
    starting_ids: Iterable[int],
    max_num_hops: int,
    direction: int,
    endings: dict[str, Ending],
    max_nodes: int | None = None,
) -> Walked:
    """Breadth-first from the starting nodes; a hop is from node over event to the other kind.

    `direction` is a value of LineageSubgraphQueryOptions.Direction; `endings` are by node kind. A
    node is expanded once. The events are those that were walked over, and, in a walk up or down,
    those that lead back to a node reached before. With `max_nodes` the walk stops at the hop that
    exceeds that number; of this hop's nodes the newest are taken.
    """
    visited: dict[str, set[int]] = {kind: set() for kind in _NODE_KINDS}
    ended: dict[str, set[int]] = {kind: set() for kind in _NODE_KINDS}
    walked_events: dict[tuple[int, int, int], mlmd.Event] = {}
    is_directed = direction in (_Query.UPSTREAM, _Query.DOWNSTREAM)
    kind, found = starting_kind, set(starting_ids)
    left_out = 0
    unfollowed = frozenset[tuple[str, int]]()
    for hop in range(max_num_hops + 1):
        ends = _ends(projections, as_of, kind, found, endings)
        ended[kind] |= ends
        level = sorted(found - ends)
        visited[kind].update(level)
        if not level or hop == max_num_hops:
            break
        other = kind_names.EXECUTION if kind == kind_names.ARTIFACT else kind_names.ARTIFACT
        events = [
            event
            for event in events_of(projections.index, as_of, _NODE_KINDS[kind], level)
            if _leads(event, kind, direction)
        ]
        # An ending node is never visited: every way to it counts.
        found = {_end(event, other) for event in events} - visited[other]
        if max_nodes is not None:
            known = sum(map(len, visited.values())) + sum(map(len, ended.values()))
            left_out = max(0, len(found) + known - max_nodes)
            if left_out:
                found = set(sorted(found)[left_out:])
                max_num_hops = hop + 1
                unfollowed = frozenset((other, node_id) for node_id in found)
        for event in events:
            if _end(event, other) in found or is_directed:
                key = (event.artifact_id, event.execution_id, event.type)
                walked_events.setdefault(key, event)
        kind = other
    hidden = {
        kind: ended[kind] if kind in endings and not endings[kind].is_included else set[int]()
        for kind in ended
    }
    shown = {kind: (visited[kind] | ended[kind]) - hidden[kind] for kind in hidden}
    events = [
        event
        for event in walked_events.values()
        if event.artifact_id not in hidden[kind_names.ARTIFACT]
        and event.execution_id not in hidden[kind_names.EXECUTION]
    ]
    artifact_ids, execution_ids = shown[kind_names.ARTIFACT], shown[kind_names.EXECUTION]
    return Walked(artifact_ids, execution_ids, events, left_out, unfollowed)


def events_of(
    index: PointIndex, as_of: Position, kind: NodeKind, ids: Iterable[int]
) -> list[mlmd.Event]:
    """The events of artifacts by artifact id, execution id and type, or of executions as put."""
    events = list[mlmd.Event]()
    for node_id in ids:
        check_wanted()
        found = index.entries(EVENTS_OF[kind], node_id, as_of)
        events += [mlmd.Event.FromString(payload) for _, payload in found]
    if kind is ARTIFACT:
        events.sort(key=lambda event: (event.artifact_id, event.execution_id, event.type))
    return events


def _ends(
    projections: Projections,
    as_of: Position,
    kind: str,
    ids: set[int],
    endings: dict[str, Ending],
) -> set[int]:
    """Those of the nodes at which the walk ends."""
    if kind not in endings or not ids:
        return set()
    listing = Listing(
        _NODE_KINDS[kind], as_of, among=NodeIds(sorted(ids)), where=endings[kind].where()
    )
    return {node_id for node_id, _ in projections.planner.find(listing).rows}


def _leads(event: mlmd.Event, from_kind: str, direction: int) -> bool:
    """Whether the event leads on from its node of a kind."""
    if direction == _Query.UPSTREAM:
        return event.type in (OUTPUTS if from_kind == kind_names.ARTIFACT else INPUTS)
    if direction == _Query.DOWNSTREAM:
        return event.type in (INPUTS if from_kind == kind_names.ARTIFACT else OUTPUTS)
    return True


def _end(event: mlmd.Event, kind: str) -> int:
    return event.artifact_id if kind == kind_names.ARTIFACT else event.execution_id
