"""Records made by hand for the stand-alone verifier, and checkpoints that sign them unseen."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from eventstore.audit import SigningKey, standalone_verifier
from eventstore.audit.standalone_verifier import Refused, verify_records
from eventstore.log import Record
from eventstore.log.leaf import leaf_hashes
from eventstore.log.merkle import tree_head
from eventstore.plain_json import moment_text
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import retention_pb2 as retention
from eventstore.times import moment_of

KEY = SigningKey.generate("auditor")
STANDALONE_KEY = standalone_verifier.parse_key(str(KEY.verifier_key))
STORE = UUID(int=0x0123456789ABCDEF0123456789ABCDEF)
AT = 1_600_000_000_000_001

Records = list[dict[str, Any]]


def record(kind: str, entity_id: int, message: Any = None, **changes: Any) -> dict[str, Any]:
    """A record as `segment_records` gives it; `history` says where it stands."""
    payload = message if isinstance(message, bytes | None) else message.SerializeToString()
    is_node = kind in ("artifact", "execution", "context")
    return {
        "position": 1,
        "commit": 1,
        "recorded_at": AT,
        "kind": kind,
        "entity_id": entity_id,
        "type_id": message.type_id if is_node and not isinstance(message, bytes | None) else None,
        "previous": None,
        "actor": "ana",
        "reason": None,
        "request_id": "",
        "salt": None if payload is None else hashlib.sha256(repr(changes).encode()).digest()[:16],
        "payload": payload,
        "commitment": bytes(32) if payload is None else None,
        "who_salt": hashlib.sha256(b"who").digest()[:16],
        "who_commitment": None,
    } | changes


def history(*records: dict[str, Any]) -> Records:
    """Records one after the other, each with a salt of its own."""
    for position, one in enumerate(records, start=1):
        one["position"] = position
        if one["salt"] is not None:
            one["salt"] = bytes([position]) * 16
        if one["who_salt"] is not None:
            one["who_salt"] = bytes([position]) * 15 + b"w"
    return [*records]


def as_record(members: dict[str, Any]) -> Record:
    return Record(**{name: members[name] for name in Record.__struct_fields__})


def signed(records: Records, **stated: Any) -> str:
    """A checkpoint of these records, by a signer who has not looked."""
    leaves = [*leaf_hashes(STORE, map(as_record, records))]
    said = {
        "size": len(records),
        "root": tree_head(leaves),
        "commit": records[-1]["commit"],
        "recorded_at": records[-1]["recorded_at"],
    } | stated
    return KEY.signed(
        f"eventstore/{STORE}\n{said['size']}\n{base64.b64encode(said['root']).decode()}\n"
        f"commit {said['commit']}\nrecorded-at {moment_text(moment_of(said['recorded_at']))}\n"
        f"signed-at {moment_text(moment_of(AT))}\n"
    )


def holds(records: Iterable[dict[str, Any]], note: str | None = None) -> bool:
    records = [*records]
    try:
        verify_records(iter(records), note or signed(records), STANDALONE_KEY)
    except Refused:
        return False
    return True


def artifact(number: int, type_id: int = 1, **fields: Any) -> dict[str, Any]:
    previous = fields.pop("previous", None)
    message = mlmd.Artifact(id=number, type_id=type_id, **fields)
    return record("artifact", number, message, previous=previous)


def context(number: int, type_id: int = 1, **fields: Any) -> dict[str, Any]:
    previous = fields.pop("previous", None)
    message = mlmd.Context(id=number, type_id=type_id, **fields)
    return record("context", number, message, previous=previous)


def artifact_type(number: int, name: str = "T", **fields: Any) -> dict[str, Any]:
    previous = fields.pop("previous", None)
    message = mlmd.ArtifactType(id=number, name=name, **fields)
    return record("artifact_type", number, message, previous=previous)


def execution_type(number: int, name: str = "T", **fields: Any) -> dict[str, Any]:
    message = mlmd.ExecutionType(id=number, name=name, **fields)
    return record("execution_type", number, message)


def event(number: int, *ends: int, at: int = 1) -> dict[str, Any]:
    one, other, kind = ends
    message = mlmd.Event(
        artifact_id=one,
        execution_id=other,
        type=kind,  # type: ignore[arg-type]
        milliseconds_since_epoch=at,
    )
    return record("event", number, message)


def erasure(*positions: int) -> dict[str, Any]:
    """An erasure of the content of some positions."""
    message = retention.Erasure(id=1, stage=retention.Erasure.REQUESTED)
    for position in positions:
        message.ranges.add(first_position=position, last_position=position, content=True)
    return record("erasure", 1, message)


def hidden(one: dict[str, Any]) -> dict[str, Any]:
    """The record with its content erased."""
    return one | {"salt": None, "payload": None, "commitment": bytes(32)}
