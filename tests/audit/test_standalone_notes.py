"""Signatures, keys and signed notes that both verifiers open, and those that both refuse."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from eventstore.audit import SigningKey, standalone_verifier
from eventstore.audit.signed_note import VerifierKey, ed25519_verifies, opened, private_key
from eventstore.audit.standalone_verifier import Refused
from eventstore.errors import InvalidArgumentError
from tests.audit.records_by_hand import KEY, STANDALONE_KEY, artifact, history, signed


def encoded_point(point: Any) -> bytes:
    inverse = pow(point[2], -1, standalone_verifier._P)
    x, y = (part * inverse % standalone_verifier._P for part in point[:2])
    return (y | (x & 1) << 255).to_bytes(32, "little")


@pytest.mark.parametrize("secret", [5, 2**200 + 12345])
def test_a_signature_that_gives_half_of_the_point_is_refused(secret: int) -> None:
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


def test_both_verifiers_read_the_same_keys() -> None:
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
    signature = key.verifier_key.key_id + private_key(key.seed).sign(text.encode())
    return f"{text}\n\u2014 {key.name} {base64.b64encode(signature).decode()}\n"


def is_opened(note: str) -> bool:
    """Whether both open it, which they have to agree on."""
    try:
        found = standalone_verifier.open_note(note, STANDALONE_KEY)[0]
    except Refused:
        with pytest.raises(InvalidArgumentError):
            opened(note, KEY.verifier_key)
        return False
    assert opened(note, KEY.verifier_key) == found
    return True


def test_both_verifiers_open_the_same_notes() -> None:
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
def test_a_moment_that_does_not_exist_is_refused(moment: str, which: str) -> None:
    text = signed(history(artifact(1))).partition("\n\n")[0] + "\n"
    assert standalone_verifier.open_checkpoint(KEY.signed(text), STANDALONE_KEY)["commit"] == 1
    lines = [f"{which} {moment}" if which in line else line for line in text.split("\n")]
    with pytest.raises(Refused, match="is no time"):
        standalone_verifier.open_checkpoint(KEY.signed("\n".join(lines)), STANDALONE_KEY)
