"""Keys: what their texts and other forms show."""

from __future__ import annotations

import base64

from eventstore.audit import SigningKey


def test_a_signing_key_shows_itself_only_when_asked() -> None:
    key = SigningKey("ana", bytes(range(32)))
    for shown in (repr(key), str(key), f"{key}", repr([key]), repr(key.verifier_key)):
        assert "ana" in shown
        for secret in (repr(key.seed), key.seed.hex(), base64.b64encode(key.seed).decode()):
            assert secret not in shown
        assert "PRIVATE" not in shown
    assert base64.b64encode(b"\x01" + key.seed).decode() in key.text()
    assert SigningKey.parse(key.text()) == key
