"""Signing keys give way to others, for both verifiers alike; nobody else can have them do so."""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.audit import (
    Checkpoint,
    KeyRotation,
    Policy,
    SigningKey,
    VerifierKey,
    standalone_verifier,
    with_rotations,
)
from eventstore.audit.standalone_verifier import Refused
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.audit.filled_store import fill
from tests.builders import memory_store
from tests.command_line.runner import run

# One name, as a signer has who takes a new key.
ANA, BEN, CLEO, DAN, MALLORY = (SigningKey("ana@example.com", bytes([n]) * 32) for n in range(1, 6))
STORE, OTHER_STORE = (f"0000000{n}-0000-4000-8000-000000000000" for n in (0, 1))


def moment(hour: int) -> str:
    return f"2026-11-20T{hour:02}:00:00.000000Z"


def statement(size: int, hour: int, store: str = STORE, history: str = "true") -> str:
    root = base64.b64encode(hashlib.sha256(f"{history} {size}".encode()).digest()).decode()
    return (
        f"eventstore/{store}\n{size}\n{root}\ncommit {size}\nrecorded-at {moment(1)}\n"
        f"signed-at {moment(hour)}\n"
    )


def signed_by(text: str, *keys: SigningKey) -> str:
    return f"{text}\n" + "".join(key.signed(text).removeprefix(f"{text}\n") for key in keys)


def checkpoint(key: SigningKey, size: int, hour: int, **others: str) -> str:
    return signed_by(statement(size, hour, **others), key)


def rotation(
    old: SigningKey,
    new: SigningKey,
    size: int,
    hour: int,
    *,
    signers: tuple[SigningKey, ...] | None = None,
    signed_at: int | None = None,
    **others: str,
) -> str:
    """One whose last checkpoint is signed an hour before it, unless told otherwise."""
    last = statement(size, hour - 1 if signed_at is None else signed_at, **others)
    text = (
        f"eventstore/key-rotation\nold-key {old.verifier_key}\nnew-key {new.verifier_key}\n"
        f"rotated-at {moment(hour)}\n{last}"
    )
    return signed_by(text, *((old, new) if signers is None else signers))


TO_BEN = rotation(ANA, BEN, 100, 10)
TO_CLEO = rotation(BEN, CLEO, 200, 12)
TO_DAN = rotation(CLEO, DAN, 200, 14)


@functools.cache
def trust_alone(trusted: str, rotations: tuple[str, ...]) -> standalone_verifier.Trust:
    """Each signature takes some milliseconds there."""
    trust = standalone_verifier.parse_trust(trusted)
    return standalone_verifier.with_rotations(trust, list(rotations))


def refusal(note: str, trusted: str, *rotations: str) -> str:
    """Why a checkpoint is refused, or nothing; both verifiers have to agree."""
    said, said_alone = "", ""
    try:
        trust: Any = Policy.parse(trusted) if "quorum" in trusted else VerifierKey.parse(trusted)
        if rotations:
            trust = with_rotations(trust, map(KeyRotation.parse, rotations))
        Checkpoint.parse(note, trust)
    except errors.InvalidArgumentError as error:
        said = str(error)
    try:
        standalone_verifier.open_checkpoint(note, trust_alone(trusted, rotations))
    except Refused as refused:
        said_alone = str(refused)
    assert bool(said) == bool(said_alone), (said, said_alone)
    return said


def text_of(key: SigningKey) -> str:
    return str(key.verifier_key)


def test_what_each_key_signed_in_its_time_holds_from_whichever_key_is_trusted() -> None:
    in_time = [
        checkpoint(ANA, 100, 9),
        checkpoint(ANA, 60, 3),
        checkpoint(BEN, 100, 11),
        checkpoint(BEN, 200, 11),
        checkpoint(CLEO, 200, 13),
        checkpoint(DAN, 200, 15),
        checkpoint(DAN, 1000, 20),
    ]
    line = (TO_BEN, TO_CLEO, TO_DAN)
    for trusted, note in itertools.product((ANA, BEN, CLEO, DAN), in_time):
        assert not refusal(note, text_of(trusted), *line)
    for order in itertools.permutations(line):
        assert not refusal(in_time[-1], text_of(ANA), *order)
    # A copy of a rotation is the same one, and so is one that somebody else has signed, too.
    further = MALLORY.signed(TO_CLEO.rpartition("\n\n")[0] + "\n").rpartition("\n\n")[2]
    assert not refusal(in_time[-1], text_of(ANA), *line, TO_BEN, TO_CLEO + further)
    # Without all of them it does not.
    assert refusal(in_time[-1], text_of(ANA))
    assert refusal(in_time[0], text_of(DAN))


@pytest.mark.parametrize(
    ("note", "why"),
    [
        (checkpoint(ANA, 101, 9), "signs no more than 100"),
        (checkpoint(BEN, 201, 11), "signs no more than 200"),
        (checkpoint(ANA, 100, 11), "after the key rotation"),
        (checkpoint(ANA, 60, 11), "after the key rotation"),
        (checkpoint(ANA, 100, 9, history="forged"), "another history of 100 records"),
        # Not even the newest key goes back on what the older ones have signed last.
        (checkpoint(DAN, 100, 15, history="forged"), "another history of 100 records"),
        (checkpoint(DAN, 1000, 20, store=OTHER_STORE), f"it is of store {OTHER_STORE}"),
        (checkpoint(MALLORY, 100, 9), "no signature"),
        (ANA.signed("log.example/other\n"), "not a checkpoint"),
        (TO_BEN, "not a checkpoint"),
    ],
)
def test_what_a_key_signs_after_it_was_replaced_is_refused(note: str, why: str) -> None:
    for trusted in (ANA, DAN):
        assert why in refusal(note, text_of(trusted), TO_BEN, TO_CLEO, TO_DAN)


BY_MALLORY = checkpoint(MALLORY, 1000, 20)
BY_DAN = checkpoint(DAN, 1000, 20)


@pytest.mark.parametrize(
    ("note", "rotations", "why"),
    [
        # Forged by whoever wants to be the signer.
        (BY_MALLORY, [rotation(ANA, MALLORY, 100, 10, signers=(MALLORY,))], "by the old key"),
        (BY_MALLORY, [rotation(ANA, MALLORY, 100, 10, signers=(ANA,))], "by the new key"),
        (BY_MALLORY, [TO_BEN.replace(text_of(BEN), text_of(MALLORY))], "not of this text"),
        (BY_MALLORY, [rotation(MALLORY, ANA, 100, 10, signers=(MALLORY,))], "by the new key"),
        (BY_MALLORY, [rotation(DAN, MALLORY, 200, 15)], "in no line"),
        # A stolen old key appoints somebody after it was replaced, by whatever clock.
        (BY_MALLORY, [TO_BEN, rotation(ANA, MALLORY, 300, 20)], "is followed twice"),
        (BY_MALLORY, [TO_BEN, rotation(ANA, MALLORY, 50, 8)], "is followed twice"),
        (BY_DAN, [TO_BEN, rotation(ANA, BEN, 300, 20)], "is followed twice"),
        (BY_DAN, [TO_BEN, TO_CLEO, rotation(ANA, CLEO, 200, 12)], "twice"),
        (BY_DAN, [rotation(ANA, DAN, 100, 10), rotation(BEN, DAN, 100, 10)], "preceded twice"),
        # Back-dated, so as to take from the key before what it has signed.
        (BY_DAN, [rotation(ANA, DAN, 100, 10, signed_at=11)], "back-dated"),
        (checkpoint(CLEO, 300, 13), [TO_BEN, rotation(BEN, CLEO, 99, 12)], "back-dated"),
        (checkpoint(CLEO, 300, 13), [TO_BEN, rotation(BEN, CLEO, 200, 9)], "back-dated"),
        (
            checkpoint(CLEO, 300, 13),
            [TO_BEN, rotation(BEN, CLEO, 100, 12, history="forged")],
            "two histories",
        ),
        # Replayed for another store, alone or among those of this one.
        (checkpoint(BEN, 300, 11, store=OTHER_STORE), [TO_BEN], "is of store"),
        (BY_DAN, [TO_BEN, rotation(BEN, DAN, 200, 12, store=OTHER_STORE)], "is of store"),
        # Gaps and circles.
        (BY_DAN, [TO_CLEO, TO_DAN], "in no line"),
        (BY_DAN, [TO_BEN, TO_DAN], "in no line"),
        (BY_DAN, [TO_BEN, rotation(BEN, ANA, 200, 12)], "leads back"),
        (BY_DAN, [rotation(ANA, ANA, 100, 10)], "in place of itself"),
        # Under another name a key would have a second successor.
        (
            BY_MALLORY,
            [TO_BEN, rotation(SigningKey("ana", ANA.seed), MALLORY, 100, 10)],
            "two names",
        ),
        # Other forms.
        (BY_DAN, [checkpoint(ANA, 100, 9)], "not a key rotation"),
        (BY_DAN, [signed_by(TO_BEN.replace("old-key ", "old-key  "), ANA, BEN)], "rotation"),
        (BY_DAN, [rotation(ANA, BEN, 100, 10).replace("-20T", "-31T")], "rotation"),
        (BY_DAN, [rotation(ANA, BEN, 100, 10, store=STORE.replace("-", "", 1) + "-")], "rotation"),
        (BY_DAN, ["anything"], "not a signed note"),
    ],
)
def test_rotations_that_do_not_lead_from_a_trusted_key_are_refused(
    note: str, rotations: list[str], why: str
) -> None:
    for order in (rotations, rotations[::-1]):
        assert why in refusal(note, text_of(ANA), *order)


def test_a_policy_goes_on_after_a_rotation() -> None:
    policy = f"log {text_of(ANA)}\nquorum none\n"
    assert refusal(checkpoint(BEN, 300, 11), policy)
    assert not refusal(checkpoint(BEN, 300, 11), policy, TO_BEN)
    assert refusal(checkpoint(ANA, 300, 11), policy, TO_BEN)
    # Of two signers each has a line of keys; both signatures on one checkpoint count for one.
    both = f"log {text_of(CLEO)}\n{policy}"
    other = rotation(CLEO, DAN, 150, 13)
    for key in (BEN, DAN):
        assert not refusal(checkpoint(key, 300, 15), both, TO_BEN, other)
    assert refusal(checkpoint(CLEO, 300, 13), both, TO_BEN, other)
    assert not refusal(signed_by(statement(300, 15), ANA, BEN), policy, TO_BEN)
    # A key that is named after a store is that store's alone, rotated or not.
    theirs = SigningKey(f"eventstore/{OTHER_STORE}", bytes([9]) * 32)
    assert refusal(checkpoint(theirs, 300, 11), policy, rotation(ANA, theirs, 100, 10))


def test_a_rotation_states_the_last_checkpoint_of_the_old_key() -> None:
    with memory_store() as store:
        fill(store)
        last = store.checkpoint(ANA)
        made = KeyRotation.signed(last, ANA, BEN)
        assert KeyRotation.parse(made.text) == made
        assert (made.last.size, made.last.root) == (last.size, last.root)
        trust = with_rotations(ANA.verifier_key, [made])
        assert Checkpoint.parse(last.text, trust).size == last.size
        assert store.verify(checkpoints=[store.checkpoint(BEN, previous=last), made]).ok
        with pytest.raises(errors.InvalidArgumentError, match="was not signed by"):
            KeyRotation.signed(last, CLEO, BEN)
        with pytest.raises(errors.InvalidArgumentError, match="in place of itself"):
            KeyRotation.signed(last, ANA, ANA)
    with memory_store() as other:
        fill(other)
        with pytest.raises(errors.NotFoundError, match="this is store"):
            other.verify(checkpoints=[made])


def test_the_commands_take_rotations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ana", "ben", "mallory"):
        Path(f"{name}.pub").write_text(run("key", name, f"{name}.key").out)
    for number in (1, 2, 3):
        with eventstore.open("store") as store:
            store.put_artifact_type(mlmd.ArtifactType(name=f"t{number}"))
        key = "ana.key" if number < 3 else "ben.key"
        Path(f"c{number}").write_text(run("checkpoint", "store", "--key", key).out)
    made = run("rotate", "c2", "--key", "ana.key", "--to", "ben.key")
    Path("rotation").write_text(made.out)
    answer = json.loads(run("rotate", "c2", "--key", "ana.key", "--to", "ben.key", "--json").out)
    size = int(Path("c2").read_text().split("\n")[1])
    assert (answer["new_key"], answer["size"]) == (Path("ben.pub").read_text().strip(), size)
    assert run("rotate", "c3", "--key", "ana.key", "--to", "ben.key").code == 1

    by_ana = ("--key", "ana.pub")
    rotated = (*by_ana, "--rotation", "rotation")
    for name in ("c1", "c2", "c3"):
        assert run("verify", "store", "--checkpoint", name, *rotated).code == 0
    assert run("verify", "store", "--checkpoint", "c3", *by_ana).code == 1
    Path("late").write_text(run("checkpoint", "store", "--key", "ana.key").out)
    late = run("verify", "store", "--checkpoint", "late", *rotated)
    assert (late.code, f"signs no more than {size}" in late.err) == (1, True)

    # Nor does the signer's own command sign with a key that was replaced.
    signing = ("checkpoint", "store", "--previous", "c2", "--rotation", "rotation", "--key")
    assert run(*signing, "ben.key").code == 0
    assert run(*signing, "ana.key").code == 1

    proving = run("prove", "store", "--since", "c1", "--checkpoint", "c3", *rotated)
    Path("proof").write_text(proving.out)
    assert run("prove", "--check", "proof", "--since", "c1", *rotated).code == 0
    assert run("prove", "--check", "proof", "--since", "c1", *by_ana).code == 3

    run("key", "north", "north.key", "--witness")
    cosigning = ("--by", "north.key", "--last", "last")
    assert run("cosign", "c1", *cosigning, *by_ana).code == 0
    assert run("cosign", "proof", *cosigning, *by_ana).code == 1
    assert run("cosign", "proof", *cosigning, *rotated).code == 0

    publishing = ("publish", "tiles", "store", "www", "--checkpoint")
    assert run(*publishing, "c2", *by_ana).code == 0
    assert run(*publishing, "c3", *by_ana).code == 1
    assert run(*publishing, "c3", *rotated).code == 0
    assert run("audit", "www", *rotated).code == 0
    assert run("audit", "www", *by_ana).code != 0

    # All of history rewritten, and an old checkpoint shown with it: the rotation tells.
    run("export", "store", "--output", "records")
    records = ("records", "records", "c1", "ana.pub", "--rotation", "rotation")
    for arguments in (records, ("store", "store", *records[2:]), ("checkpoint", *records[2:])):
        assert standalone_verifier.main([*arguments]) == 0
    text = KeyRotation.parse(made.out).text.partition("eventstore/key-rotation")[2]
    forged = text.partition("\n\n")[0].replace(made.out.split("\n")[6], "A" * 43 + "=")
    note = f"eventstore/key-rotation{forged}\n"
    keys = [SigningKey.parse(Path(f"{name}.key").read_text()) for name in ("ana", "ben")]
    Path("rotation").write_text(signed_by(note, *keys))
    assert standalone_verifier.main([*records]) == 1
    found = run("verify", "store", "--checkpoint", "c1", *rotated)
    assert (found.code, "not what the key rotation from ana+" in found.out) == (3, True)
