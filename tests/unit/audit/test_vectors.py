"""Published vectors of RFC 6962, RFC 8032 and C2SP, on the store's code and on the verifier's."""

from __future__ import annotations

import pytest

from eventstore.audit import VerifierKey, standalone_verifier
from eventstore.audit.merkle_proofs import (
    consistency_path,
    includes,
    inclusion_path,
    is_consistent,
)
from eventstore.audit.signed_note import SigningKey, opened
from eventstore.errors import InvalidArgumentError
from eventstore.log.merkle import tree_head
from tests.unit.test_merkle import HEADS, INPUTS, leaf_hash

LEAVES = [leaf_hash(data) for data in INPUTS]

# Of the reference implementation of RFC 6962: (leaf from 0, tree size), and its audit path.
INCLUSIONS = [
    ((0, 1), []),
    (
        (0, 8),
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        (5, 8),
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    ((2, 3), ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        (1, 5),
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
CONSISTENCIES = [
    ((1, 1), []),
    (
        (1, 8),
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        (6, 8),
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        (2, 5),
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]

# The example of the signed note's specification.
NOTE_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NOTE_SECRET = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
NOTE_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
NOTE = (
    NOTE_TEXT + "\n\u2014 PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)

# RFC 8032, section 7.1, tests 1 to 3: public key, message, signature.
SIGNATURES = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


def head(first: int, end: int) -> bytes:
    return tree_head(LEAVES[first:end])


@pytest.mark.parametrize(("numbers", "path"), INCLUSIONS)
def test_published_audit_paths(numbers: tuple[int, int], path: list[str]) -> None:
    index, size = numbers
    found = inclusion_path(index, size, head)
    assert [node.hex() for node in found] == path
    root = bytes.fromhex(HEADS[size - 1])
    assert includes(LEAVES[index], index, size, found, root)
    assert standalone_verifier.root_from_inclusion(LEAVES[index], index, size, found) == root


@pytest.mark.parametrize(("sizes", "path"), CONSISTENCIES)
def test_published_consistency_proofs(sizes: tuple[int, int], path: list[str]) -> None:
    older, newer = sizes
    found = consistency_path(older, newer, head)
    assert [node.hex() for node in found] == path
    roots = bytes.fromhex(HEADS[older - 1]), bytes.fromhex(HEADS[newer - 1])
    assert is_consistent(older, newer, found, *roots)
    standalone_verifier.check_consistency(older, newer, *roots, found)


def test_every_path_of_every_tree_holds_and_no_other() -> None:
    leaves = [leaf_hash(bytes([number])) for number in range(40)]

    def subtree(first: int, end: int) -> bytes:
        return tree_head(leaves[first:end])

    for size in range(1, len(leaves) + 1):
        root = tree_head(leaves[:size])
        for index in range(size):
            path = inclusion_path(index, size, subtree)
            assert includes(leaves[index], index, size, path, root)
            for wrong in (index - 1, index + 1):
                assert not includes(leaves[index], wrong, size, path, root)
            assert not includes(leaves[index], index, size, [*path, root], root)
            assert not includes(leaves[index], index, size, path[:-1], root) or not path
        for older in range(1, size + 1):
            path = consistency_path(older, size, subtree)
            older_root = tree_head(leaves[:older])
            assert is_consistent(older, size, path, older_root, root)
            standalone_verifier.check_consistency(older, size, older_root, root, path)
            if older < size:
                assert not is_consistent(older, size, path, root, root)
                assert not is_consistent(older, size, [*path, root], older_root, root)
                assert not is_consistent(older, size, path[:-1], older_root, root)
                assert not is_consistent(size, older, path, root, older_root)


def test_the_published_note() -> None:
    key = VerifierKey.parse(NOTE_KEY)
    assert str(key) == NOTE_KEY
    assert opened(NOTE, key) == NOTE_TEXT
    secret = SigningKey.parse(NOTE_SECRET)
    assert (secret.text(), secret.verifier_key) == (NOTE_SECRET, key)
    assert secret.signed(NOTE_TEXT) == NOTE
    assert NOTE_SECRET.rpartition("+")[2] not in repr(secret)
    assert standalone_verifier.open_note(NOTE, standalone_verifier.parse_key(NOTE_KEY)) == NOTE_TEXT


def test_other_keys_signatures_are_passed_over() -> None:
    other = SigningKey.generate("witness.example.com/w1")
    line = other.signed(NOTE_TEXT).removeprefix(NOTE_TEXT + "\n")
    assert opened(NOTE + line, VerifierKey.parse(NOTE_KEY)) == NOTE_TEXT
    assert opened(NOTE + line, other.verifier_key) == NOTE_TEXT
    with pytest.raises(InvalidArgumentError, match="no signature by"):
        opened(NOTE, other.verifier_key)


@pytest.mark.parametrize(("public_key", "message", "signature"), SIGNATURES)
def test_signatures_of_the_rfc(public_key: str, message: str, signature: str) -> None:
    key, text, signed = (bytes.fromhex(part) for part in (public_key, message, signature))
    assert standalone_verifier.ed25519_verifies(key, signed, text)
    assert not standalone_verifier.ed25519_verifies(key, signed, text + b"x")
    for byte in range(64):
        forged = bytearray(signed)
        forged[byte] ^= 1
        assert not standalone_verifier.ed25519_verifies(key, bytes(forged), text)


@pytest.mark.parametrize("name", ["", "two words", "a+b", "tab\t"])
def test_names_that_a_note_cannot_have_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="name"):
        SigningKey.generate(name)


@pytest.mark.parametrize(
    "text",
    ["", "nobody", NOTE_KEY[:-4], NOTE_KEY.replace("c74f20a3", "c74f20a4"), "X" + NOTE_KEY],
)
def test_texts_that_are_no_key_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="key"):
        VerifierKey.parse(text)
    with pytest.raises(InvalidArgumentError, match="key"):
        SigningKey.parse("PRIVATE+KEY+" + text)
    with pytest.raises(standalone_verifier.Refused):
        standalone_verifier.parse_key(text)
