"""Check what a record says against its own content and against its commit's other records."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from eventstore.log.kinds import LINK_KINDS, NODE_KINDS_BY_NAME, RETENTION_KINDS, TYPE_KINDS
from eventstore.log.leaf import SALT_BYTES
from eventstore.log.record import Record
from eventstore.log.retention_stages import RetentionRecord

_COMMITMENT_BYTES: Final = 32
_TYPES: Final = frozenset(kind.name for kind in TYPE_KINDS)
_LINKS: Final = frozenset(kind.name for kind in LINK_KINDS)
_NEVER_ERASED: Final = frozenset(kind.name for kind in RETENTION_KINDS)
_IDENTIFIED: Final = _TYPES | _NEVER_ERASED


class TypeUse(msgspec.Struct, frozen=True):
    """The first node of a segment with a type: its kind, its type's id, and the type's name in it.

    The name is None when the content does not say one.
    """

    kind: str
    type_id: int
    name: str | None
    position: int
    commit: int


def envelope_fault(record: Record) -> str | None:
    """What is wrong with a record whatever its content says, None when nothing is."""
    salt, payload, commitment = record.salt, record.payload, record.commitment
    if commitment is None:
        # Salt and payload are hashed as one: of another length, a byte could move between them.
        if salt is None or payload is None or len(salt) != SALT_BYTES:
            return f"it has no salt of {SALT_BYTES} bytes and no payload, nor a commitment"
    elif salt is not None or payload is not None or len(commitment) != _COMMITMENT_BYTES:
        return "it has a commitment, which stands for erased content, beside salt or payload"
    who_salt, who_commitment = record.who_salt, record.who_commitment
    if who_commitment is None:
        if who_salt is None or len(who_salt) != SALT_BYTES:
            return f"it has no salt of {SALT_BYTES} bytes for who put it, nor a commitment"
    elif (
        who_salt is not None
        or len(who_commitment) != _COMMITMENT_BYTES
        or (record.actor, record.reason, record.request_id) != (None, None, None)
    ):
        return "it has a commitment, which stands for who put it once that is erased, beside that"
    is_erased = commitment is not None or who_commitment is not None
    if is_erased and record.kind in _NEVER_ERASED:
        return "it is erased, which records of its kind never are"
    if record.entity_id < 1:
        return f"its entity id is {record.entity_id}"
    if record.kind in NODE_KINDS_BY_NAME:
        if record.type_id is None or record.type_id < 1:
            return f"its type id is {record.type_id}"
    elif record.type_id is not None:
        return f"it has type id {record.type_id}, which nodes alone have"
    elif record.previous is not None and record.kind in _LINKS:
        return f"it is a link, and says that it replaces position {record.previous}"
    return None


class ContentCheck:
    """Compares records with their contents, one after the other."""

    def __init__(self) -> None:
        self.fault: tuple[Record, str] | None = None
        self.types: dict[tuple[str, int], TypeUse] = {}
        self.retention: list[RetentionRecord] = []

    def look_at(self, record: Record, message: Any) -> None:
        """`message` is the record's payload, parsed."""
        kind = record.kind
        if kind in NODE_KINDS_BY_NAME:
            if message.id != record.entity_id or message.type_id != record.type_id:
                self._note(record, f"{kind} {message.id} of type {message.type_id}")
            name = message.type if message.HasField("type") else None
            use = self.types.get((kind, message.type_id))
            if use is None:
                self.types[kind, message.type_id] = TypeUse(
                    kind, message.type_id, name, record.position, record.commit
                )
            elif use.name != name:
                self._note(record, f"{kind} {message.id} of a type with another name, {name!r}")
        elif kind in _IDENTIFIED and message.id != record.entity_id:
            self._note(record, f"{kind.replace('_', ' ')} {message.id}")
        if kind in _NEVER_ERASED:
            assert record.payload is not None
            self.retention.append(
                RetentionRecord(kind, record.position, record.commit, record.actor, record.payload)
            )

    def _note(self, record: Record, content: str) -> None:
        if self.fault is not None:
            return
        said = f"{record.kind.replace('_', ' ')} {record.entity_id}"
        if record.type_id is not None:
            said += f" of type {record.type_id}"
        self.fault = record, f"its columns say {said}, its content says {content}"
