"""Walk the graph of artifacts, executions and the events between them, as of a position."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from eventstore.log import record as kinds
from eventstore.projections.filter import FilterSql
from eventstore.projections.index_tables import EVENTS_BY_ARTIFACT, EVENTS_BY_EXECUTION
from eventstore.projections.projections import Projections
from eventstore.proto import metadata_store_pb2 as mlmd

_Query = mlmd.LineageSubgraphQueryOptions

INPUTS = frozenset((mlmd.Event.INPUT, mlmd.Event.DECLARED_INPUT, mlmd.Event.INTERNAL_INPUT))
OUTPUTS = frozenset(
    (
        mlmd.Event.OUTPUT,
        mlmd.Event.DECLARED_OUTPUT,
        mlmd.Event.INTERNAL_OUTPUT,
        mlmd.Event.PENDING_OUTPUT,
    )
)


@dataclass(frozen=True)
class Ending:
    """Nodes of a kind at which a walk stops, and whether they are part of the answer."""

    where: FilterSql
    is_included: bool


@dataclass
class Walked:
    """What a walk reached: ids by kind, and the events on the way in the order of the levels."""

    artifact_ids: set[int] = field(default_factory=set)
    execution_ids: set[int] = field(default_factory=set)
    events: list[mlmd.Event] = field(default_factory=list)


def walk(
    projections: Projections,
    *,
    as_of: int,
    starting_kind: str,
    starting_ids: Iterable[int],
    max_num_hops: int,
    direction: int,
    endings: dict[str, Ending],
) -> Walked:
    """Breadth-first from the starting nodes; a hop is from node over event to the other kind.

    `direction` is a value of LineageSubgraphQueryOptions.Direction; `endings` are by node kind. A
    node is expanded once. The events are those that were walked over, and, in a walk up or down,
    those that lead back to a node reached before.
    """
    reached: dict[str, set[int]] = {kinds.ARTIFACT: set(), kinds.EXECUTION: set()}
    hidden: dict[str, set[int]] = {kinds.ARTIFACT: set(), kinds.EXECUTION: set()}
    walked = Walked()
    seen_events: set[tuple[int, int, int]] = set()
    kind, level = starting_kind, sorted(set(starting_ids))
    reached[kind].update(level)
    level = _without_endings(projections, as_of, kind, level, endings, hidden)
    for _ in range(max_num_hops):
        if not level:
            break
        other = kinds.EXECUTION if kind == kinds.ARTIFACT else kinds.ARTIFACT
        events = [
            event
            for event in _events_of(projections, as_of, kind, level)
            if _leads(event, kind, direction)
        ]
        before = set(reached[other])
        found = {_end(event, other) for event in events} - before
        reached[other] |= found
        next_level = _without_endings(projections, as_of, other, sorted(found), endings, hidden)
        is_directed = direction in (_Query.UPSTREAM, _Query.DOWNSTREAM)
        for event in events:
            key = (event.artifact_id, event.execution_id, event.type)
            end = _end(event, other)
            if key in seen_events or end in hidden[other] or (end in before and not is_directed):
                continue
            seen_events.add(key)
            walked.events.append(event)
        kind, level = other, next_level
    walked.artifact_ids = reached[kinds.ARTIFACT] - hidden[kinds.ARTIFACT]
    walked.execution_ids = reached[kinds.EXECUTION] - hidden[kinds.EXECUTION]
    return walked


def _without_endings(
    projections: Projections,
    as_of: int,
    kind: str,
    ids: list[int],
    endings: dict[str, Ending],
    hidden: dict[str, set[int]],
) -> list[int]:
    """The nodes to walk on from; ending ones that are not part of the answer become hidden."""
    ending = endings.get(kind)
    if ending is None or not ids:
        return ids
    ends = projections.matching_ids(kind, ids, ending.where, as_of)
    if not ending.is_included:
        hidden[kind] |= ends
    return [node_id for node_id in ids if node_id not in ends]


def _events_of(projections: Projections, as_of: int, kind: str, ids: list[int]) -> list[mlmd.Event]:
    """In the order of the gets of events: executions' as put, artifacts' by execution and type."""
    table = EVENTS_BY_ARTIFACT if kind == kinds.ARTIFACT else EVENTS_BY_EXECUTION
    events = [
        mlmd.Event.FromString(payload)
        for node_id in ids
        for _, payload in projections.index.entries(table, node_id, as_of)
    ]
    if kind == kinds.ARTIFACT:
        events.sort(key=lambda event: (event.artifact_id, event.execution_id, event.type))
    return events


def _leads(event: mlmd.Event, from_kind: str, direction: int) -> bool:
    """Whether the event leads on from its node of a kind."""
    if direction == _Query.UPSTREAM:
        return event.type in (OUTPUTS if from_kind == kinds.ARTIFACT else INPUTS)
    if direction == _Query.DOWNSTREAM:
        return event.type in (INPUTS if from_kind == kinds.ARTIFACT else OUTPUTS)
    return True


def _end(event: mlmd.Event, kind: str) -> int:
    return event.artifact_id if kind == kinds.ARTIFACT else event.execution_id
