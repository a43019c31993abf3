"""What was put between two moments, commit by commit."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from eventstore.history.erased import content_of, type_name, version_at
from eventstore.history.fields import FieldChange, check_kind, field_changes
from eventstore.history.marks import ErasedBy, Marks, marks_of
from eventstore.log import Commit, Log, Record
from eventstore.log.record import ERASURE, KIND_NAMES
from eventstore.projections.point_index import PointIndex
from eventstore.repr_html import ShownInNotebooks
from eventstore.times import moment_of


@dataclass(frozen=True, slots=True)
class EntityChange(ShownInNotebooks):
    """What a commit did to an entity, rule, hold or erasure.

    `message` is what it says since, `fields` what changed.

    `message`, `erasures` and `replaces` are as of a `Version`.
    """

    kind: str
    id: int
    position: int
    is_new: bool
    message: Any
    fields: tuple[FieldChange, ...]
    erasures: tuple[ErasedBy, ...] = ()
    replaces: int | None = None


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
    kinds = KIND_NAMES if kinds is None else kinds
    for kind in kinds:
        check_kind(kind, KIND_NAMES)
    marks = marks_of(log, index)
    for commit in log.commits(after, upto):
        if actors is not None and commit.who[0] not in actors:
            continue
        found = tuple(
            change
            for record in commit.records
            if record.kind in kinds
            for change in (entity_change(index, marks, commit, record),)
            if types is None or _type_name(index, record, change.message) in types
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


def entity_change(index: PointIndex, marks: Marks, commit: Commit, record: Record) -> EntityChange:
    """What a record changed, against the record that it replaces."""
    message, replaces = content_of(index, record), marks.replaced_at(record.position)
    fields: tuple[FieldChange, ...] = ()
    if message is not None and replaces is None:
        before = None
        if record.previous is not None:
            # A redaction puts former versions again, and then the newest.
            is_redaction = commit.records[0].kind == ERASURE
            upto = (commit.first_position if is_redaction else record.position) - 1
            before = version_at(index, record.kind, record.entity_id, upto)
        fields = field_changes(record.kind, before, message)
    return EntityChange(
        record.kind,
        record.entity_id,
        record.position,
        record.previous is None,
        message,
        fields,
        marks.of(record.position),
        replaces,
    )


def _type_name(index: PointIndex, record: Record, message: Any) -> str | None:
    if message is None:
        return type_name(index, record)
    if record.kind.endswith("_type"):
        return str(message.name)
    return str(message.type) if record.type_id is not None else None
