"""The checker of proofs in the browser: what it proves, and that each changed byte is refused."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest
from google.protobuf import any_pb2
from google.protobuf.message import Message

import eventstore
from eventstore.audit import Checkpoint, InclusionProof
from eventstore.errors import StatusError
from eventstore.page.static_files import FOLDER
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import retention_pb2
from tests.page.store_of_runs import KEY, MadeStore

LEAF, PATH, HEAD, SIGNATURE = range(4)

PAGE = "http://localhost/proof/"
POLICY = "default-src 'none'; script-src 'self'; require-trusted-types-for 'script'"
"""Tighter than the pages': what the checker does needs nothing more."""

CHECKED = """
async ([proof, key, expected]) => {
    const { check } = await import("/proof/check.js");
    const found = await check(proof, key, expected);
    return JSON.stringify(found, (_, value) => typeof value === "bigint" ? String(value) : value);
}
"""

DECODED = """
async ([kind, payload]) => {
    const { decoded } = await import("/proof/protobuf.js");
    const { MESSAGES } = await import("/proof/messages.js");
    const bytes = Uint8Array.from(atob(payload), (character) => character.charCodeAt(0));
    try {
        return JSON.stringify(decoded(bytes, MESSAGES[kind]),
            (_, value) => typeof value === "bigint" ? String(value) : value);
    } catch (error) {
        return error.message;
    }
}
"""

# Changes one byte after the other; of each the step that refuses it, or what came out instead.
FLIPPED = """
async ([proof, key, expected]) => {
    const { check } = await import("/proof/check.js");
    const refusedAt = async (text, other) => {
        const { state, steps } = await check(text, other, expected);
        const refused = steps.findIndex((step) => step.state === "refused");
        return state === "refused" ? refused : state;
    };
    const changed = (text, place, bit) => text.slice(0, place)
        + String.fromCharCode(text.charCodeAt(place) ^ bit) + text.slice(place + 1);
    const each = async (begin, end, bit, text = proof) => {
        const found = new Set();
        for (let place = begin; place < end; place += 1) {
            found.add(await refusedAt(changed(text, place, bit), key));
        }
        return [...found].sort();
    };
    const lines = [];
    for (let begin = 0; begin < proof.length;) {
        const end = proof.indexOf("\\n", begin);
        lines.push([begin, end]);
        begin = end + 1;
    }
    const blank = lines.findIndex(([begin, end]) => begin === end);
    const answer = {};
    for (const part of ["header", "record", "bytes", "path", "head", "signature", "key"]) {
        answer[part] = [];
    }
    for (const bit of [1, 2, 128]) {
        answer.header.push(...await each(...lines[0], bit), ...await each(...lines[2], bit));
        answer.record.push(...await each(...lines[1], bit));
        for (const [begin, end] of lines.slice(3, blank)) {
            answer.path.push(...await each(begin, end, bit));
        }
        answer.head.push(...await each(...lines[blank + 3], bit));
        answer.signature.push(...await each(...lines.at(-1), bit));
        for (let place = 0; place < key.length; place += 1) {
            answer.key.push(await refusedAt(proof, changed(key, place, bit)));
        }
    }
    const [begin, end] = [lines[1][0] + "extra ".length, lines[1][1]];
    const record = atob(proof.slice(begin, end));
    for (let place = 0; place < record.length; place += 1) {
        const other = proof.slice(0, begin) + btoa(changed(record, place, 1)) + proof.slice(end);
        answer.bytes.push(await refusedAt(other, key));
    }
    return Object.fromEntries(Object.entries(answer).map(
        ([part, found]) => [part, [...new Set(found)].sort()]));
}
"""


@pytest.fixture(scope="module")
def page(chromium: Any) -> Iterator[Any]:
    """A page under a strict policy that may load the checker."""

    def fulfil(route: Any) -> None:
        name = route.request.url.removeprefix(PAGE)
        headers = {"content-security-policy": POLICY}
        if name:
            path = FOLDER / "proof" / name
            route.fulfill(path=path, headers=headers | {"content-type": "text/javascript"})
        else:
            route.fulfill(body="<title>Check</title>", headers=headers, content_type="text/html")

    with chromium.new_context() as context:
        made = context.new_page()
        made.route("**/*", fulfil)
        said: list[str] = []
        made.on("console", lambda message: said.append(message.text))
        made.goto(PAGE)
        yield made
        assert said == []


@pytest.fixture(scope="module")
def proofs(runs: MadeStore) -> dict[str, InclusionProof]:
    """One of each kind of record that the store has, and by name some others."""
    with eventstore.open(runs.path) as store:
        checkpoint = Checkpoint.parse(runs.checkpoint, KEY.verifier_key)
        firsts: dict[str, int] = {}
        for record in chain.from_iterable(c.records for c in store.log.commits(0, None)):
            firsts.setdefault(record.kind, record.position)
            if record.commitment is not None:
                firsts["erased"] = record.position
        firsts |= {"last": checkpoint.size, "marked": runs.bad_position}
        return {name: store.prove(place, checkpoint) for name, place in firsts.items()}


def checked(page: Any, proof: str, key: str | None = None, **expected: Any) -> dict[str, Any]:
    text = str(KEY.verifier_key) if key is None else key
    found: dict[str, Any] = json.loads(page.evaluate(CHECKED, [proof, text, expected]))
    return found


def test_a_record_of_each_kind_is_proved_and_read_as_protobuf_reads_it(
    page: Any, proofs: dict[str, InclusionProof]
) -> None:
    assert {"artifact", "event", "execution_type", "erasure", "hold", "erased"} <= set(proofs)
    for name, proof in proofs.items():
        found = checked(page, proof.to_text(), position=proof.record.position)
        assert found["state"] == "proved", (name, found["steps"])
        assert [step["state"] for step in found["steps"]] == ["holds"] * 4
        assert found["record"]["kind"] == proof.record.kind
        assert found["record"].get("reason") == proof.record.reason
        assert found["message"] == (None if proof.message is None else as_shown(proof.message))


def test_each_changed_byte_is_refused_at_its_step(
    page: Any, proofs: dict[str, InclusionProof]
) -> None:
    proof, key = proofs["marked"].to_text(), str(KEY.verifier_key)
    store, leaf = str(proofs["marked"].checkpoint.store_id), leaf_of(page, proof)
    found = page.evaluate(FLIPPED, [proof, key, {"storeId": store, "leaf": leaf}])
    assert found == {
        "header": [LEAF],
        "record": [LEAF],
        "bytes": [LEAF],
        "path": [PATH, HEAD],
        "head": [HEAD],
        "signature": [SIGNATURE],
        "key": [SIGNATURE],
    }
    # Where nobody says which leaf it should be, the checkpoint does.
    found = page.evaluate(FLIPPED, [proof, key, {}])
    assert found["bytes"] == found["record"] == [LEAF, HEAD]
    assert {*found["path"], *found["head"]} <= {PATH, HEAD}
    assert found["signature"] == found["key"] == [SIGNATURE]


def leaf_of(page: Any, proof: str) -> str:
    says: str = checked(page, proof)["steps"][LEAF]["says"]
    return says.split()[-1]


def test_content_that_nobody_writes_so_is_read_as_protobuf_reads_it(page: Any) -> None:
    value = mlmd.Value
    node = mlmd.Artifact(id=7, type="Größe", state=mlmd.Artifact.LIVE)
    for name, held in {
        "": value(),
        "__proto__": value(int_value=-(2**63)),
        "dbl": value(double_value=0.1),
        "flag": value(bool_value=False),
        "text": value(string_value="\ufeff<script>\u202e"),
        "packed": value(proto_value=any_pb2.Any(type_url="a/b", value=b"\0\xff")),
    }.items():
        node.properties[name].CopyFrom(held)
    node.custom_properties["s"].struct_value.update({"a": [1, None, {"b": True}], "c": {}})
    again = mlmd.Artifact(id=8, uri="s3://b")
    again.custom_properties["s"].string_value = "later"
    event = mlmd.Event(type=mlmd.Event.OUTPUT)
    event.path.steps.add(index=-1)
    later = mlmd.Event(artifact_id=2)
    later.path.steps.add(key="k")
    erasure = retention_pb2.Erasure(id=1, stage=2, ranges=[{"first_position": 3, "content": True}])
    erasure.ranges[0].redacted_properties.extend(["a", ""])
    scope = retention_pb2.Hold(scope={"type_ids": [1, 300, -1], "kinds": ["artifact"]})
    both = b"\x0a\x02\x08\x05\x0a\x03\x12\x01k"  # one step with an index, and one with a key
    for kind, message, payload in [
        ("artifact", mlmd.Artifact, node.SerializeToString() + again.SerializeToString()),
        ("event", mlmd.Event, event.SerializeToString() + later.SerializeToString()),
        ("event", mlmd.Event, b"\x1a" + bytes([len(both)]) + both),
        ("erasure", retention_pb2.Erasure, erasure.SerializeToString()),
        ("hold", retention_pb2.Hold, scope.SerializeToString()),
    ]:
        found = page.evaluate(DECODED, [kind, base64.b64encode(payload).decode()])
        assert json.loads(found) == as_shown(message.FromString(payload))
    # An unknown field, one of another wire type, and a state that there is none of.
    odd = node.SerializeToString() + b"\xf8\x7f\x01" + b"\x3d\0\0\0\0" + b"\x30\x63"
    found = json.loads(page.evaluate(DECODED, ["artifact", base64.b64encode(odd).decode()]))
    assert found.pop("unknown") == ["field 2047: f87f01", "field 7: 3d00000000"]
    assert found == as_shown(node)
    for broken in (
        b"\x0b",
        b"\x0c",
        b"\x08",
        b"\x0a\x05",
        b"\x00",
        b"\x0f",
        b"\x08" + b"\xff" * 10,
    ):
        found = page.evaluate(DECODED, ["artifact", base64.b64encode(broken).decode()])
        assert found.startswith("the content is no message of protobuf")


@pytest.mark.parametrize(
    ("change", "step"),
    [
        (lambda lines: [*lines[:3], *lines[4:]], PATH),
        (lambda lines: [*lines[:3], lines[3], *lines[3:]], PATH),
        (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], HEAD),
        (lambda lines: [lines[0], lines[2]], LEAF),
        (lambda lines: [*lines[:2], "index 0", *lines[3:]], LEAF),
        (lambda lines: [*lines[:2], f"{lines[2]}0", *lines[3:]], LEAF),
        (lambda lines: ["c2sp.org/tlog-proof@v2", *lines[1:]], LEAF),
        (lambda lines: lines[:-1], SIGNATURE),
        (lambda lines: [*lines[:-1], lines[-1].replace("auditor", "editor")], SIGNATURE),
        (lambda lines: [*lines, lines[-1][:-8] + "AAAAAAAA"], SIGNATURE),
    ],
)
def test_both_checkers_refuse_what_was_changed(
    page: Any, proofs: dict[str, InclusionProof], change: Any, step: int
) -> None:
    lines = proofs["marked"].to_text().split("\n")[:-1]
    changed = "".join(f"{line}\n" for line in change(lines))
    found = checked(page, changed)
    assert found["state"] == "refused"
    states = [each["state"] for each in found["steps"]]
    assert states == ["holds"] * step + ["refused"] + ["not reached"] * (3 - step)
    with pytest.raises(StatusError):
        InclusionProof.check(changed, KEY.verifier_key)


def test_signatures_by_others_are_passed_over(page: Any, proofs: dict[str, InclusionProof]) -> None:
    other = f"\u2014 witness.example {base64.b64encode(bytes(76)).decode()}\n"
    proof = proofs["marked"].to_text() + other
    assert checked(page, proof)["state"] == "proved"
    assert InclusionProof.check(proof, KEY.verifier_key)


def test_without_a_key_or_with_another_one_nothing_is_proved(
    page: Any, proofs: dict[str, InclusionProof], runs: MadeStore
) -> None:
    proof = proofs["marked"].to_text()
    found = checked(page, proof, "")
    assert found["state"] == found["steps"][SIGNATURE]["state"] == "unchecked"
    found = checked(page, proof, "log example.com+4f2a1b3c+AQ==\nquorum none\n")
    assert found["state"] == "unchecked"
    other = eventstore.audit.SigningKey.generate(KEY.name).verifier_key
    found = checked(page, proof, str(other))
    assert found["steps"][SIGNATURE]["state"] == "refused"
    weak = f"weak+00000000+{base64.b64encode(bytes([1, 1, *[0] * 31])).decode()}"
    assert checked(page, proof, weak)["state"] == "refused"


def test_another_record_or_store_than_was_asked_for_is_refused(
    page: Any, proofs: dict[str, InclusionProof]
) -> None:
    proof = proofs["marked"].to_text()
    found = checked(page, proof, position=7)
    assert found["steps"][LEAF]["state"] == "refused"
    assert found["steps"][LEAF]["expected"] == "position 7"
    assert "message" not in found
    found = checked(page, proof, storeId="00000000-0000-4000-8000-000000000000")
    assert found["state"] == "refused"


def as_shown(message: Message) -> dict[str, Any]:
    """A message as the checker's own reader gives it, with whole numbers as texts."""
    return {field.name: _shown(field, value) for field, value in message.ListFields()}


def _shown(field: Any, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        held = field.message_type.fields_by_name["value"]
        return {name: _shown(held, each) for name, each in value.items()}
    if not isinstance(value, (str, bytes, Message)) and hasattr(value, "__len__"):
        return [_one(field, each) for each in value]
    return _one(field, value)


def _one(field: Any, value: Any) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    if isinstance(value, Message):
        return as_shown(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (bool, str)) else str(value)
