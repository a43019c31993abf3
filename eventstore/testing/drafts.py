"""Small drafts to append, and what is left of a record once it is erased."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from eventstore.log import Commit, Draft, Log, Record
from eventstore.log import record as kind_names
from eventstore.log.erased import Erased, Spans
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import retention_pb2 as retention


def draft(entity_id: int, *, name: str | None = None, previous: int | None = None) -> Draft:
    """An artifact with a uri and the custom property `n`, which are made of its id."""
    node = mlmd.Artifact(
        id=entity_id,
        type_id=10,
        uri=f"s3://{entity_id}",
        create_time_since_epoch=5,
        last_update_time_since_epoch=6,
    )
    if name is not None:
        node.name = name
    node.custom_properties["n"].int_value = entity_id
    payload = node.SerializeToString(deterministic=True)
    return Draft(kind_names.ARTIFACT, entity_id, 10, previous, payload)


def append(log: Log, *drafts: Draft, actor: str | None = "tester") -> Commit:
    """Append a commit where the log is by now."""
    return log.append(drafts, expected_position=log.position, actor=actor)


def append_erasure(
    log: Log, erased: Erased, *, stage: str = "REQUESTED", number: int = 1
) -> Commit:
    """Append the record of a stage of an erasure."""
    message = retention.Erasure(
        id=number, stage=retention.Erasure.Stage.Value(stage), basis="GDPR-17-1-b"
    )
    for first, last in erased.content:
        message.ranges.add(first_position=first, last_position=last, content=True)
    for first, last in erased.who:
        message.ranges.add(first_position=first, last_position=last, who=True)
    return append(log, Draft(kind_names.ERASURE, number, None, None, message.SerializeToString()))


def erased_of(content: Sequence[int] = (), who: Sequence[int] = ()) -> Erased:
    """What erases the content of records at some positions, and who put those at others."""
    return Erased(Spans.of((n, n) for n in content), Spans.of((n, n) for n in who))


def as_erased(records: Sequence[Record], erased: Erased) -> list[Record]:
    """The records as FORMAT.md says that they are once they are erased."""
    return [
        record
        if record.commitment is not None or record.who_commitment is not None
        else _as_erased(
            record, content=record.position in erased.content, who=record.position in erased.who
        )
        for record in records
    ]


def _as_erased(record: Record, *, content: bool, who: bool) -> Record:
    if content:
        assert record.salt is not None
        assert record.payload is not None
        commitment = hashlib.sha256(record.salt + record.payload).digest()
        record = msgspec.structs.replace(record, salt=None, payload=None, commitment=commitment)
    if who:
        assert record.who_salt is not None
        said = b"".join(map(_stored, (record.actor, record.reason, record.request_id)))
        record = msgspec.structs.replace(
            record,
            actor=None,
            reason=None,
            request_id=None,
            who_salt=None,
            who_commitment=hashlib.sha256(record.who_salt + said).digest(),
        )
    return record


def _stored(text: str | None) -> bytes:
    """A text of who put a record, as it is hashed."""
    if text is None:
        return b"\0"
    encoded = text.encode()
    return b"\1" + len(encoded).to_bytes(4, "big") + encoded
