"""Keys and hashes: what their texts and other forms show, and what is said of wrong ones."""

from __future__ import annotations

import base64
import sys

import pytest

from eventstore import errors
from eventstore.audit import InclusionProof, SigningKey, standalone_verifier
from tests.builders import memory_store, put_types


def test_a_signing_key_shows_itself_only_when_asked() -> None:
    key = SigningKey("ana", bytes(range(32)))
    for shown in (repr(key), str(key), f"{key}", repr([key]), repr(key.verifier_key)):
        assert "ana" in shown
        for secret in (repr(key.seed), key.seed.hex(), base64.b64encode(key.seed).decode()):
            assert secret not in shown
        assert "PRIVATE" not in shown
    assert base64.b64encode(b"\x01" + key.seed).decode() in key.text()
    assert SigningKey.parse(key.text()) == key


def test_without_cryptography_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    key = SigningKey("ana", bytes(range(32)))
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    with pytest.raises(errors.FailedPreconditionError, match="pip install 'mlmd-eventstore"):
        key.signed("text\n")


def test_a_hash_of_another_length_is_named() -> None:
    with memory_store() as store:
        put_types(store)
        key = SigningKey("ana", bytes(range(32)))
        text = store.prove(2, store.checkpoint(key)).to_text()
    verifier = standalone_verifier.parse_key(str(key.verifier_key))
    lines = text.split("\n")
    last = lines.index("") - 1
    for length in (1, 31, 33, 64):
        lines[last] = base64.b64encode(bytes(length)).decode()
        with pytest.raises(standalone_verifier.Refused, match="a hash has 32 bytes"):
            standalone_verifier.verify_proof("\n".join(lines), verifier)
        with pytest.raises(errors.InvalidArgumentError, match="not a hash of 32 bytes"):
            InclusionProof.check("\n".join(lines), key.verifier_key)
