"""One node or type: what it says and who set it, its versions, its events and contexts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final

import msgspec

from eventstore.answers import ErasedByAnswer, FieldAnswer
from eventstore.errors import InvalidArgumentError, NotFoundError
from eventstore.history.fields import plain_fields
from eventstore.history.marks import marks_of
from eventstore.history.versions import Version, positions_of, positions_touching, versions_at
from eventstore.http_api.catalog import node_kind, tables_rows
from eventstore.http_api.lists import NodeRow, fields_of, node_rows, times_of
from eventstore.http_api.problems import NotYetError
from eventstore.log.kinds import (
    ARTIFACT,
    CONTEXT,
    EXECUTION,
    KINDS,
    NODE_KINDS_BY_NAME,
    NodeKind,
)
from eventstore.log.readable import read_message
from eventstore.log.record import Position
from eventstore.metadata_store.source import Source
from eventstore.plain_json import moment_of_milliseconds
from eventstore.plain_values import is_same, shown_struct
from eventstore.projections.erased_nodes import Tombstone
from eventstore.projections.index_tables import (
    CHILDREN_BY_CONTEXT,
    CONTEXTS_OF,
    EVENTS_OF,
    MEMBERS_OF,
    PARENTS_BY_CONTEXT,
    STORED_TABLES,
)
from eventstore.projections.lineage import INPUTS
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.times import Microseconds, moment_of
from eventstore.wording import quoted

_BLAMED_VERSIONS: Final = 1_000
"""So many of the newest versions are compared for who has set what."""


_EVENTS_PARSED: Final = 2_000


class FieldSet(msgspec.Struct, frozen=True):
    """A field, its value, and the version that set it.

    `is_older` says that it was set then or before: earlier versions were not looked at.
    """

    field: str
    value: Any
    version: int
    position: int
    recorded_at: datetime
    actor: str | None
    is_older: bool = False


class Entity(msgspec.Struct, frozen=True):
    """A node or type as of the moment. `position` is that of its newest version, of `versions`.

    `fields` are told without those that stand beside it here. `erased_by` is the number of the
    erasure of its content.
    """

    kind: str
    id: int
    type: str | None
    type_id: int | None
    name: str | None
    state: str | None
    created_at: datetime | int | None
    updated_at: datetime | int | None
    position: int
    versions: int
    fields: list[FieldSet]
    erased_by: int | None = None


class VersionRow(msgspec.Struct, frozen=True):
    """A version of an entity, who put it and why, and what changed with it.

    `number` is counted from 1, where they are told in order. `type` is that of a node.

    `replaces` is the position of the redacted version that it took the place of. `is_withheld` says
    that what changed is told to auditors alone.
    """

    kind: str
    id: int
    number: int | None
    type: str | None
    name: str | None
    position: int
    commit: int
    recorded_at: datetime
    actor: str | None
    reason: str | None
    request_id: str | None
    is_first: bool
    changes: list[FieldAnswer]
    erasures: list[ErasedByAnswer]
    replaces: int | None = None
    is_withheld: bool = False


class Versions(msgspec.Struct, frozen=True):
    """Versions, the newest first; `before` is the number that leads on to older ones."""

    count: int
    versions: list[VersionRow]
    before: int | None


class EventRow(msgspec.Struct, frozen=True):
    """An event of a node, and the node at its other end. `path` is as MLMD has it, in words."""

    type: str
    is_input: bool
    path: str
    occurred_at: datetime | int | None
    position: int
    node: NodeRow


class Events(msgspec.Struct, frozen=True):
    """Events, the newest first; `before` is the position that leads on to older ones.

    `inputs` and `outputs` are how many there are in all.
    """

    inputs: int
    outputs: int
    events: list[EventRow]
    before: int | None


class Related(msgspec.Struct, frozen=True):
    """Nodes beside another, by id; `after` is the id that leads on. `count` is of all of them."""

    count: int
    nodes: list[NodeRow]
    after: int | None


def entity(source: Source, kind: str, entity_id: int) -> Entity:
    """A node or type as of the moment.

    Raises NotYetError where it came later, NotFoundError where there never was one, and
    InvalidArgumentError for another kind.
    """
    snapshot = source.snapshot()
    entries = snapshot.entries(_table(kind), entity_id)
    if not entries:
        raise missing(source, kind, entity_id)
    position, payload = entries[-1]
    message = read_message(KINDS[kind].message, payload)
    is_node = isinstance(KINDS[kind], NodeKind)
    is_erased = isinstance(payload, Tombstone)
    said = times_of(message) if is_erased else fields_of(kind, message)
    fields = [] if is_erased else _blame(source, kind, entries)
    beside = ("name", "state", "created_at", "updated_at")
    name, state, created_at, updated_at = (said.get(field) for field in beside)
    return Entity(
        kind,
        entity_id,
        message.type if is_node else None,
        message.type_id if is_node else None,
        name,
        state,
        created_at,
        updated_at,
        position,
        len(entries),
        [field for field in fields if field.field != "name"],
        message.custom_properties["erased_by"].int_value if is_erased else None,
    )


def versions(
    source: Source, kind: str, entity_id: int, *, before: int | None = None, limit: int = 50
) -> Versions:
    """Versions of a node or type, the newest first, or those before the one of a number.

    Raises what `entity` does.
    """
    _table(kind)
    snapshot = source.snapshot()
    try:
        positions = positions_of(snapshot, kind, entity_id)
    except NotFoundError:
        raise missing(source, kind, entity_id) from None
    return _page(source, positions, before, limit)


def touching(
    source: Source, context_id: int, *, before: int | None = None, limit: int = 50
) -> Versions:
    """All that touched a context, the newest first: its versions, and links from and to it."""
    snapshot = source.snapshot()
    try:
        positions = positions_touching(snapshot, context_id)
    except NotFoundError:
        raise missing(source, CONTEXT.name, context_id) from None
    return _page(source, positions, before, limit)


def events(
    source: Source,
    kind: str,
    node_id: int,
    *,
    inputs: bool | None = None,
    before: int | None = None,
    limit: int = 25,
) -> Events:
    """The events of an artifact or execution, the newest first, or those before a position.

    With `inputs` only those that are (True) or are not (False). Raises what `entity` does.
    """
    of_kind = node_kind(kind)
    if of_kind not in EVENTS_OF:
        raise InvalidArgumentError("contexts have no events")
    require(source, kind, node_id)
    entries = source.snapshot().entries(EVENTS_OF[of_kind], node_id)
    counted = _inputs_among(source, of_kind, node_id, entries)
    chosen = (
        (position, event)
        for position, payload in reversed(entries)
        if before is None or position < before
        for event in (mlmd.Event.FromString(payload),)
        if inputs is None or (event.type in INPUTS) is inputs
    )
    shown = [*islice(chosen, limit)]
    has_more = next(chosen, None) is not None
    other = EXECUTION if of_kind is ARTIFACT else ARTIFACT
    ids = {position: getattr(event, f"{other.name}_id") for position, event in shown}
    nodes = {row.id: row for row in node_rows(source, other, sorted({*ids.values()}), ())}
    rows = [
        EventRow(
            mlmd.Event.Type.Name(event.type),
            event.type in INPUTS,
            _path(event),
            moment_of_milliseconds(event.milliseconds_since_epoch)
            if event.HasField("milliseconds_since_epoch")
            else None,
            position,
            nodes[ids[position]],
        )
        for position, event in shown
    ]
    last = shown[-1][0] if has_more else None
    return Events(counted, len(entries) - counted, rows, last)


def contexts(
    source: Source, kind: str, node_id: int, *, after: int | None = None, limit: int = 25
) -> Related:
    """The contexts that an artifact or execution is in. Raises what `entity` does."""
    of_kind = node_kind(kind)
    if of_kind not in CONTEXTS_OF:
        raise InvalidArgumentError("contexts are in no context: ask for their parents")
    require(source, kind, node_id)
    return _related(source, CONTEXTS_OF[of_kind], node_id, CONTEXT, after, limit)


def members(
    source: Source, context_id: int, kind: str, *, after: int | None = None, limit: int = 25
) -> Related:
    """The artifacts or executions in a context. Raises what `entity` does."""
    of_kind = node_kind(kind)
    if of_kind not in MEMBERS_OF:
        raise InvalidArgumentError("contexts have artifacts and executions: ask for children")
    require(source, CONTEXT.name, context_id)
    return _related(source, MEMBERS_OF[of_kind], context_id, of_kind, after, limit)


def relatives(
    source: Source, context_id: int, *, parents: bool, after: int | None = None, limit: int = 25
) -> Related:
    """The parents or the children of a context. Raises what `entity` does."""
    require(source, CONTEXT.name, context_id)
    table = PARENTS_BY_CONTEXT if parents else CHILDREN_BY_CONTEXT
    return _related(source, table, context_id, CONTEXT, after, limit)


def require(source: Source, kind: str, entity_id: int) -> None:
    """Raise what `entity` does for one that is not there."""
    if source.snapshot().newest(_table(kind), entity_id) is None:
        raise missing(source, kind, entity_id)


def _table(kind: str) -> int:
    if kind not in STORED_TABLES:
        raise InvalidArgumentError(
            f"{quoted(kind)} is no kind: use one of {', '.join(STORED_TABLES)}"
        )
    return STORED_TABLES[kind]


def missing(source: Source, kind: str, entity_id: int) -> NotFoundError:
    """The error for an entity that is not there: whether it came later."""
    named = f"{kind.replace('_', ' ')} {entity_id}"
    later = source.engine.snapshot().entries(_table(kind), entity_id)
    if not later:
        return NotFoundError(f"no {kind.replace('_', ' ')} has id {entity_id}")
    came = later[0][0]
    known = source.projections.commits(Position(came))
    number = known.number_at(came)
    end, at = known.positions(number)[1], Microseconds(known.recorded_at[number - 1])
    return NotYetError(
        f"{named} is not there yet at position {source.position()}: it came with position {end}, "
        f"{moment_of(at):%Y-%m-%d %H:%M:%S} UTC",
        end,
    )


def _blame(source: Source, kind: str, entries: Sequence[tuple[int, bytes]]) -> list[FieldSet]:
    """By field, which version has set it as it is."""
    known = source.projections.commits(source.position())
    who_erased = source.projections.index.erasures.erased.who
    first = max(0, len(entries) - _BLAMED_VERSIONS)
    marks = marks_of(source.log, source.snapshot().index)
    values: dict[str, Any] = {}
    places: dict[str, int] = {}
    for place, (position, payload) in islice(enumerate(entries), first, None):
        is_last = place == len(entries) - 1
        # A redaction has put former versions again, and changes nothing but what it names.
        if marks.replaced_at(position) is not None and not is_last:
            continue
        message = None
        if not isinstance(payload, Tombstone):
            message = read_message(KINDS[kind].message, payload)
        said = plain_fields(kind, message)
        for field, value in said.items():
            if field not in values or not is_same(values[field], value):
                places[field] = place
        values = said
    found = []
    for field, value in values.items():
        place = places[field]
        position = entries[place][0]
        number = known.number_at(position)
        found.append(
            FieldSet(
                "state" if field == "last_known_state" else field,
                shown_struct(value),
                place + 1,
                position,
                moment_of(Microseconds(known.recorded_at[number - 1])),
                None if position in who_erased else known.by(number),
                is_older=0 < first == place,
            )
        )
    return found


def _page(source: Source, positions: Sequence[int], before: int | None, limit: int) -> Versions:
    end = len(positions) if before is None else max(0, min(len(positions), before - 1))
    start = max(0, end - limit)
    found = versions_at(source.log, source.snapshot(), positions[start:end])
    rows = [version_row(number, version) for number, version in enumerate(found, start + 1)]
    return Versions(len(positions), rows[::-1], start + 1 if start else None)


def version_row(number: int | None, version: Version) -> VersionRow:
    return VersionRow(
        version.kind,
        version.id,
        number,
        getattr(version.message, "type", None) if version.kind in NODE_KINDS_BY_NAME else None,
        getattr(version.message, "name", None) or None,
        version.position,
        version.commit,
        version.recorded_at,
        version.actor,
        version.reason,
        version.request_id,
        version.is_first,
        [
            FieldAnswer(c.field, shown_struct(c.before), shown_struct(c.after))
            for c in version.changes
        ],
        erasures_told(version.erasures),
        version.replaces,
    )


def erasures_told(marks: Sequence[Any]) -> list[ErasedByAnswer]:
    """What was erased of a record, as JSON has it."""
    names = ErasedByAnswer.__struct_fields__
    return [ErasedByAnswer(**{name: getattr(mark, name) for name in names}) for mark in marks]


def _inputs_among(
    source: Source, kind: NodeKind, node_id: int, entries: Sequence[tuple[int, bytes]]
) -> int:
    """How many of a node's events are inputs; of very many, the tables count them."""
    if len(entries) <= _EVENTS_PARSED:
        return sum(mlmd.Event.FromString(payload).type in INPUTS for _, payload in entries)
    sql = f"SELECT type, count(*) FROM events WHERE {kind.name}_id = $id AND valid_from <= $as_of "
    rows = tables_rows(source, f"{sql} GROUP BY type", {"id": node_id})
    return sum(count for type_, count in rows if type_ in INPUTS)


def _path(event: mlmd.Event) -> str:
    steps = (step.key if step.HasField("key") else step.index for step in event.path.steps)
    return "/".join(map(str, steps))


def _related(
    source: Source, table: int, node_id: int, kind: NodeKind, after: int | None, limit: int
) -> Related:
    ids = source.snapshot().linked_ids(table, node_id)
    left = ids if after is None else [one for one in ids if one > after]
    shown = left[:limit]
    rows = node_rows(source, kind, shown, ())
    return Related(len(ids), rows, shown[-1] if len(left) > len(shown) else None)
