"""Rules and holds as they were recorded, all versions of each: none of them is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

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
