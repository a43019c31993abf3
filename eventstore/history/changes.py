"""What was put between two moments, commit by commit."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from eventstore.history.fields import FieldChange, check_kind, field_changes, parsed
from eventstore.log import Commit, Log, Record
from eventstore.log.record import ENTITY_KIND_NAMES
from eventstore.projections.index_tables import STORED_TABLES
from eventstore.projections.point_index import PointIndex
from eventstore.repr_html import ShownInNotebooks
from eventstore.times import moment_of


@dataclass(frozen=True, slots=True)
class EntityChange(ShownInNotebooks):
    """What a commit did to an entity: `message` is what it says since, `fields` what changed."""

    kind: str
    id: int
    position: int
    is_new: bool
    message: Any
    fields: tuple[FieldChange, ...]


@dataclass(frozen=True, slots=True)
class CommitChanges(ShownInNotebooks):
    """One commit, and of its changes those that were asked for. `recorded_at` is in UTC."""

    number: int
    first_position: int
    last_position: int
    recorded_at: datetime
    actor: str | None
    reason: str | None
    request_id: str | None
    changes: tuple[EntityChange, ...]


def changes(
    log: Log,
    index: PointIndex,
    after: int,
    upto: int,
    *,
    kinds: Collection[str] | None,
    types: Collection[str] | None,
    actors: Collection[str] | None,
) -> Iterator[CommitChanges]:
    """The commits with positions in (after, upto], the oldest first, read as they are asked for.

    Of these, those by one of the actors that did something to an entity of one of the kinds, and
    to a node of one of the types or to such a type itself, by name. Raises InvalidArgumentError for
    an unknown kind.
    """
    kinds = ENTITY_KIND_NAMES if kinds is None else kinds
    for kind in kinds:
        check_kind(kind)
    for commit in log.commits(after, upto):
        if actors is not None and commit.who[0] not in actors:
            continue
        found = tuple(
            change
            for record in commit.records
            if record.kind in kinds
            for change in (entity_change(index, record),)
            if types is None or _type_name(record, change.message) in types
        )
        if found:
            yield commit_changes(commit, found)


def commit_changes(commit: Commit, found: tuple[EntityChange, ...]) -> CommitChanges:
    return CommitChanges(
        commit.number,
        commit.first_position,
        commit.last_position,
        moment_of(commit.recorded_at),
        *commit.who,
        found,
    )


def entity_change(index: PointIndex, record: Record) -> EntityChange:
    """What a record changed, against the record that it replaces."""
    before = None
    if record.previous is not None:
        table = STORED_TABLES[record.kind]
        known = index.newest(table, record.entity_id, record.position - 1)
        before = None if known is None else parsed(record.kind, known[1])
    message = parsed(record.kind, record.payload)
    return EntityChange(
        record.kind,
        record.entity_id,
        record.position,
        record.previous is None,
        message,
        field_changes(record.kind, before, message),
    )


def _type_name(record: Record, message: Any) -> str | None:
    if message is None:
        return None
    if record.kind.endswith("_type"):
        return str(message.name)
    return str(message.type) if record.type_id is not None else None
