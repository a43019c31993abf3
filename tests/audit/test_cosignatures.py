"""Witnesses cosign what goes on from what they saw; both verifiers count by policies alike."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from eventstore import errors
from eventstore.audit import (
    Checkpoint,
    CosigningKey,
    Policy,
    SigningKey,
    WitnessKey,
    standalone_verifier,
)
from eventstore.audit.cosignature import COSIGNATURE
from eventstore.audit.signed_note import Note, key_text, signature_line
from eventstore.audit.standalone_verifier import Refused
from eventstore.audit.witnessing import with_cosignatures, witnessed
from tests.audit.filled_store import KEY, fill
from tests.builders import memory_store

WITNESSES = {
    name: CosigningKey(f"{name}.example", bytes([number]) * 32)
    for number, name in enumerate(("north", "south", "west", "east"), 1)
}
NOW = 1_764_000_000

# Of another log, as the specification has them: without lines of its own after the third.
OTHER_TEXT = f"log.example/of-somebody\n1234\n{base64.b64encode(bytes(32)).decode()}\n"


def policy_text(*lines: str, witnesses: tuple[str, ...] = ("north", "south", "west")) -> str:
    defined = [f"witness {name} {WITNESSES[name].verifier_key}" for name in witnesses]
    return "\n".join([f"log {KEY.verifier_key}", *defined, *lines]) + "\n"


TWO_OF_THREE = policy_text("group all-of-them 2 north south west", "quorum all-of-them")


def cosigned(checkpoint: str, *names: str) -> str:
    for name in names:
        checkpoint = WITNESSES[name].cosigned(checkpoint, NOW)
    return checkpoint


def signed(size: int, root: bytes) -> str:
    head = base64.b64encode(root).decode()
    at = "2026-11-20T08:00:00.000000Z"
    store_id = "00000000-0000-4000-8000-000000000000"
    return KEY.signed(
        f"eventstore/{store_id}\n{size}\n{head}\ncommit 1\nrecorded-at {at}\nsigned-at {at}\n"
    )


CHECKPOINT, FORK = (signed(7, hashlib.sha256(text).digest()) for text in (b"one", b"other"))


def holds(note: str, policy: str) -> bool:
    """Whether a checkpoint holds by a policy, on which both verifiers have to agree."""
    try:
        found = standalone_verifier.open_checkpoint(note, standalone_verifier.parse_trust(policy))
    except Refused:
        with pytest.raises(errors.InvalidArgumentError):
            Checkpoint.parse(note, Policy.parse(policy))
        return False
    checkpoint = Checkpoint.parse(note, Policy.parse(policy))
    assert checkpoint.signer == found["signer"]
    assert found["cosigned"] == (
        f" (cosigned by {' and '.join(checkpoint.witnesses)})" if checkpoint.witnesses else ""
    )
    return True


def test_two_of_three_witnesses() -> None:
    for names in (("north", "south"), ("west", "north"), ("north", "south", "west")):
        assert holds(cosigned(CHECKPOINT, *names), TWO_OF_THREE)
    # One too few, a repeated one, and a foreign one; also of another time.
    repeated = WITNESSES["north"].cosigned(cosigned(CHECKPOINT, "north"), NOW + 1)
    for refused in (
        CHECKPOINT,
        cosigned(CHECKPOINT, "north"),
        cosigned(CHECKPOINT, "north", "north"),
        repeated,
        cosigned(CHECKPOINT, "north", "east"),
        cosigned(CHECKPOINT, "east"),
    ):
        assert not holds(refused, TWO_OF_THREE)
    note = cosigned(CHECKPOINT, "north", "east", "south", "south")
    assert holds(note, TWO_OF_THREE)
    found = standalone_verifier.verify_checkpoint(
        note, standalone_verifier.parse_trust(TWO_OF_THREE)
    )
    assert " (cosigned by north and south): store " in found


def test_one_who_has_a_witness_s_name_is_no_witness() -> None:
    namesake = CosigningKey("south.example", bytes(32))
    note = namesake.cosigned(cosigned(CHECKPOINT, "north"), NOW)
    assert not holds(note, TWO_OF_THREE)
    assert holds(cosigned(note, "south"), TWO_OF_THREE)


def test_a_fork_shown_to_different_witnesses_is_refused() -> None:
    shown_here, shown_there = cosigned(CHECKPOINT, "north"), cosigned(FORK, "south")
    line = shown_there.splitlines(keepends=True)[-1]
    for note in (shown_here, shown_there, shown_here + line, CHECKPOINT + line):
        assert not holds(note, TWO_OF_THREE)
    # Even with enough others: a witness's line of another checkpoint tells of a second history.
    assert not holds(cosigned(CHECKPOINT, "north", "west") + line, TWO_OF_THREE)
    policy = Policy.parse(TWO_OF_THREE)
    for offered in (shown_there, line):
        with pytest.raises(errors.InvalidArgumentError, match="was shown another one"):
            with_cosignatures(shown_here, [offered], policy)


def test_no_byte_of_a_cosignature_can_be_changed() -> None:
    note = cosigned(CHECKPOINT, "north", "south")
    lines = note.splitlines(keepends=True)
    witness = WITNESSES["south"].verifier_key
    (signature,) = Note.parse(note).signatures_by(witness.name, witness.key_id)
    assert int.from_bytes(signature[:8], "big") == NOW
    for place in range(0, len(signature), 5):
        forged = bytearray(signature)
        forged[place] ^= 1
        line = signature_line(witness.name, witness.key_id, bytes(forged))
        assert not holds("".join(lines[:-1]) + line, TWO_OF_THREE)
    for wrong in (b"x", signature[:-1], signature + b"\x00", signature[8:], b"\xff" * 72):
        line = signature_line(witness.name, witness.key_id, wrong)
        assert not holds("".join(lines[:-1]) + line, TWO_OF_THREE)
    last = lines[-1]
    for wrong_line in (
        last[:-1],
        last + "\n",
        last.replace("\n", "\r\n"),
        last.replace(" ", "  ", 1),
        last[:-3] + "\n",
        "x" + last,
        last.upper(),
        last * 1_000,
    ):
        assert not holds("".join(lines[:-1]) + wrong_line, TWO_OF_THREE)
    # Of its own kind of key: a note's signature is no cosignature, and the reverse.
    as_signer = SigningKey("south.example", WITNESSES["south"].seed)
    line = as_signer.signed(CHECKPOINT.partition("\n\n")[0] + "\n").splitlines(keepends=True)[-1]
    assert not holds("".join(lines[:-1]) + line, TWO_OF_THREE)


def test_groups_of_groups() -> None:
    policy = policy_text(
        "# two of the one side, and any of the other",
        "group\tone  2 north south",
        "  group other any west east # no",
        "group both all one other",
        "quorum both",
        "",
        witnesses=("north", "south", "west", "east"),
    ).replace(" # no", "")
    assert holds(cosigned(CHECKPOINT, "north", "south", "east"), policy)
    for names in (("north", "south"), ("north", "west", "east"), ()):
        assert not holds(cosigned(CHECKPOINT, *names), policy)
    alone = policy_text("quorum west")
    assert holds(cosigned(CHECKPOINT, "west"), alone)
    assert not holds(cosigned(CHECKPOINT, "north", "south"), alone)
    assert holds(CHECKPOINT, policy_text("quorum none"))


def test_a_log_whose_name_is_an_origin_signs_that_log_alone() -> None:
    text = CHECKPOINT.partition("\n\n")[0] + "\n"
    for name, expected in ((text.split("\n")[0], True), ("eventstore/other", False)):
        key = SigningKey(name, bytes(32))
        assert holds(key.signed(text), f"log {key.verifier_key}\nquorum none\n") == expected


WITNESS = str(WITNESSES["north"].verifier_key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n# nothing\n",
        policy_text(),
        policy_text("quorum nobody"),
        policy_text("quorum north", "quorum north"),
        policy_text("quorum north south"),
        policy_text("quorum"),
        policy_text("quorum g", "group g any north"),
        policy_text("group g 0 north", "quorum g"),
        policy_text("group g 2 north", "quorum g"),
        policy_text("group g 01 north", "quorum g"),
        policy_text("group g 99999999999999999999 north", "quorum g"),
        policy_text("group g \u0661 north", "quorum g"),
        policy_text("group g -1 north", "quorum g"),
        policy_text("group g all", "quorum g"),
        policy_text("group g any g", "quorum g"),
        policy_text("group g any none", "quorum g"),
        policy_text("group g 1 north north", "quorum g"),
        policy_text("group g any north", "group h any north", "quorum h"),
        policy_text("group north any south", "quorum north"),
        policy_text("group none any south", "quorum none"),
        policy_text("Quorum none"),
        policy_text("quorum none").replace("\n", "\r\n"),
        policy_text("quorum none\x00"),
        policy_text("quorum none\x7f"),
        policy_text("quorum\u00a0none"),
        policy_text(f"witness north {WITNESS}", "quorum none"),
        policy_text(f"witness again {WITNESS}", "quorum none"),
        policy_text(f"witness none {WITNESS}", "quorum none", witnesses=()),
        policy_text(f"witness n {WITNESS} https://n.example more", "quorum none", witnesses=()),
        policy_text(f"witness {WITNESS}", "quorum none", witnesses=()),
        policy_text(f"witness n {KEY.verifier_key}", "quorum none"),
        policy_text(f"log {WITNESS}", "quorum none"),
        policy_text(f"log {KEY.verifier_key}", "quorum none"),
        policy_text("log", "quorum none"),
        policy_text(f"log {KEY.verifier_key}"[:-2], "quorum none"),
    ],
)
def test_texts_that_are_no_policy_are_refused(text: str) -> None:
    with pytest.raises(errors.InvalidArgumentError):
        Policy.parse(text)
    with pytest.raises(Refused):
        standalone_verifier.parse_policy(text)


def test_addresses_and_blank_space_are_passed_over() -> None:
    text = policy_text(
        f" \twitness n\t{WITNESS}  https://north.example/submit ", "#x", "quorum n", witnesses=()
    ).replace("log ", "log  ", 1)
    assert holds(cosigned(CHECKPOINT, "north"), text)
    assert holds(cosigned(CHECKPOINT, "north"), text.removesuffix("\n"))


def test_as_many_witnesses_and_groups_as_anyone_names() -> None:
    keys = [CosigningKey(f"w{number}", number.to_bytes(32, "big")) for number in range(1, 41)]
    lines = [f"log {KEY.verifier_key}"]
    note = CHECKPOINT
    for number, key in enumerate(keys):
        lines.append(f"witness w{number} {key.verifier_key}")
        former = f" g{number - 1}" if number else ""
        lines.append(f"group g{number} all w{number}{former}")
    lines.append("quorum g39")
    for key in keys[:-1]:
        note = key.cosigned(note, 0)
    policy = Policy.parse("\n".join(lines) + "\n")
    with pytest.raises(errors.InvalidArgumentError, match="demands more cosignatures for 'g39'"):
        Checkpoint.parse(note, policy)
    Checkpoint.parse(keys[-1].cosigned(note, 2**63 - 1), policy)
    with pytest.raises(errors.InvalidArgumentError, match="no time"):
        keys[-1].cosigned(note, 2**63)


def test_keys_of_witnesses_are_read_as_written() -> None:
    key = WITNESSES["north"]
    assert WitnessKey.parse(str(key.verifier_key)) == key.verifier_key
    assert CosigningKey.parse(key.text()) == key
    assert base64.b64decode(str(key.verifier_key).rpartition("+")[2] + "==")[:1] == COSIGNATURE
    assert key.text() not in repr(key)
    small = key_text("n", b"\x00" * 4, COSIGNATURE, bytes(32))
    mldsa = f"n+00000000+{base64.b64encode(bytes([6]) + bytes(1312)).decode()}"
    for text in (small, mldsa, str(KEY.verifier_key), WITNESS[:-1], WITNESS + "="):
        with pytest.raises(errors.InvalidArgumentError):
            WitnessKey.parse(text)
        with pytest.raises(Refused):
            standalone_verifier.parse_key(text, algorithm=4)
    with pytest.raises(errors.InvalidArgumentError, match="one for cosignatures, not for notes"):
        SigningKey.parse(key.text())


def test_a_witness_cosigns_what_goes_on_from_what_it_saw() -> None:
    store = memory_store()
    fill(store)
    older = store.as_of(store.log_position() - 3).checkpoint(KEY)
    newer = store.checkpoint(KEY)
    proof = store.prove_consistency(older, newer).to_text()
    key, trust = WITNESSES["north"], KEY.verifier_key

    def witness(request: str, last: Checkpoint | None) -> Checkpoint:
        return witnessed(request, trust, key, last)

    first = witness(older.text, None)
    assert first.text.startswith(older.text)
    assert key.verifier_key.cosigned_at(Note.parse(first.text)) is not None
    assert witness(f"old 0\n\n{older.text}", None).size == older.size
    second = witness(proof, first)
    assert (second.size, second.root) == (newer.size, newer.root)
    # Asked again, it says so again.
    for request in (proof, newer.text, second.text):
        assert witness(request, second).root == newer.root
    for request, last, refusal in (
        (proof, None, "nothing of this store was cosigned before"),
        (newer.text, first, "need a proof that they begin with"),
        (older.text, second, "it is older"),
        (f"old {newer.size}\n\n{older.text}", second, "it is older"),
        (f"old 0\n\n{newer.text}", first, "starts from 0 records"),
        (proof.replace(newer.text, older.text), second, "starts from"),
    ):
        with pytest.raises(errors.StatusError, match=refusal):
            witness(request, last)
    assert_forks_are_refused(store, older, newer, second)


def assert_forks_are_refused(store: Any, older: Checkpoint, newer: Checkpoint, last: Any) -> None:
    key, trust = WITNESSES["north"], KEY.verifier_key
    lines = newer.text.partition("\n\n")[0].split("\n")
    lines[2] = base64.b64encode(bytes(32)).decode()
    fork = KEY.signed("\n".join(lines) + "\n")
    with pytest.raises(errors.DataLossError, match=r"signed two histories$"):
        witnessed(fork, trust, key, last)
    path = store.prove_consistency(older, newer).to_text().partition("\n\n")[0]
    with pytest.raises(errors.DataLossError, match="signed two histories, unless the proof"):
        witnessed(f"{path}\n\n{fork}", trust, key, older)
    other = memory_store()
    fill(other)
    foreign = other.checkpoint(KEY).text
    with pytest.raises(errors.InvalidArgumentError, match="files of their own"):
        witnessed(foreign, trust, key, last)
    with pytest.raises(errors.InvalidArgumentError, match="no signature by"):
        witnessed(newer.text, SigningKey.generate("ana@example.com").verifier_key, key, last)


def test_cosignatures_come_together() -> None:
    policy = Policy.parse(TWO_OF_THREE)
    both = with_cosignatures(
        cosigned(CHECKPOINT, "north"),
        [
            cosigned(CHECKPOINT, "east", "south", "north"),
            cosigned(CHECKPOINT, "west").splitlines(keepends=True)[-1],
            cosigned(CHECKPOINT, "south"),
        ],
        policy,
    )
    assert both == cosigned(CHECKPOINT, "north", "south", "west")
    assert holds(both, TWO_OF_THREE)
    for foreign in (cosigned(CHECKPOINT, "east"), CHECKPOINT):
        with pytest.raises(errors.InvalidArgumentError, match="no cosignature by a witness"):
            with_cosignatures(CHECKPOINT, [foreign], policy)
    for broken in ("", "\u2014 \n", "\u2014 a AAAA\n", "x"):
        with pytest.raises(errors.InvalidArgumentError):
            with_cosignatures(CHECKPOINT, [broken], policy)


def test_the_message_is_that_of_the_specification() -> None:
    key = WITNESSES["north"]
    note = KEY.signed(OTHER_TEXT)
    line = key.cosigned(note, 1_679_315_147).splitlines()[-1]
    said = f"cosignature/v1\ntime 1679315147\n{OTHER_TEXT}".encode()
    signed_bytes = base64.b64decode(line.split(" ")[2])
    assert signed_bytes[:4] == key.verifier_key.key_id
    assert signed_bytes[4:12] == (1_679_315_147).to_bytes(8, "big")
    public = key.verifier_key.public_key
    assert signed_bytes[:4] == hashlib.sha256(b"north.example\n\x04" + public).digest()[:4]
    assert standalone_verifier.ed25519_verifies(public, signed_bytes[12:], said)
