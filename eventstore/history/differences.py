"""What differs between two moments, entity by entity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eventstore.errors import InvalidArgumentError
from eventstore.history.fields import FieldChange, field_changes, parsed
from eventstore.history.marks import ErasedBy, marks_of
from eventstore.lineage import Edge, Graph, GraphNode, closure
from eventstore.lineage.walks import part_of
from eventstore.log import Log, Position, Record
from eventstore.log.record import ENTITY_KIND_NAMES
from eventstore.projections import Projections
from eventstore.projections.erased_nodes import Tombstone
from eventstore.projections.index_tables import STORED_TABLES, Entry
from eventstore.repr_html import ShownInNotebooks, ShownList
from eventstore.store.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class EntityDifference(ShownInNotebooks):
    """An entity that is new or different. `before` is None when it is new; nothing ever goes.

    What was erased of it, at either moment, is in `erasures`; it is told with no fields then, since
    nobody knows whether it is different.
    """

    kind: str
    id: int
    before: Any
    after: Any
    fields: tuple[FieldChange, ...]
    erasures: tuple[ErasedBy, ...] = ()

    @property
    def is_new(self) -> bool:
        """Whether it was not there at the first moment."""
        return self.before is None


@dataclass(frozen=True, slots=True)
class LineageDifference(ShownInNotebooks):
    """How the lineage of a node differs: what has been added to it, and what in it has changed.

    Where `after.left_out` is not 0, it is that of the nodes of `after` alone. `erasures` tells what
    was erased of these, at either moment, by kind and id.
    """

    before: Graph
    after: Graph
    new_nodes: tuple[GraphNode, ...]
    new_edges: tuple[Edge, ...]
    changed: tuple[EntityDifference, ...]
    erasures: Mapping[tuple[str, int], tuple[ErasedBy, ...]]


def differences(
    log: Log, projections: Projections, first: Position, second: Position
) -> list[EntityDifference]:
    """What differs as of two positions, by kind and id. Raises InvalidArgumentError if swapped."""
    if first > second:
        raise InvalidArgumentError(
            f"the first moment (position {first}) is later than the second ({second}): swap them"
        )
    touched: dict[tuple[str, int], None] = {}
    links = []
    for commit in log.commits(first, second):
        for record in commit.records:
            if record.kind in STORED_TABLES:
                touched[record.kind, record.entity_id] = None
            elif record.kind in ENTITY_KIND_NAMES:
                links.append(new_link(record))
    found = links
    for kind, entity_id in touched:
        difference = difference_of(log, projections, kind, entity_id, first, second)
        if difference is not None:
            found.append(difference)
    found.sort(key=lambda entity: (ENTITY_KIND_NAMES.index(entity.kind), entity.id))
    return ShownList(found)


def new_link(record: Record) -> EntityDifference:
    """How a link that was put between two moments differs: it is new, since it has one version."""
    message = parsed(record.kind, record.payload)
    changed = field_changes(record.kind, None, message)
    return EntityDifference(record.kind, record.entity_id, None, message, changed)


def difference_of(
    log: Log,
    projections: Projections,
    kind: str,
    entity_id: int,
    first: Position,
    second: Position,
) -> EntityDifference | None:
    """How a node or type differs as of two positions; None where it does not."""
    table = STORED_TABLES[kind]
    entries = [projections.index.newest(table, entity_id, at) for at in (first, second)]
    before, after = (None if entry is None else parsed(kind, entry[1]) for entry in entries)
    there = [entry for entry in entries if entry is not None]
    is_erased = any(isinstance(payload, Tombstone) for _, payload in there)
    changed = () if is_erased else field_changes(kind, before, after)
    if not (changed or before is None or is_erased):
        return None
    marks = marks_of(log, projections.index)
    erasures = dict.fromkeys(mark for at, _ in there for mark in marks.of(at))
    return EntityDifference(kind, entity_id, before, after, changed, (*erasures,))


def lineage_difference(
    log: Log,
    projections: Projections,
    kind: str,
    node_id: int,
    first: Position,
    second: Position,
    max_nodes: int | None,
    direction: str = "both",
    max_hops: int | None = None,
) -> LineageDifference:
    """How all that a node is connected with in a direction differs as of two positions.

    With `max_nodes`, only that many as of the second, the nearest, are compared. Raises
    NotFoundError when the node was not there at the second, InvalidArgumentError for a kind without
    lineage or moments that are swapped.
    """
    if first > second:
        raise InvalidArgumentError(
            f"the first moment (position {first}) is later than the second ({second}): swap them"
        )
    after = closure(Snapshot(projections, second), kind, node_id, direction, max_hops, max_nodes)
    # Nothing ever goes: what was connected then is part of what is connected now.
    before = part_of(Snapshot(projections, first), after, kind, node_id, direction)
    known = {node.key: node for node in before.nodes}
    known_edges = {(e.source, e.target, e.event.type) for e in before.edges}
    changed, erasures = [], {}
    marks = marks_of(log, projections.index)
    for node in after.nodes:
        there: list[Entry] = []
        if projections.index.erasures:
            table = STORED_TABLES[node.kind]
            entries = (projections.index.newest(table, node.id, at) for at in (first, second))
            there = [entry for entry in entries if entry is not None]
        found = tuple(dict.fromkeys(mark for at, _ in there for mark in marks.of(at)))
        if found:
            erasures[node.key] = found
        if node.key in known:
            old = known[node.key].message
            is_erased = any(isinstance(payload, Tombstone) for _, payload in there)
            fields = () if is_erased else field_changes(node.kind, old, node.message)
            if fields or (is_erased and there[0][0] != there[-1][0]):
                difference = EntityDifference(node.kind, node.id, old, node.message, fields, found)
                changed.append(difference)
    return LineageDifference(
        before,
        after,
        tuple(node for node in after.nodes if node.key not in known),
        tuple(e for e in after.edges if (e.source, e.target, e.event.type) not in known_edges),
        tuple(changed),
        erasures,
    )
