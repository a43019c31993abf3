"""The bytes that a record's leaf of the Merkle tree covers. FORMAT.md has them as a table.

What was put, and who put it, are not among them, but a salted commitment to each: so either can be
erased, and the leaf stays.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from uuid import UUID

from eventstore.log.kinds import KINDS
from eventstore.log.record import Record

SALT_BYTES = 16

_NUMBERS = {name: kind.number for name, kind in KINDS.items()}
# The leading `x` is the zero that tells a leaf from a node of the tree.
_ENVELOPE = struct.Struct(">x16sqqqBqBqBq")
_LENGTH = struct.Struct(">I")
LEAF_BYTES = _ENVELOPE.size + 2 * hashlib.sha256().digest_size


def leaf_hashes(store_id: UUID, records: Iterable[Record]) -> Iterator[bytes]:
    """The hash of each record's leaf, in order."""
    sha256 = hashlib.sha256
    for leaf in leaf_bytes(store_id, records):
        yield sha256(leaf).digest()


def leaf_bytes(store_id: UUID, records: Iterable[Record]) -> Iterator[bytes]:
    """What each record's leaf is the hash of: a zero, and the entry of RFC 6962, section 2.1."""
    sha256, pack, store = hashlib.sha256, _ENVELOPE.pack, store_id.bytes
    known: tuple[str | None, ...] | None = None
    # Written flat: each further call would be made for each of many records.
    for record in records:
        content = record.commitment
        if content is None:
            salt, payload = record.salt, record.payload
            assert salt is not None
            assert payload is not None
            content = sha256(salt + payload).digest()
        who = record.who_commitment
        if who is None:
            who_salt = record.who_salt
            assert who_salt is not None
            texts = (record.actor, record.reason, record.request_id)
            if texts != known:
                known, attribution = texts, encode_attribution(*texts)
            who = sha256(who_salt + attribution).digest()
        type_id, previous = record.type_id, record.previous
        envelope = pack(
            store,
            record.position,
            record.commit,
            record.recorded_at,
            _NUMBERS[record.kind],
            record.entity_id,
            type_id is not None,
            type_id or 0,
            previous is not None,
            previous or 0,
        )
        yield envelope + content + who


def encode_attribution(actor: str | None, reason: str | None, request_id: str | None) -> bytes:
    """The three texts that all records of a commit share, absent and empty told apart."""
    return _optional_text(actor) + _optional_text(reason) + _optional_text(request_id)


def _optional_text(text: str | None) -> bytes:
    if text is None:
        return b"\x00"
    encoded = text.encode()
    return b"\x01" + _LENGTH.pack(len(encoded)) + encoded
