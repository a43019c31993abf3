"""Every version of one entity, and everything that touched a context."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from eventstore.errors import NotFoundError
from eventstore.history.erased import VERSION_TABLES, content_of
from eventstore.history.fields import FieldChange, check_kind, field_changes, parsed
from eventstore.history.marks import ErasedBy, Marks, marks_of
from eventstore.log import Log, Record, scattered
from eventstore.log.commit import records_of
from eventstore.log.erased import Spans
from eventstore.log.kinds import CONTEXT
from eventstore.projections import index_tables as tables
from eventstore.projections.erased_nodes import Tombstone
from eventstore.projections.index_tables import STORED_TABLES, TABLES_OF
from eventstore.repr_html import ShownInNotebooks, ShownList
from eventstore.store.snapshot import Snapshot
from eventstore.times import moment_of

_LINKS_OF_CONTEXT = (
    tables.ARTIFACTS_BY_CONTEXT,
    tables.EXECUTIONS_BY_CONTEXT,
    tables.PARENTS_BY_CONTEXT,
    tables.CHILDREN_BY_CONTEXT,
)


@dataclass(frozen=True, slots=True)
class Version(ShownInNotebooks):
    """One record of an entity: what it said from `position` on, who put it, and why.

    `recorded_at` is in UTC, `previous` the position of the version before. `changes` are against
    the version before, or against nothing, where there is none or it is erased.

    `erasures` tells what was erased of it, and by whom. `message` is None where all of its content
    was, and what is left where it was redacted. `replaces` is the position of the redacted version
    that this one, a repetition without changes, took the place of.
    """

    kind: str
    id: int
    position: int
    commit: int
    recorded_at: datetime
    actor: str | None
    reason: str | None
    request_id: str | None
    previous: int | None
    message: Any
    changes: tuple[FieldChange, ...]
    erasures: tuple[ErasedBy, ...] = ()
    replaces: int | None = None

    @property
    def is_first(self) -> bool:
        """Whether the entity came to be with it."""
        return self.previous is None


def history(log: Log, snapshot: Snapshot, kind: str, entity_id: int) -> list[Version]:
    """All versions of a node, type or link, the oldest first.

    Links have one. Raises InvalidArgumentError for an unknown kind, NotFoundError for an unknown
    entity.
    """
    check_kind(kind)
    if kind in STORED_TABLES:
        return versions_at(log, snapshot, positions_of(snapshot, kind, entity_id))
    positions = _positions_of_link(log, snapshot.position, kind, entity_id)
    if not positions:
        raise _unknown(kind, entity_id)
    return versions_at(log, snapshot, positions)


def context_history(log: Log, snapshot: Snapshot, context_id: int) -> list[Version]:
    """All records that touched a context, in order: its versions, and the links from and to it.

    Raises NotFoundError for an unknown context.
    """
    return versions_at(log, snapshot, positions_touching(snapshot, context_id))


def versions_at(log: Log, snapshot: Snapshot, positions: Iterable[int]) -> list[Version]:
    """The versions that some ascending positions have, each with what it changed."""
    return _versions(log, snapshot, records_at(log, positions))


def positions_of(snapshot: Snapshot, kind: str, entity_id: int) -> list[int]:
    """Where the versions of a node or type are, the oldest first. NotFoundError for no such."""
    positions = [position for position, _ in snapshot.entries(STORED_TABLES[kind], entity_id)]
    if not positions:
        raise _unknown(kind, entity_id)
    return positions


def positions_touching(snapshot: Snapshot, context_id: int) -> list[int]:
    """Where the versions of a context are, and the links from and to it, the oldest first.

    Raises NotFoundError for an unknown context.
    """
    own = [position for position, _ in snapshot.entries(TABLES_OF[CONTEXT].stored, context_id)]
    if not own:
        raise _unknown(CONTEXT.name, context_id)
    links = [
        position
        for table in _LINKS_OF_CONTEXT
        for position, _ in snapshot.entries(table, context_id)
    ]
    return sorted({*own, *links})


def _unknown(kind: str, entity_id: int) -> NotFoundError:
    return NotFoundError(f"no {kind.replace('_', ' ')} has id {entity_id}")


def records_at(log: Log, positions: Iterable[int]) -> list[Record]:
    """The records at some positions, ascending."""
    spans = Spans.of((position, position) for position in positions)
    batches = scattered.records_at(log, spans, Record.__struct_fields__)
    return [record for batch in batches for record in records_of(batch)]


def _before(snapshot: Snapshot, marks: Marks, record: Record) -> Any:
    """The version before the one that a record has; None where its content is erased."""
    entries = snapshot.index.entries(
        VERSION_TABLES[record.kind], record.entity_id, record.position - 1
    )
    for position, payload in reversed(entries):
        # A redaction has put former versions again.
        if marks.replaced_at(position) is None:
            return None if isinstance(payload, Tombstone) else parsed(record.kind, payload)
    return None


def _positions_of_link(log: Log, upto: int, kind: str, entity_id: int) -> list[int]:
    import pyarrow.compute as compute

    if not 0 < entity_id < 2**63:
        # Arrow could not compare it.
        return []
    found: list[int] = []
    for batch in log.scan(0, upto, ["position", "kind", "entity_id"]):
        is_it = compute.and_(
            compute.equal(batch["entity_id"], entity_id), compute.equal(batch["kind"], kind)
        )
        found += batch["position"].filter(is_it).to_pylist()
    return found


def _versions(log: Log, snapshot: Snapshot, records: list[Record]) -> list[Version]:
    messages: dict[tuple[str, int], Any] = {}
    versions, marks = ShownList[Version](), marks_of(log, snapshot.index)
    for record in records:
        key = (record.kind, record.entity_id)
        erasures, replaces = marks.of(record.position), marks.replaced_at(record.position)
        message = content_of(snapshot.index, record)
        if key not in messages and record.previous is not None:
            # The version before is not among them.
            messages[key] = _before(snapshot, marks, record)
        repeats = replaces is not None or message is None
        versions.append(
            Version(
                record.kind,
                record.entity_id,
                record.position,
                record.commit,
                moment_of(record.recorded_at),
                record.actor,
                record.reason,
                record.request_id,
                record.previous,
                message,
                () if repeats else field_changes(record.kind, messages.get(key), message),
                erasures,
                replaces,
            )
        )
        if replaces is None:
            messages[key] = message
    return versions
