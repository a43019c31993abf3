"""What the stand-alone verifier reads of one record, next to what the store derives of it."""

from __future__ import annotations

import random
from typing import Any

import pytest
from google.protobuf.message import DecodeError

from eventstore.audit import standalone_verifier
from eventstore.audit.standalone_verifier import Refused, check_record, leaf_hash
from eventstore.log.columns import derive
from eventstore.log.kinds import NODE_KINDS
from eventstore.log.leaf import leaf_hashes
from eventstore.log.readable import varint
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.audit.records_by_hand import STORE, as_record, erasure, history, holds, record


def value(**member: Any) -> Any:
    found = mlmd.Value()
    for name, content in member.items():
        if name == "struct_value":
            found.struct_value.update(content)
        elif name == "proto_value":
            found.proto_value.type_url, found.proto_value.value = "a/b", content
        else:
            setattr(found, name, content)
    return found


VALUES = {
    "int": value(int_value=-(2**63)),
    "more": value(int_value=2**63 - 1),
    "minus": value(int_value=-1),
    "zero": value(int_value=0),
    "double": value(double_value=-0.0),
    "nan": value(double_value=float("nan")),
    "text": value(string_value="\u00e4\u4e2d\U0001f600" * 50),
    "empty": value(string_value=""),
    "true": value(bool_value=True),
    "false": value(bool_value=False),
    "proto": value(proto_value=b"\x00\xff"),
    "none": mlmd.Value(),
    "struct": value(
        struct_value={
            "z": [1.5, None, "x", [True, False], {"b": {}, "a": []}],
            "a": float("inf"),
            "b": -float("inf"),
            "c": float("nan"),
            "d": None,
            "": "",
            "e": [float("inf"), -float("inf"), float("nan"), {"n": -float("inf")}],
        }
    ),
    "nothing": value(struct_value={}),
}


def node(message_type: Any, **fields: Any) -> Any:
    message = message_type(**fields)
    for name, content in VALUES.items():
        message.properties[name].CopyFrom(content)
        message.custom_properties["c-" + name].CopyFrom(content)
    return message


NODE = {"id": 7, "type_id": 2**40, "name": "n", "type": "T", "external_id": "x"}
TIMES = {"create_time_since_epoch": -5, "last_update_time_since_epoch": 2**62}
MESSAGES: list[tuple[str, Any]] = [
    ("artifact", node(mlmd.Artifact, uri="u", state=3, **NODE, **TIMES)),
    ("execution", node(mlmd.Execution, last_known_state=5, **NODE, **TIMES)),
    ("context", node(mlmd.Context, **NODE, **TIMES)),
    ("artifact", mlmd.Artifact(id=7, type_id=1)),
    ("execution", mlmd.Execution(id=7, type_id=1)),
    ("context", mlmd.Context(id=7, type_id=1)),
    ("artifact", mlmd.Artifact(id=7, type_id=1, name="", external_id="", uri="", state=0)),
    ("artifact_type", mlmd.ArtifactType(id=7, name="n", version="v", external_id="x")),
    ("execution_type", mlmd.ExecutionType(id=7, name="n", version="v", external_id="x")),
    ("context_type", mlmd.ContextType(id=7, name="n", version="v", external_id="x")),
    ("artifact_type", mlmd.ArtifactType(id=7)),
    ("execution_type", mlmd.ExecutionType(id=7)),
    ("context_type", mlmd.ContextType(id=7)),
    ("event", mlmd.Event(artifact_id=1, execution_id=2, type=4, milliseconds_since_epoch=3)),
    ("event", mlmd.Event()),
    ("attribution", mlmd.Attribution(artifact_id=1, context_id=2)),
    ("association", mlmd.Association(execution_id=1, context_id=2)),
    ("parent_context", mlmd.ParentContext(child_id=1, parent_id=2)),
]
IDS = [f"{number}-{kind}" for number, (kind, _) in enumerate(MESSAGES)]


def derived(kind: str, payload: bytes | None) -> dict[str, Any]:
    return {name: column.to_pylist()[0] for name, column in derive([kind], [payload]).items()}


@pytest.mark.parametrize(("kind", "message"), MESSAGES, ids=IDS)
def test_it_derives_what_the_store_derives(kind: str, message: Any) -> None:
    one = record(kind, 7, message)
    columns = derived(kind, one["payload"])
    assert holds([one | {"derived": columns}])
    for name, content in columns.items():
        other = content[1:] if content and isinstance(content, list) else "other"
        assert not holds([one | {"derived": columns | {name: other}}]), name
    # Fields may come again, and in any order; of two the last one counts.
    payload = one["payload"] + one["payload"]
    assert holds([one | {"payload": payload, "derived": derived(kind, payload)}])
    # What is not known is passed over, in each wire form.
    for unknown in (b"\xf8\x07\x01", b"\xfa\x07\x02ab", b"\xf9\x07" + bytes(8), b"\xfd\x07abcd"):
        for payload in (unknown + one["payload"], one["payload"] + unknown):
            assert holds([one | {"payload": payload, "derived": columns}])
    if kind not in {kind.name for kind in NODE_KINDS}:
        return
    erased = record(kind, 7, type_id=one["type_id"])
    gone = derived(kind, None)
    assert holds(history(erased | {"derived": gone}, erasure(1)))
    for name, content in gone.items():
        other = [("a", None)] if content == [] else "x"
        assert not holds(history(erased | {"derived": gone | {name: other}}, erasure(1))), name


@pytest.mark.parametrize(("kind", "message"), MESSAGES, ids=IDS)
def test_a_payload_that_is_cut_is_refused_where_protobuf_refuses_it(
    kind: str, message: Any
) -> None:
    payload = message.SerializeToString()
    places = range(len(payload))
    if len(payload) > 150:
        places = sorted(random.Random(1).sample(places, 150))  # type: ignore[assignment]
    for place in places:
        one = record(kind, 7, message) | {"payload": payload[:place]}
        try:
            parsed = type(message).FromString(payload[:place])
        except DecodeError:
            with pytest.raises(Refused):
                check_record(one)
        else:
            whose = one | {"entity_id": getattr(parsed, "id", 7), "type_id": one["type_id"]}
            if whose["entity_id"] and getattr(parsed, "type_id", None) == one["type_id"]:
                assert check_record(whose)


@pytest.mark.parametrize(
    "payload",
    [
        b"\x80",
        b"\x0b",
        b"\x0c",
        b"\x0e\x01",
        b"\x0f\x01",
        b"\xf9\x07" + bytes(7),
        b"\xfd\x07" + bytes(3),
        b"\xfa\x07\x02a",
        b"\xf8\x07",
    ],
    ids=bytes.hex,
)
def test_a_payload_that_is_no_message_is_refused(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        mlmd.Event.FromString(payload)
    with pytest.raises(Refused, match="no protobuf message"):
        check_record(record("event", 1, payload))


def test_numbers_are_read_as_protobuf_reads_them() -> None:
    for encoded in (
        b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x03",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x80\x00",
        b"\x85\x80\x00",
    ):
        payload = b"\x28" + encoded
        expected = mlmd.Event.FromString(payload).milliseconds_since_epoch
        content = check_record(record("event", 1, payload))
        assert content is not None
        assert content["event_time"] == expected


NOBODY: dict[str, Any] = dict.fromkeys(("actor", "reason", "request_id", "who_salt"))


@pytest.mark.parametrize("changes", [{}, {"actor": None}, {"reason": "\u00e4" * 300}])
def test_its_leaves_are_those_of_the_store(changes: dict[str, Any]) -> None:
    for number, (kind, message) in enumerate(MESSAGES, start=3):
        for extra in ({}, {"previous": 2}, {"previous": 2**40, "recorded_at": -7}):
            one = record(kind, 7, message, position=number, commit=number + 2**33)
            one |= extra | changes
            (expected,) = leaf_hashes(STORE, [as_record(one)])
            assert leaf_hash(str(STORE), one) == expected
            hidden = one | {"salt": None, "payload": None, "commitment": bytes([number]) * 32}
            (expected,) = leaf_hashes(STORE, [as_record(hidden)])
            assert leaf_hash(str(STORE), hidden) == expected
            anonymous = one | NOBODY | {"who_commitment": bytes([number]) * 32}
            (expected,) = leaf_hashes(STORE, [as_record(anonymous)])
            assert leaf_hash(str(STORE), anonymous) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"salt": None},
        {"payload": None},
        {"salt": None, "payload": None},
        {"salt": bytes(15)},
        {"salt": bytes(17)},
        {"commitment": bytes(32)},
        {"commitment": bytes(32), "salt": None},
        {"commitment": bytes(32), "payload": None},
        {"commitment": bytes(31), "salt": None, "payload": None},
        {"commitment": bytes(33), "salt": None, "payload": None},
        {"who_salt": None},
        {"who_salt": bytes(15)},
        {"who_salt": bytes(17)},
        {"who_commitment": bytes(32)},
        {"who_commitment": bytes(32), "who_salt": None},
        NOBODY | {"who_commitment": bytes(32), "actor": "ana"},
        NOBODY | {"who_commitment": bytes(32), "reason": ""},
        NOBODY | {"who_commitment": bytes(32), "request_id": ""},
        NOBODY | {"who_commitment": bytes(32), "who_salt": bytes(16)},
        NOBODY | {"who_commitment": bytes(31)},
        NOBODY | {"who_commitment": bytes(33)},
        {"kind": "artefact"},
        {"entity_id": 2**63},
        {"position": None},
        {"actor": 7},
        {"actor": "\ud800"},
    ],
    ids=repr,
)
def test_a_record_of_a_wrong_form_has_no_leaf(changes: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        leaf_hash(str(STORE), record("event", 1, b"") | changes)


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def entry(name: bytes, *values: bytes) -> bytes:
    """An artifact's custom property."""
    return field(5, field(1, name) + b"".join(field(2, value) for value in values))


def struct_of(*kinds: bytes) -> bytes:
    """A property's value: a struct with one member, of these kinds."""
    return field(4, field(1, field(1, b"k") + field(2, b"".join(kinds))))


def nested(levels: int) -> bytes:
    content = b""
    for _ in range(levels):
        content = field(1, field(1, b"k") + field(2, field(5, content)))
    return entry(b"deep", field(4, content))


AS_PROTOBUF_READS_IT = {
    "unknown enum": b"\x30\x63",
    "unknown enum after a known one": b"\x30\x02\x30\x63",
    "negative enum": b"\x30" + b"\xff" * 9 + b"\x01",
    "enum of 33 bits": b"\x30\x82\x80\x80\x80\x10",
    "other wire type": b"\x32\x01a\x38\x05",
    "groups": b"\xfb\x3f\x0b\x08\x01\x0c\xfc\x3f",
    "text again": b"\x3a\x01a\x3a\x01b",
    "not UTF-8": b"\x3a\x02a\xff",
    "two members": entry(b"o", b"\x08\x01" + field(3, b"s")),
    "two members, the other way": entry(b"o", field(3, b"s") + b"\x08\x01"),
    "a member of another wire type": entry(b"o", b"\x08\x01" + field(6, b"s")),
    "name again": entry(b"k", b"\x08\x01") + entry(b"k", b"\x08\x02"),
    "name again, with a message": entry(b"k", field(5, field(1, b"u")))
    + entry(b"k", field(5, field(2, b"v"))),
    "two values": entry(b"k", field(5, field(1, b"u")), field(5, field(2, b"v"))),
    "entry with more": field(5, field(1, b"k") + field(2, b"\x08\x01") + b"\x28\x05"),
    "entry without a name": field(5, field(2, b"\x08\x01")),
    "entry without a value": field(5, field(1, b"k")),
    "any out of order": entry(b"a", field(5, b"\x28\x05\x12\x01v\x0a\x01u\x2b\x28\x85\x00\x2c")),
    "any with defaults": entry(b"a", field(5, b"\x0a\x00\x12\x00")),
    "any twice": entry(b"a", field(5, b"\x0a\x01a\x12\x01v") + field(5, b"\x0a\x01b")),
    "any around another member": entry(b"a", field(5, b"\x0a\x01a") + b"\x08\x01" + field(5, b"")),
    "two kinds": entry(b"s", struct_of(b"\x20\x01", field(3, b"s"))),
    "null with a number": entry(b"s", struct_of(b"\x08\x05")),
    "two structs": entry(b"s", struct_of(field(5, b"")) + struct_of(b"\x20\x01")),
    "lists in a row": entry(
        b"s", struct_of(field(6, field(1, b"\x20\x01")), field(6, field(1, b"")))
    ),
    "as deep as is read": nested(32),
    "deeper": nested(33),
    "much deeper": nested(400),
}


@pytest.mark.parametrize("tail", AS_PROTOBUF_READS_IT.values(), ids=AS_PROTOBUF_READS_IT)
def test_it_reads_what_protobuf_reads(tail: bytes) -> None:
    payload = mlmd.Artifact(id=7, type_id=1, name="n").SerializeToString() + tail
    content = check_record(record("artifact", 7, payload, type_id=1))
    assert content is not None
    for name, expected in derived("artifact", payload).items():
        assert standalone_verifier._to_the_bit(content[name]) == standalone_verifier._to_the_bit(
            expected
        ), name


@pytest.mark.parametrize(
    "tail",
    [
        b"\x00\x01",
        b"\xfc\x3f",
        b"\xfb\x3f",
        b"\xfb\x3f\xf4\x3f",
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x30" + b"\x80" * 10 + b"\x01",
        entry(b"k", b"\x00\x01"),
        entry(b"k", b"\x08\x01" + field(5, b"\x0a\x05u")) + entry(b"k", b""),
        b"\xfb\x3f" * 300 + b"\xfc\x3f" * 300,
    ],
    ids=lambda tail: tail[:10].hex(),
)
def test_what_protobuf_does_not_read_is_refused_by_both(tail: bytes) -> None:
    payload = mlmd.Artifact(id=7, type_id=1).SerializeToString() + tail
    with pytest.raises(Refused):
        check_record(record("artifact", 7, payload, type_id=1))
    with pytest.raises((DecodeError, RecursionError)):
        derived("artifact", payload)


def test_a_payload_with_a_changed_byte() -> None:
    kind, message = MESSAGES[0]
    payload, chance = message.SerializeToString(), random.Random(3)
    agreed = 0
    for _ in range(400):
        changed = bytearray(payload)
        changed[chance.randrange(len(payload))] = chance.choice([0, 1, 2, 8, 10, 127, 128, 255])
        one = record(kind, 7, message) | {"payload": bytes(changed)}
        try:
            expected = derived(kind, bytes(changed))
        except DecodeError:
            with pytest.raises(Refused):
                check_record(one)
            continue
        refusal, content = "", None
        try:
            content = check_record(one)
        except Refused as refused:
            refusal = str(refused)
        if content is None:
            assert "its content" in refusal
            continue
        for name, value in expected.items():
            found = standalone_verifier._to_the_bit(content[name])
            assert found == standalone_verifier._to_the_bit(value), (name, changed)
        agreed += 1
    assert agreed > 100
