"""What the stand-alone verifier reads, compares and refuses, next to what the store derives."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.message import DecodeError

from eventstore.audit import SigningKey, standalone_verifier
from eventstore.audit.checkpoint import _time_text
from eventstore.audit.merkle_proofs import (
    consistency_path,
    includes,
    inclusion_path,
    is_consistent,
)
from eventstore.audit.signed_note import VerifierKey, ed25519_verifies, opened
from eventstore.audit.standalone_verifier import Refused, check_record, leaf_hash, verify_records
from eventstore.errors import InvalidArgumentError
from eventstore.log import Record
from eventstore.log.columns import derive
from eventstore.log.leaf import leaf_hashes
from eventstore.log.merkle import tree_head
from eventstore.proto import metadata_store_pb2 as mlmd

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
    } | changes


def history(*records: dict[str, Any]) -> Records:
    """Records one after the other, each with a salt of its own."""
    for position, one in enumerate(records, start=1):
        one["position"] = position
        if one["salt"] is not None:
            one["salt"] = bytes([position]) * 16
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
        f"commit {said['commit']}\nrecorded-at {_time_text(said['recorded_at'])}\n"
        f"signed-at {_time_text(AT)}\n"
    )


def holds(records: Iterable[dict[str, Any]], note: str | None = None) -> bool:
    records = [*records]
    try:
        verify_records(iter(records), note or signed(records), STANDALONE_KEY)
    except Refused:
        return False
    return True


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
    erased = record(kind, 7, type_id=one["type_id"])
    gone = derived(kind, None)
    assert holds([erased | {"derived": gone}])
    for name, content in gone.items():
        other = [("a", None)] if content == [] else "x"
        assert not holds([erased | {"derived": gone | {name: other}}]), name


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


@pytest.mark.parametrize("changes", [{}, {"actor": None}, {"reason": "\u00e4" * 300}])
def test_its_leaves_are_the_store_s(changes: dict[str, Any]) -> None:
    for number, (kind, message) in enumerate(MESSAGES, start=3):
        for extra in ({}, {"previous": 2}, {"previous": 2**40, "recorded_at": -7}):
            one = record(kind, 7, message, position=number, commit=number + 2**33)
            one |= extra | changes
            (expected,) = leaf_hashes(STORE, [as_record(one)])
            assert leaf_hash(str(STORE), one) == expected
            hidden = one | {"salt": None, "payload": None, "commitment": bytes([number]) * 32}
            (expected,) = leaf_hashes(STORE, [as_record(hidden)])
            assert leaf_hash(str(STORE), hidden) == expected


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
        {"kind": "artefact"},
        {"entity_id": 2**63},
        {"position": None},
        {"actor": 7},
        {"actor": "\ud800"},
    ],
    ids=repr,
)
def test_what_has_no_leaf(changes: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        leaf_hash(str(STORE), record("event", 1, b"") | changes)


# --- Records one after the other


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


def hidden(one: dict[str, Any]) -> dict[str, Any]:
    """The record with its content erased."""
    return one | {"salt": None, "payload": None, "commitment": bytes(32)}


SOUND: list[Records] = [
    [artifact_type(1), artifact(1, type="T"), artifact(1, type="T", uri="u", previous=2)],
    [artifact_type(1), artifact_type(1, previous=1)],
    [artifact_type(1), execution_type(2), artifact(1, type="T")],
    [artifact_type(2, "A", external_id="a"), artifact_type(3, "B", external_id="b")],
    [artifact(1, name="a"), artifact(2, type_id=2, name="a"), context(1, name="a")],
    [artifact(1, name="a"), artifact(2), artifact(3)],
    [artifact(1, external_id="a"), context(1, external_id="a")],
    [
        artifact(1, external_id="a"),
        artifact(1, external_id="b", previous=1),
        artifact(2, external_id="a"),
    ],
    [context(1, name="a"), context(1, name="b", previous=1), context(2, name="a")],
    [context(1, name="a"), context(2, name="b"), context(1, name="c", previous=1)],
    [event(1, 1, 1, 1), event(2, 1, 1, 2), event(3, 1, 2, 1), event(4, 2, 1, 1)],
    [event(1, 1, 2, 3), event(2, 2, 1, 3)],
    [hidden(artifact_type(1)), artifact(1, type="T")],
    [artifact_type(1), hidden(artifact(1)), artifact(1, name="a", type="T", previous=2)],
    [artifact(1, name="a"), hidden(artifact(1, previous=1)), artifact(2, name="a")],
    [hidden(event(1, 1, 1, 1)), event(2, 1, 1, 1)],
    [hidden(event(1, 1, 1, 1)), hidden(event(2, 1, 1, 1))],
    [artifact(1), context(1)],
    [artifact(1, type_id=5, type="T")],
]
FORGED: list[Records] = [
    [artifact_type(1), artifact(1, type="U")],
    [artifact_type(1), artifact(1, type="T"), artifact(1, type="U", previous=2)],
    [artifact_type(1), artifact(1, type_id=2, type="T")],
    [artifact(1, type="T"), artifact_type(1)],
    [artifact_type(1), execution_type(1)],
    [artifact_type(1), artifact_type(1, "U", previous=1)],
    [artifact_type(1, version="v"), artifact_type(1, previous=1)],
    [artifact_type(2, "A", external_id="a"), execution_type(3, "B", external_id="a")],
    [artifact(1, name="a"), artifact(2, name="a")],
    [artifact(1, name="a"), artifact(1, previous=1)],
    [artifact(1, create_time_since_epoch=1), artifact(1, previous=1)],
    [artifact(1), artifact(1, type_id=2, previous=1)],
    [artifact(1), hidden(artifact(1, type_id=2, previous=1))],
    [artifact(1, external_id="a"), artifact(2, external_id="a")],
    [
        artifact(1, external_id="a"),
        artifact(1, external_id="b", previous=1),
        artifact(2, external_id="b"),
    ],
    [artifact(1, external_id="a"), artifact(2, type_id=2, external_id="a")],
    [context(1, name="a"), context(2, name="a")],
    [event(1, 1, 2, 3), event(2, 1, 2, 3)],
    [event(1, 1, 2, 3, at=1), event(2, 1, 2, 3, at=2)],
    [event(1, 1, 1, 1), event(1, 1, 2, 1)],
    [artifact(1), artifact(1)],
    [artifact(1), artifact(2), artifact(1, previous=2)],
    [artifact(1), artifact(2, previous=1)],
    [artifact(1), context(1, previous=1)],
    [artifact(1), artifact(2, previous=2)],
    [artifact(0)],
    [artifact(-1)],
    [artifact(1), artifact(1, previous=-1)],
    [artifact(1), event(1, 1, 1, 1) | {"previous": 1}],
    [artifact(1) | {"type_id": None}],
    [artifact(1) | {"type_id": 2}],
    [artifact(1) | {"entity_id": 2}],
    [artifact_type(1) | {"entity_id": 2}],
    [artifact_type(1) | {"type_id": 2}],
    [event(1, 1, 1, 1) | {"type_id": 2}],
    [event(0, 1, 1, 1)],
]


@pytest.mark.parametrize("number", range(len(SOUND)))
def test_records_that_agree(number: int) -> None:
    assert holds(history(*map(dict, SOUND[number])))


@pytest.mark.parametrize("number", range(len(FORGED)))
def test_records_that_do_not_agree(number: int) -> None:
    assert not holds(history(*map(dict, FORGED[number])))


@pytest.mark.parametrize("one", [artifact(3), artifact_type(3)], ids=["node", "type"])
def test_a_record_replaces_an_earlier_position(one: dict[str, Any]) -> None:
    for previous in (-1, 0, 5, 6):
        with pytest.raises(Refused, match="which is not before it"):
            check_record(one | {"position": 5, "previous": previous})
    for previous in (1, 4):
        assert check_record(one | {"position": 5, "previous": previous})
    with pytest.raises(Refused, match="is a link"):
        check_record(event(1, 1, 1, 1) | {"position": 5, "previous": 1})


def changed_at(place: int, **changes: Any) -> Callable[[Records], None]:
    def change(records: Records) -> None:
        records[place] |= changes

    return change


@pytest.mark.parametrize(
    "change",
    [
        changed_at(0, position=0),
        changed_at(0, position=2),
        changed_at(3, position=5),
        changed_at(3, position=3),
        changed_at(0, commit=2),
        changed_at(0, commit=0),
        changed_at(3, commit=4),
        changed_at(3, commit=1),
        changed_at(3, recorded_at=AT - 1),
        changed_at(1, recorded_at=AT - 1),
        changed_at(1, recorded_at=AT + 1),
        changed_at(1, actor="eve"),
        changed_at(1, reason=""),
        changed_at(1, request_id=None),
        changed_at(3, salt=bytes([1]) * 16),
    ],
)
def test_records_that_do_not_follow_each_other(change: Callable[[Records], None]) -> None:
    def records() -> Records:
        found = history(*(artifact(number) for number in range(1, 5)))
        for one in found[2:]:
            one["commit"] = 2
        found[3] |= {"commit": 3, "recorded_at": AT + 5, "actor": "bob"}
        return found

    assert holds(records())
    changed = records()
    change(changed)
    assert not holds(changed)


def test_what_a_checkpoint_states_of_records() -> None:
    records = history(*(artifact(number) for number in range(1, 7)))
    for one in records[3:]:
        one |= {"commit": 2, "recorded_at": AT + 1}
    assert holds(records)
    # As far as the checkpoint reaches, which is to the end of a commit.
    assert holds(records, signed(records[:3]))
    for size in (1, 2, 4, 5):
        assert not holds(records, signed(records[:size]))
    assert not holds(records[:3], signed(records))
    assert not holds([], signed(records))
    for stated in (
        {"size": 5},
        {"size": 7},
        {"root": bytes(32)},
        {"commit": 1},
        {"commit": 3},
        {"recorded_at": AT},
    ):
        assert not holds(records, signed(records, **stated))


def test_both_forms_of_a_segment_hold_the_same_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = history(*(artifact(number) for number in range(1, 4)))
    forms: dict[str, Records] = {}
    monkeypatch.setattr(
        standalone_verifier,
        "segment_records",
        lambda path, torn="": iter(forms[path.suffix] if path.stem == "0000000001" else ()),
    )
    (tmp_path / "log").mkdir()
    (tmp_path / "manifest.json").write_text(
        '{"manifest":{"segments":[{"file":"0000000001.parquet"}],"active":{"number":2}}}'
    )
    (tmp_path / "log" / "0000000002.arrows").touch()
    for suffix in (".arrows", ".parquet"):
        (tmp_path / "log" / f"0000000001{suffix}").touch()
    changed = [*records[:2], records[2] | {"actor": "eve"}]
    for stream, sealed, agree in (
        (records, records, True),
        (records[:2], records, False),
        (records, records[:2], False),
        (changed, records, False),
        (records, changed, False),
    ):
        forms.update({".arrows": stream, ".parquet": sealed})
        read = standalone_verifier.stored_records(str(tmp_path))
        if agree:
            assert [*read] == records
        else:
            with pytest.raises(Refused, match="records"):
                list(read)


# --- Signatures and paths


def encoded_point(point: Any) -> bytes:
    inverse = pow(point[2], -1, standalone_verifier._P)
    x, y = (part * inverse % standalone_verifier._P for part in point[:2])
    return (y | (x & 1) << 255).to_bytes(32, "little")


@pytest.mark.parametrize("secret", [5, 2**200 + 12345])
def test_half_of_a_point_is_not_enough(secret: int) -> None:
    """By whoever has the key: S B and R + kA with the same y, or the same x, and not the other."""
    order, base = standalone_verifier._L, standalone_verifier._BASE
    multiply, add = standalone_verifier._multiply, standalone_verifier._add
    key = encoded_point(multiply(secret, base))
    nonce = 77
    order_2 = (0, standalone_verifier._P - 1, 1, 0)
    plain = multiply(nonce, base)
    for r, sign, expected in (
        (plain, 1, True),
        (plain, -1, False),
        (add(plain, order_2), 1, False),
    ):
        first = encoded_point(r)
        k = int.from_bytes(hashlib.sha512(first + key + b"text").digest(), "little")
        s = sign * (nonce + k * secret) % order
        signature = first + s.to_bytes(32, "little")
        assert standalone_verifier.ed25519_verifies(key, signature, b"text") == expected
        assert ed25519_verifies(key, signature, b"text") == expected


def key_text(name: str, key: bytes) -> str:
    key_id = hashlib.sha256(name.encode() + b"\n" + key).digest()[:4].hex()
    return f"{name}+{key_id}+{base64.b64encode(key).decode()}"


def test_texts_of_keys() -> None:
    public = KEY.verifier_key.public_key
    VerifierKey.parse(key_text("auditor", b"\x01" + public))
    for text in (
        key_text("auditor", b"\x02" + public),
        key_text("auditor", b"\x01" + public + b"\x00"),
        key_text("auditor", b"\x01" + public[:-1]),
        key_text("", b"\x01" + public),
        key_text("auditor", b"\x01" + public).replace("+", "-", 1),
        key_text("auditor", b"\x01" + public) + "=",
        key_text("auditor", b"\x01" + public)[:-1] + "\u00e4",
    ):
        with pytest.raises(InvalidArgumentError):
            VerifierKey.parse(text)
        with pytest.raises(Refused):
            standalone_verifier.parse_key(text)


def raw_note(key: SigningKey, text: str) -> str:
    """A signed note, of a text that the signer would refuse."""
    signature = key.verifier_key.key_id + key._private().sign(text.encode())
    return f"{text}\n\u2014 {key.name} {base64.b64encode(signature).decode()}\n"


def is_opened(note: str) -> bool:
    """Whether both open it, which they have to agree on."""
    try:
        found = standalone_verifier.open_note(note, STANDALONE_KEY)
    except Refused:
        with pytest.raises(InvalidArgumentError):
            opened(note, KEY.verifier_key)
        return False
    assert opened(note, KEY.verifier_key) == found
    return True


def test_notes() -> None:
    note = raw_note(KEY, "text\n")
    line = note.removeprefix("text\n\n")
    namesake, other = SigningKey.generate("auditor"), SigningKey.generate("other")
    foreign = [raw_note(key, "text\n").removeprefix("text\n\n") for key in (namesake, other)]
    same_id = base64.b64encode(KEY.verifier_key.key_id + bytes(64)).decode()
    foreign.append(f"\u2014 other {same_id}\n")
    assert is_opened(note)
    assert is_opened(note + line)
    for another in foreign:
        assert is_opened(note + another)
        assert is_opened("text\n\n" + another + line)
        assert is_opened("text\n\n" + another + line + another)
        assert not is_opened("text\n\n" + another)
    wrong = raw_note(KEY, "other\n").removeprefix("other\n\n")
    assert not is_opened(note + wrong)
    assert not is_opened("text\n\n" + wrong + line)
    assert is_opened(raw_note(KEY, "one\n\ntwo\n"))
    assert is_opened(raw_note(KEY, " \x7f\n"))
    for text in ("\x1f\n", "\t\n", "\x00\n", "\r\n"):
        assert not is_opened(raw_note(KEY, text))
    for broken in (
        "",
        "text\n\n",
        "text\n",
        line,
        note[:-1],
        note[:-1] + "X",
        raw_note(KEY, "\n").removeprefix("\n\n"),
        note.replace("\u2014", "-"),
        note.replace("\u2014 ", "\u2014"),
        note + "\n",
        note + "x\n",
        note[:-1] + "=\n",
        note[:-1] + " \n",
    ):
        assert not is_opened(broken), broken


@pytest.mark.parametrize("moment", ["2026-13-01T00:00:00.000000Z", "2026-01-01T00:00:61.000000Z"])
@pytest.mark.parametrize("which", ["recorded-at", "signed-at"])
def test_times_that_are_none(moment: str, which: str) -> None:
    text = signed(history(artifact(1))).partition("\n\n")[0] + "\n"
    assert standalone_verifier.open_checkpoint(KEY.signed(text), STANDALONE_KEY)["commit"] == 1
    lines = [f"{which} {moment}" if which in line else line for line in text.split("\n")]
    with pytest.raises(Refused, match="is no time"):
        standalone_verifier.open_checkpoint(KEY.signed("\n".join(lines)), STANDALONE_KEY)


def is_refused(check: Callable[..., Any], *arguments: Any) -> bool:
    try:
        check(*arguments)
    except Refused:
        return True
    return False


def test_paths_of_trees_of_another_size_than_stated() -> None:
    """A signer could state a size that is not the tree's: both verifiers judge alike."""
    leaves = [hashlib.sha256(bytes([number])).digest() for number in range(12)]

    def head(first: int, end: int) -> bytes:
        return tree_head(leaves[first:end])

    for size in range(1, 12):
        root = head(0, size)
        for index in range(size):
            path = inclusion_path(index, size, head)
            for claimed_size in range(13):
                for claimed in {-1, 0, index - 1, index, index + 1, claimed_size}:
                    leads = False
                    for cut in (path, path[:-1], [*path, root]):
                        arguments = (leaves[index], claimed, claimed_size, cut)
                        expected = includes(*arguments, root)
                        refused = is_refused(standalone_verifier.root_from_inclusion, *arguments)
                        leads = not refused and (
                            standalone_verifier.root_from_inclusion(*arguments) == root
                        )
                        assert leads == expected, (size, index, claimed_size, claimed)
        for older in range(1, size + 1):
            path = consistency_path(older, size, head)
            for first in range(13):
                for second in range(13):
                    for cut in (path, path[:-1], [*path, root]):
                        roots = head(0, older), root
                        assert is_consistent(first, second, cut, *roots) == (
                            not is_refused(
                                standalone_verifier.check_consistency, first, second, *roots, cut
                            )
                        ), (older, size, first, second)
