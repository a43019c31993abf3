"""Rules and holds as they were recorded, all versions of each: none of them is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from weakref import WeakKeyDictionary

import msgspec

from eventstore.errors import FailedPreconditionError
from eventstore.log import Log
from eventstore.log.kinds import HOLD, RETENTION_RULE, RetentionKind
from eventstore.log.readable import read_message
from eventstore.projections.index_tables import RETENTION_TABLES
from eventstore.proto import retention_pb2
from eventstore.store.snapshot import Snapshot


class Recorded(msgspec.Struct, frozen=True):
    """A version of a rule, hold or erasure, where it is recorded, and where the next one is.

    `replaced_at` is None for the current version.
    """

    position: int
    payload: bytes
    message: Any
    replaced_at: int | None


def versions(snapshot: Snapshot, kind: RetentionKind, number: int) -> list[Recorded]:
    """All versions of a rule, hold or erasure by its number, the oldest first."""
    found = snapshot.entries(RETENTION_TABLES[kind], number)
    ends = [*(position for position, _ in found), None][1:]
    return [
        Recorded(position, payload, read_message(kind.message, payload), replaced_at)
        for (position, payload), replaced_at in zip(found, ends, strict=True)
    ]


def all_versions(snapshot: Snapshot, kind: RetentionKind) -> Iterator[list[Recorded]]:
    """The versions of every rule, hold or erasure, by number."""
    for number in snapshot.index.keys(RETENTION_TABLES[kind], snapshot.position):
        yield versions(snapshot, kind, number)


def rule_versions(snapshot: Snapshot) -> Iterator[Recorded]:
    """Every version of every rule."""
    for of_rule in all_versions(snapshot, RETENTION_RULE):
        yield from of_rule


def holds_in_force(snapshot: Snapshot) -> Iterator[tuple[Recorded, Recorded]]:
    """The first and the current version of each hold that was not released."""
    for of_hold in all_versions(snapshot, HOLD):
        if of_hold[-1].message.stage != retention_pb2.Hold.RELEASED:
            yield of_hold[0], of_hold[-1]


def refuse_other_guards(log: Log, snapshot: Snapshot, so: str = "nothing was erased") -> None:
    """Raise FailedPreconditionError unless the index has the rules and holds of the log.

    A cache that lacks a hold, since it was put there from another history of the store, is not to
    be a way out of it.
    """
    position = other_guard(log, snapshot)
    if position is not None:
        raise FailedPreconditionError(
            f"{so}: the point index of {log.name} and the log disagree about the "
            f"rule or hold at position {position}; run `eventstore rebuild`"
        )


def other_guard(log: Log, snapshot: Snapshot) -> int | None:
    """The first position at which the index and the log have another rule or hold."""
    # What is in memory came from the log.
    upto = min(snapshot.position, snapshot.index.last_stored_position)
    known = {
        (recorded.position, recorded.payload)
        for kind in (HOLD, RETENTION_RULE)
        for of_guard in all_versions(snapshot, kind)
        for recorded in of_guard
        if recorded.position <= upto
    }
    recorded = {guard for guard in _guards_of(log, upto) if guard[0] <= upto}
    return min((position for position, _ in known ^ recorded), default=None)


_read: Final[WeakKeyDictionary[Log, tuple[int, frozenset[tuple[int, bytes]]]]] = WeakKeyDictionary()
"""By log, how far it was read for its guards, and those: their records never change."""


def _guards_of(log: Log, upto: int) -> frozenset[tuple[int, bytes]]:
    """Position and payload of the records of rules and holds, at least those up to a position."""
    after, guards = _read.get(log, (0, frozenset()))
    if upto > after:
        guards = guards.union(_guards_between(log, after, upto))
        _read[log] = upto, guards
    return guards


def _guards_between(log: Log, after: int, upto: int) -> Iterator[tuple[int, bytes]]:
    import pyarrow as pa
    import pyarrow.compute as compute

    from eventstore.log.arrow_values import array_of

    names = array_of([HOLD.name, RETENTION_RULE.name], pa.string())
    for batch in log.scan(after, upto, ["kind"]):
        is_guard = compute.is_in(batch["kind"].cast(pa.string()), value_set=names)
        rows = compute.indices_nonzero(is_guard).to_pylist()
        if rows:
            found = log.scan(after + rows[0], after + rows[-1] + 1, ["position", "payload"])
            positions = {after + row + 1 for row in rows}
            for part in found:
                both = zip(part["position"].to_pylist(), part["payload"].to_pylist(), strict=True)
                yield from ((at, payload) for at, payload in both if at in positions)
        after += batch.num_rows
