"""Published vectors of RFC 6962, RFC 8032 and C2SP, on the store's code and on the verifier's."""

from __future__ import annotations

import hashlib

import pytest

from eventstore.audit import VerifierKey, standalone_verifier
from eventstore.audit.merkle_proofs import (
    consistency_path,
    includes,
    inclusion_path,
    is_consistent,
)
from eventstore.audit.signed_note import SigningKey, ed25519_verifies, opened
from eventstore.errors import InvalidArgumentError
from eventstore.log.merkle import tree_head
from tests.log.test_merkle import HEADS, INPUTS, leaf_hash

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

# The edge cases of "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko): the same parts. Only
# number 3, of points of mixed order, holds by the equation without cofactors and breaks no rule.
EDGE_CASES = [
    (
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
        "0000000000000000000000000000000000000000000000000000000000000000",
    ),
    (
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43"
        "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ),
    (
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"
        "8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e",
    ),
    (
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f"
        "87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009",
    ),
    (
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed512"
        "5ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
    ),
    (
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7"
        "e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405",
    ),
    (
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e"
        "547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514",
    ),
    (
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa1942"
        "7e71f98a473474f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c22",
    ),
    (
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
        "03be9678ac102edcd92b0210bb34d7428d12ffc5df5f37e359941266a4e35f0f",
    ),
    (
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
        "ca8c5b64cd208982aa38d4936621a4775aa233aa0505711d8fdcfdaa943d4908",
    ),
    (
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "e96b7021eb39c1a163b6da4e3093dcd3f21387da4cc4572be588fafae23c155b",
        "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dc"
        "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ),
    (
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "39a591f5321bbe07fd5a23dc2f39d025d74526615746727ceefd6e82ae65c06f",
        "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dc"
        "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ),
]
EDGE_CASES_THAT_HOLD = {3}

FIELD = 2**255 - 19
Y8 = 0x5FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826


def encodings(*ys: int) -> list[bytes]:
    return [(y | sign << 255).to_bytes(32, "little") for y in ys for sign in (0, 1)]


SMALL_ORDER = encodings(0, 1, FIELD - 1, Y8, FIELD - Y8)
NOT_CANONICAL = encodings(*range(FIELD, 2**255))


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


def test_the_published_note() -> None:
    key = VerifierKey.parse(NOTE_KEY)
    assert str(key) == NOTE_KEY
    assert opened(NOTE, key) == NOTE_TEXT
    secret = SigningKey.parse(NOTE_SECRET)
    assert (secret.text(), secret.verifier_key) == (NOTE_SECRET, key)
    assert secret.signed(NOTE_TEXT) == NOTE
    assert repr(secret) == "SigningKey(name='PeterNeumann')"
    standalone_key = standalone_verifier.parse_key(NOTE_KEY)
    assert standalone_verifier.open_note(NOTE, standalone_key)[0] == NOTE_TEXT


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


@pytest.mark.parametrize("number", range(len(EDGE_CASES)))
def test_both_verifiers_agree_on_published_edge_cases(number: int) -> None:
    key, message, signature = (bytes.fromhex(part) for part in EDGE_CASES[number])
    expected = number in EDGE_CASES_THAT_HOLD
    assert ed25519_verifies(key, signature, message) == expected
    assert standalone_verifier.ed25519_verifies(key, signature, message) == expected


@pytest.mark.parametrize("public_key", [*SMALL_ORDER, *NOT_CANONICAL], ids=bytes.hex)
def test_keys_of_small_order_or_not_canonical_are_refused(public_key: bytes) -> None:
    text = str(VerifierKey("mallory", public_key))
    with pytest.raises(InvalidArgumentError, match="small order"):
        VerifierKey.parse(text)
    with pytest.raises(standalone_verifier.Refused, match="small order"):
        standalone_verifier.parse_key(text)
    # R = kA or the neutral point, S = 0: by the equation alone some of these hold for any text.
    for r in (*SMALL_ORDER, *NOT_CANONICAL[:4]):
        signature = r + bytes(32)
        assert not ed25519_verifies(public_key, signature, b"text")
        assert not standalone_verifier.ed25519_verifies(public_key, signature, b"text")


@pytest.mark.parametrize("r", [*SMALL_ORDER, *NOT_CANONICAL], ids=bytes.hex)
def test_signatures_with_such_points_are_refused(r: bytes) -> None:
    key = bytes.fromhex(SIGNATURES[0][0])
    # The one S that fits each R is known to whoever has the private key a: S = ka, for R neutral.
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    expanded = bytearray(hashlib.sha512(seed).digest()[:32])
    expanded[0] &= 248
    expanded[31] = expanded[31] & 63 | 64
    secret = int.from_bytes(expanded, "little")
    k = int.from_bytes(hashlib.sha512(r + key + b"text").digest(), "little")
    s = k * secret % (2**252 + 27742317777372353535851937790883648493)
    signature = r + s.to_bytes(32, "little")
    assert not ed25519_verifies(key, signature, b"text")
    assert not standalone_verifier.ed25519_verifies(key, signature, b"text")


@pytest.mark.parametrize(("public_key", "message", "signature"), SIGNATURES)
def test_a_signature_has_one_form(public_key: str, message: str, signature: str) -> None:
    key, text, signed = (bytes.fromhex(part) for part in (public_key, message, signature))
    assert ed25519_verifies(key, signed, text)
    s = int.from_bytes(signed[32:], "little")
    order = 2**252 + 27742317777372353535851937790883648493
    for forged in (
        *(signed[:32] + (s + n * order).to_bytes(32, "little") for n in range(1, 15)),
        signed[:32] + order.to_bytes(32, "little"),
        signed[:-1],
        signed + b"\x00",
        b"",
    ):
        assert not ed25519_verifies(key, forged, text)
        assert not standalone_verifier.ed25519_verifies(key, forged, text)
    for wrong_key in (key[:-1], key + b"\x00", b""):
        assert not ed25519_verifies(wrong_key, signed, text)
        assert not standalone_verifier.ed25519_verifies(wrong_key, signed, text)


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
