"""Proofs hold without the store, and nothing that was made of them by hand does."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest

import eventstore
from eventstore import errors
from eventstore.audit import (
    Checkpoint,
    ConsistencyProof,
    InclusionProof,
    SigningKey,
    VerifierKey,
    prove_inclusion,
    signed_checkpoint,
    standalone_verifier,
)
from eventstore.audit.subtree_heads import SubtreeHeads
from eventstore.log import Draft, MemoryLog, Record
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.audit.filled_store import KEY, fill
from tests.builders import memory_store, put_types

REFUSALS = (errors.InvalidArgumentError, errors.DataLossError)


@dataclass(frozen=True)
class Proved:
    store: MetadataStore
    older: Checkpoint
    newer: Checkpoint
    inclusion: str
    consistency: str


@pytest.fixture(scope="module")
def proved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proved]:
    directory = tmp_path_factory.mktemp("proofs")
    with eventstore.open(directory / "store") as store:
        fill(store)
        older = store.as_of(store.log_position() - 3).checkpoint(KEY)
        newer = store.checkpoint(KEY)
        position = store.history("artifact", 5)[0].position
        yield Proved(
            store,
            older,
            newer,
            store.prove(position, newer).to_text(),
            store.prove_consistency(older, newer).to_text(),
        )


@pytest.fixture(autouse=True)
def each_signature_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a signature is one is computed in Python, in 10 ms, from its arguments alone."""
    for name in ("ed25519_verifies", "_strict_point", "_multiply"):
        computed = getattr(standalone_verifier, name)
        monkeypatch.setattr(standalone_verifier, name, functools.cache(computed))


def check_checkpoint(text: str, key: VerifierKey) -> object:
    return Checkpoint.parse(text, key)


INCLUSION = InclusionProof.check, standalone_verifier.verify_proof


def since(older: Checkpoint) -> tuple[Any, Any]:
    """How both check that history goes on from an older checkpoint."""

    def check(text: str, key: VerifierKey) -> object:
        return ConsistencyProof.check(text, older, key)

    def verify(text: str, key: Any) -> str:
        return standalone_verifier.verify_consistency(text, older.text, key)

    return check, verify


NAMES = ("newer", "inclusion", "consistency")


def checks(proved: Proved, name: str) -> tuple[Any, Any]:
    return {
        "newer": (check_checkpoint, standalone_verifier.verify_checkpoint),
        "inclusion": INCLUSION,
        "consistency": since(proved.older),
    }[name]


def assert_refused(check: Any, verify: Any, text: str, key: VerifierKey | None = None) -> None:
    with pytest.raises(REFUSALS):
        check(text, key or KEY.verifier_key)
    with pytest.raises(standalone_verifier.Refused):
        verify(text, standalone_verifier.parse_key(str(key or KEY.verifier_key)))


def text_of(proved: Proved, name: str) -> str:
    found = getattr(proved, name)
    return found.text if isinstance(found, Checkpoint) else found


@pytest.mark.parametrize("name", NAMES)
def test_it_holds(proved: Proved, name: str) -> None:
    (check, verify), text = checks(proved, name), text_of(proved, name)
    check(text, KEY.verifier_key)
    assert verify(text, standalone_verifier.parse_key(str(KEY.verifier_key)))


@pytest.mark.share(3)
@pytest.mark.parametrize("name", NAMES)
def test_no_byte_can_be_changed(proved: Proved, name: str) -> None:
    (check, verify), text = checks(proved, name), text_of(proved, name)
    choice = random.Random(name)
    for place in range(len(text)):
        for other in {choice.choice('0aZ+/= \n\t{}"\\,:\u2014'), chr(ord(text[place]) ^ 1)}:
            if other != text[place]:
                assert_refused(check, verify, text[:place] + other + text[place + 1 :])
        if place % 7 == 0:
            assert_refused(check, verify, text[:place] + text[place + 1 :])
            assert_refused(check, verify, text[:place])
    assert_refused(check, verify, text + "\n")
    assert_refused(check, verify, text + text)
    assert_refused(check, verify, "")
    assert_refused(check, verify, text, SigningKey.generate("ana@example.com").verifier_key)


def test_no_field_of_a_record_can_be_changed(proved: Proved) -> None:
    document = taken_apart(proved.inclusion)
    changed = {
        "position": [5, 0, -1, 2**63, 2**70, None, "5", 5.0, True],
        "commit": [1, None, 2**70],
        "recorded_at": [0, 1, None],
        "kind": ["execution", "Artifact", "", None, 4],
        "entity_id": [1, -1, 2**64],
        "type_id": [None, 0, 1],
        "previous": [0, 1, 7],
        "actor": [None, "", "anb", 7],
        "reason": [None, "good"],
        "request_id": [None, "r2"],
        "salt": [None, "", "AAAA", "A" * 22 + "=="],
        "payload": [None, "", "AAAA", "===="],
        "commitment": ["", "A" * 43 + "=", "AAAA"],
        "who_salt": [None, "", "AAAA", "A" * 22 + "=="],
        "who_commitment": ["", "A" * 43 + "=", "AAAA"],
    }
    assert set(changed) == set(document["record"])
    for name, values in changed.items():
        for value in values:
            if type(value) is type(document["record"][name]) and value == document["record"][name]:
                continue
            assert_document_refused(document | {"record": document["record"] | {name: value}})
    for name in document["record"]:
        record = dict(document["record"])
        del record[name]
        assert_document_refused(document | {"record": record})
    assert_document_refused(document | {"record": document["record"] | {"more": 1}})


def test_no_byte_can_move_between_salt_and_payload(proved: Proved) -> None:
    record = InclusionProof.check(proved.inclusion, KEY.verifier_key).record
    assert record.salt is not None
    assert record.payload is not None
    for salt, payload in (
        (record.salt + record.payload[:1], record.payload[1:]),
        (record.salt[:-1], record.salt[-1:] + record.payload),
    ):
        forged = msgspec.structs.replace(record, salt=salt, payload=payload)
        document = taken_apart(proved.inclusion)
        assert_document_refused(document | {"record": msgspec.to_builtins(forged)})


def test_a_commitment_stands_for_content_that_is_not_shown(proved: Proved) -> None:
    record = InclusionProof.check(proved.inclusion, KEY.verifier_key).record
    assert record.salt is not None
    assert record.payload is not None
    hidden = msgspec.structs.replace(
        record,
        salt=None,
        payload=None,
        commitment=hashlib.sha256(record.salt + record.payload).digest(),
    )
    document = taken_apart(proved.inclusion) | {"record": msgspec.to_builtins(hidden)}
    found = InclusionProof.check(encoded(document), KEY.verifier_key)
    assert found.message is None
    standalone_verifier.verify_proof(
        encoded(document), standalone_verifier.parse_key(str(KEY.verifier_key))
    )


def test_a_right_commitment_does_not_vouch_for_content_beside_it(proved: Proved) -> None:
    document = taken_apart(proved.inclusion)
    record = InclusionProof.check(proved.inclusion, KEY.verifier_key).record
    assert record.salt is not None
    assert record.payload is not None
    commitment = hashlib.sha256(record.salt + record.payload).digest()
    forged = mlmd.Artifact(id=record.entity_id, uri="forged").SerializeToString()
    for salt, payload in (
        (record.salt, forged),
        (record.salt, record.payload),
        (None, forged),
        (None, b""),
        (record.salt, None),
        (bytes(16), None),
        (b"", None),
    ):
        changed = msgspec.structs.replace(record, salt=salt, payload=payload, commitment=commitment)
        assert_document_refused(document | {"record": msgspec.to_builtins(changed)})
    # Without a commitment, half of the content counts as none.
    for salt, payload in ((None, None), (record.salt, None), (None, record.payload)):
        changed = msgspec.structs.replace(record, salt=salt, payload=payload)
        assert_document_refused(document | {"record": msgspec.to_builtins(changed)})


def commitment_to_who(record: Record) -> bytes:
    """Written anew, from FORMAT.md."""
    assert record.who_salt is not None
    who = b""
    for text in (record.actor, record.reason, record.request_id):
        encoded = b"" if text is None else text.encode()
        who += b"\0" if text is None else b"\1" + len(encoded).to_bytes(4, "big") + encoded
    return hashlib.sha256(record.who_salt + who).digest()


def test_a_commitment_stands_for_who_is_not_shown(proved: Proved) -> None:
    record = InclusionProof.check(proved.inclusion, KEY.verifier_key).record
    hidden = msgspec.structs.replace(
        record,
        actor=None,
        reason=None,
        request_id=None,
        who_salt=None,
        who_commitment=commitment_to_who(record),
    )
    document = taken_apart(proved.inclusion) | {"record": msgspec.to_builtins(hidden)}
    found = InclusionProof.check(encoded(document), KEY.verifier_key)
    assert (found.record.actor, found.message.id) == (None, record.entity_id)
    key = standalone_verifier.parse_key(str(KEY.verifier_key))
    assert "by whom is not shown" in standalone_verifier.verify_proof(encoded(document), key)


def test_a_right_commitment_does_not_vouch_for_who_stands_beside_it(proved: Proved) -> None:
    document = taken_apart(proved.inclusion)
    record = InclusionProof.check(proved.inclusion, KEY.verifier_key).record
    right = {"who_commitment": commitment_to_who(record)}
    nobody = {"actor": None, "reason": None, "request_id": None, "who_salt": None}
    for beside in (
        {},
        {"who_salt": None},
        nobody | {"actor": "forged"},
        nobody | {"reason": ""},
        nobody | {"request_id": ""},
        nobody | {"who_salt": record.who_salt},
        nobody | {"who_commitment": right["who_commitment"] + b"\0"},
        nobody | {"who_commitment": right["who_commitment"][:-1]},
    ):
        changed = msgspec.structs.replace(record, **right | beside)
        assert_document_refused(document | {"record": msgspec.to_builtins(changed)})
    changed = msgspec.structs.replace(record, **nobody)
    assert_document_refused(document | {"record": msgspec.to_builtins(changed)})


def test_no_byte_can_move_between_the_salt_and_who(proved: Proved) -> None:
    document = taken_apart(proved.inclusion)
    record = InclusionProof.check(proved.inclusion, KEY.verifier_key).record
    assert record.who_salt is not None
    for salt in (record.who_salt[:-1], record.who_salt + b"\1"):
        changed = msgspec.structs.replace(record, who_salt=salt)
        assert_document_refused(document | {"record": msgspec.to_builtins(changed)})


def test_what_a_proof_proves_is_said_in_words(proved: Proved) -> None:
    key = standalone_verifier.parse_key(str(KEY.verifier_key))
    record = InclusionProof.check(proved.inclusion, KEY.verifier_key).record
    words = standalone_verifier.verify_proof(proved.inclusion, key)
    recorded_at = datetime.fromtimestamp(record.recorded_at // 10**6, timezone.utc)
    assert words.startswith(
        "artifact 5 (type 'DataSet', uri 'u2') was recorded at "
        f"{recorded_at:%Y-%m-%dT%H:%M:%S}.{record.recorded_at % 10**6:06}Z by 'ana', reason "
        "'b\\xf6se \"gut\"\\n\\x01', request id 'r2', "
        f"as position {record.position} in commit {record.commit}: it is one of the "
        f"{proved.newer.size} records of store {proved.newer.store_id} that ana@example.com signed"
    ), words
    lines = proved.newer.text.splitlines()
    assert words.endswith(lines[5].removeprefix("signed-at "))
    between = standalone_verifier.verify_consistency(proved.consistency, proved.older.text, key)
    assert f"the {proved.newer.size} records signed on" in between
    assert f"begin with the {proved.older.size} signed on" in between


def test_a_link_and_an_update_in_words() -> None:
    store = memory_store()
    artifact_type, execution_type, _ = put_types(store)
    (artifact,) = store.put_artifacts([mlmd.Artifact(type_id=artifact_type, name="a\n")])
    store.put_artifacts([mlmd.Artifact(id=artifact, type_id=artifact_type, uri="new")])
    (execution,) = store.put_executions([mlmd.Execution(type_id=execution_type)])
    store.put_events(
        [mlmd.Event(artifact_id=artifact, execution_id=execution, type=mlmd.Event.INPUT)]
    )
    checkpoint = store.checkpoint(KEY)
    key = standalone_verifier.parse_key(str(KEY.verifier_key))

    def words(position: int) -> str:
        proof = store.prove(position, checkpoint).to_text()
        return standalone_verifier.verify_proof(proof, key)

    end = checkpoint.size
    assert "event 1 (artifact_id 1, execution_id 1, event_type 3, event_time " in words(end)
    assert f"in place of position {end - 3}: it is one of" in words(end - 2)
    assert "name 'a\\n', uri 'new'" in words(end - 2)
    assert "artifact type" in words(end - 6) or "execution type" in words(end - 6)


def test_a_proof_of_a_record_that_disagrees_with_itself() -> None:
    """Signed by one who has not looked: the log that was appended to by other means."""
    log = MemoryLog()
    type_payload = mlmd.ArtifactType(id=1, name="t").SerializeToString()
    log.append([Draft("artifact_type", 1, None, None, type_payload)], expected_position=0)
    node = mlmd.Artifact(id=7, type_id=1, type="t").SerializeToString()
    wrong = [
        Draft("artifact", 8, 1, None, node),
        Draft("artifact", 7, 2, None, node),
        Draft("artifact", 7, None, None, node),
        Draft("artifact_type", 2, None, None, type_payload),
        Draft("event", 1, None, 1, b""),
        Draft("event", 0, None, None, b""),
        Draft("event", 1, 1, None, b""),
        Draft("artifact", 7, 1, None, b"\xff"),
    ]
    log.append([*wrong, Draft("artifact", 7, 1, None, node)], expected_position=1)
    checkpoint = signed_checkpoint(log, log.position, KEY)
    heads = SubtreeHeads(log, None, read_only=True)
    for position in range(1, log.position + 1):
        text = prove_inclusion(log, heads, position, checkpoint).to_text()
        if position in (1, log.position):
            InclusionProof.check(text, KEY.verifier_key)
            standalone_verifier.verify_proof(
                text, standalone_verifier.parse_key(str(KEY.verifier_key))
            )
        else:
            assert_refused(*INCLUSION, text)


def test_paths_cannot_be_cut_swapped_or_grown(proved: Proved) -> None:
    for name in ("inclusion", "consistency"):
        document = taken_apart(text_of(proved, name))
        path = document["path"]
        assert len(path) > 2
        for changed in (
            *(path[:i] + path[i + 1 :] for i in range(len(path))),
            path[::-1],
            [*path, path[0]],
            [path[0], *path],
            [],
            [*path[:-1], "AAAA"],
            [*path[:-1], path[-1].rstrip("=")],
            [*path, "", *path],
            path * 64,
        ):
            assert_refused(*checks(proved, name), encoded(document | {"path": changed}))


def test_other_leaves_and_sizes_cannot_be_named(proved: Proved) -> None:
    for name, line in (("inclusion", "index"), ("consistency", "old")):
        document = taken_apart(text_of(proved, name))
        number = int(document[line])
        for wrong in (
            *(number - 1, number + 1, 0, -1, 2**63, 10**30, "1" + "0" * 5_000, f"0{number}"),
            *(f"+{number}", f"{number} ", f" {number}", f"{number}\r", "\u0663", "", "1e1", "0x1"),
            f"{number}\n{line} {number}",
        ):
            assert_refused(*checks(proved, name), encoded(document | {line: wrong}))


def test_forms_that_proofs_do_not_have_are_refused(proved: Proved) -> None:
    for name in ("inclusion", "consistency"):
        text, how = text_of(proved, name), checks(proved, name)
        lines = text.split("\n")
        for wrong in (
            text.replace("\n", "\r\n"),
            text.replace("\n\n", "\n", 1),
            text.replace("\n\n", "\n\n\n", 1),
            "\n" + text,
            "\ufeff" + text,
            text.upper(),
            text[: text.index("\n\n") + 2],
            "\n".join([lines[0], *lines]),
            "\n".join([*lines[:2], lines[1], *lines[2:]]),
            "\n".join([*lines[:1], *lines[2:]]),
            "\n".join(lines[1:]),
            text.replace("@v1", "@v2"),
            text.replace("=\n", "\n", 1),
            text.replace("extra ", "extra  "),
        ):
            if wrong != text:
                assert_refused(*how, wrong)
    assert_refused(*INCLUSION, proved.consistency)
    assert_refused(*since(proved.older), proved.inclusion)


def test_checkpoints_cannot_be_swapped(proved: Proved, tmp_path: Path) -> None:
    with eventstore.open(tmp_path / "other") as other:
        fill(other)
        foreign = other.checkpoint(KEY)
    inclusion, consistency = taken_apart(proved.inclusion), taken_apart(proved.consistency)
    for checkpoint in (proved.older, foreign):
        assert_document_refused(inclusion | {"checkpoint": checkpoint.text})
    for older, newer in (
        (proved.newer, proved.older),
        (proved.older, foreign),
        (foreign, proved.newer),
        (proved.newer, proved.newer),
    ):
        for size in (proved.older.size, older.size):
            changed = consistency | {"old": size, "checkpoint": newer.text}
            assert_refused(*since(older), encoded(changed))
    forger = SigningKey.generate("ana@example.com")
    assert_refused(
        check_checkpoint,
        standalone_verifier.verify_checkpoint,
        forger.signed(proved.newer.text.partition("\n\n")[0] + "\n"),
    )


def test_signed_texts_that_are_no_checkpoint_are_refused(proved: Proved) -> None:
    lines = proved.newer.text.partition("\n\n")[0].split("\n")
    for number, line in enumerate(lines):
        for wrong in ("x", line + " ", "0" + line, ""):
            text = "\n".join([*lines[:number], wrong, *lines[number + 1 :]]) + "\n"
            assert_refused(
                check_checkpoint, standalone_verifier.verify_checkpoint, KEY.signed(text)
            )


def taken_apart(proof: str) -> dict[str, Any]:
    """What a proof's lines say, the record as a dictionary."""
    head, _, checkpoint = proof.partition("\n\n")
    first, *lines = head.split("\n")
    document: dict[str, Any] = {"checkpoint": checkpoint}
    if first.startswith("old "):
        return document | {"old": first.removeprefix("old "), "path": lines}
    extra, index, *path = lines
    record = json.loads(base64.b64decode(extra.removeprefix("extra ")))
    return document | {"record": record, "index": index.removeprefix("index "), "path": path}


def encoded(document: dict[str, Any]) -> str:
    if "old" in document:
        head = [f"old {document['old']}"]
    else:
        record = json.dumps(document["record"], separators=(",", ":"), ensure_ascii=False)
        extra = base64.b64encode(record.encode()).decode()
        head = ["c2sp.org/tlog-proof@v1", f"extra {extra}", f"index {document['index']}"]
    return "\n".join([*head, *document["path"], "", document["checkpoint"]])


def assert_document_refused(document: dict[str, Any]) -> None:
    position = document["record"].get("position")
    indexes = {int(document["index"])}
    if isinstance(position, int):
        indexes.add(position - 1)
    for index in indexes:
        assert_refused(*INCLUSION, encoded(document | {"index": index}))
