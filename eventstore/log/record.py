"""What the log holds: records, and the commits that group them."""

from __future__ import annotations

from typing import Final, NewType

import msgspec

from eventstore.times import Microseconds

Position = NewType("Position", int)
"""A position at which the log can be read: that of a commit's last record, or 0 before the first.

A position that a user gives is an int until `position_of` has made one of it.
"""

ARTIFACT_TYPE: Final = "artifact_type"
EXECUTION_TYPE: Final = "execution_type"
CONTEXT_TYPE: Final = "context_type"
ARTIFACT: Final = "artifact"
EXECUTION: Final = "execution"
CONTEXT: Final = "context"
EVENT: Final = "event"
ATTRIBUTION: Final = "attribution"
ASSOCIATION: Final = "association"
PARENT_CONTEXT: Final = "parent_context"
RETENTION_RULE: Final = "retention_rule"
HOLD: Final = "hold"
ERASURE: Final = "erasure"

ENTITY_KIND_NAMES: Final = (
    ARTIFACT_TYPE,
    EXECUTION_TYPE,
    CONTEXT_TYPE,
    ARTIFACT,
    EXECUTION,
    CONTEXT,
    EVENT,
    ATTRIBUTION,
    ASSOCIATION,
    PARENT_CONTEXT,
)
RETENTION_KIND_NAMES: Final = (RETENTION_RULE, HOLD, ERASURE)
KIND_NAMES: Final = ENTITY_KIND_NAMES + RETENTION_KIND_NAMES

LATEST: Final = Microseconds(253_402_300_799_999_999)
"""The last moment that Python's datetime can express (the end of 9999), in µs since the epoch."""


class Draft(msgspec.Struct, frozen=True, gc=False):
    """One record before it is appended: all that the writer decides.

    `payload` is the serialized protobuf of the whole type, node or link as it stands after the
    put. `previous` is the position of the entity's record that this one replaces, None for the
    first. `type_id` is that of a node, None for types and links.
    """

    kind: str
    entity_id: int
    type_id: int | None
    previous: int | None
    payload: bytes


class Record(msgspec.Struct, frozen=True, gc=False):
    """One immutable row of the log.

    `recorded_at` is in microseconds since the epoch (UTC). `payload` and `salt` are None once the
    content was erased; `commitment` is then what remains of it. Likewise `actor`, `reason`,
    `request_id` and `who_salt` once who and why were erased, with `who_commitment`.
    """

    position: int
    commit: int
    recorded_at: Microseconds
    kind: str
    entity_id: int
    type_id: int | None
    previous: int | None
    actor: str | None
    reason: str | None
    request_id: str | None
    salt: bytes | None
    payload: bytes | None
    commitment: bytes | None
    who_salt: bytes | None
    who_commitment: bytes | None


class Commit(msgspec.Struct, frozen=True):
    """The atomic group of records of one put; `records` are in position order and never empty."""

    number: int
    recorded_at: Microseconds
    tree_head: bytes
    records: tuple[Record, ...]

    @property
    def tree_heads(self) -> list[bytes | None]:
        """The column `tree_head` of its records: the last one has it."""
        return [*([None] * (len(self.records) - 1)), self.tree_head]

    @property
    def who(self) -> tuple[str | None, str | None, str | None]:
        """Actor, reason and request id, which its records have in common.

        All are None once they are erased from each of them.
        """
        said = self.records[0]
        if said.who_commitment is not None:
            said = next((r for r in self.records if r.who_commitment is None), said)
        return said.actor, said.reason, said.request_id

    @property
    def first_position(self) -> int:
        return self.records[0].position

    @property
    def last_position(self) -> int:
        return self.records[-1].position
