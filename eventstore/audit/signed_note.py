"""Texts signed with Ed25519, in the form of C2SP's signed notes (c2sp.org/signed-note).

A note is a text, an empty line, and signature lines: an em dash, the key's name, and base64 of the
key's id and the signature. The ids and the texts of keys are those of the specification, so that
other implementations read them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from eventstore.errors import FailedPreconditionError, InvalidArgumentError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ed25519

ED25519: Final = b"\x01"
"""What says in a key's text that it signs notes with Ed25519."""

KEY_BYTES: Final = 32
PRIVATE_PREFIX: Final = "PRIVATE+KEY+"
SIGNATURES_MAX: Final = 1_000
"""A note with more signature lines is refused."""

ID_BYTES: Final = 4

_FIELD: Final = 2**255 - 19
_GROUP_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_SMALL_ORDER_Y8: Final = 0x5FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER_YS: Final = frozenset(
    (0, 1, _FIELD - 1, _SMALL_ORDER_Y8, _FIELD - _SMALL_ORDER_Y8),
)
"""The y of the eight points whose order divides 8: with such a key one signature fits any text."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """The public half of a key: who signs, and what to check the signature with.

    As text `name+id+key`: the id in hexadecimal, the key in base64 after a byte that says Ed25519.
    """

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """The first four bytes of SHA-256 over name, newline, algorithm and key."""
        return key_id(self.name, ED25519, self.public_key)

    def __str__(self) -> str:
        return key_text(self.name, self.key_id, ED25519, self.public_key)

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Raises InvalidArgumentError for anything but what `str` gives, and for a weak key."""
        return cls(*parsed_verifier_key(text, ED25519))

    def has_signed(self, note: Note) -> bool:
        """Whether the note has a signature by this key.

        Raises InvalidArgumentError for one that is not of the note's text.
        """
        signatures = note.signatures_by(self.name, self.key_id)
        for signature in signatures:
            if not ed25519_verifies(self.public_key, signature, note.text.encode()):
                raise InvalidArgumentError(f"the signature of {self.name!r} is not of this text")
        return bool(signatures)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key. Its text, `PRIVATE+KEY+name+id+seed`, is secret; so is `seed`."""

    name: str
    seed: bytes = field(repr=False)

    @property
    def verifier_key(self) -> VerifierKey:
        """What others need to check its signatures."""
        return VerifierKey(self.name, public_half(self.seed))

    def text(self) -> str:
        """The private key as text, to be kept secret."""
        verifier_key = self.verifier_key
        return PRIVATE_PREFIX + key_text(self.name, verifier_key.key_id, ED25519, self.seed)

    @classmethod
    def generate(cls, name: str) -> SigningKey:
        """A new key. Raises InvalidArgumentError for a name that is empty or has spaces or a +."""
        check_name(name)
        return cls(name, os.urandom(KEY_BYTES))

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """Raises InvalidArgumentError, without showing the key, for anything but a key's text."""
        return cls(*parsed_private_key(text, ED25519))

    def signed(self, text: str) -> str:
        """The note: the text, which ends in a newline, and this key's signature."""
        if not text.endswith("\n") or _has_control_characters(text):
            raise InvalidArgumentError("a signed text ends in a newline and is printable")
        signature = private_key(self.seed).sign(text.encode())
        return f"{text}\n{signature_line(self.name, self.verifier_key.key_id, signature)}"


@dataclass(frozen=True, slots=True)
class Note:
    """A note that was taken apart. None of its signatures were checked."""

    text: str
    signatures: tuple[tuple[str, bytes], ...]
    """Of each its key's name, and the key's id and the signature."""

    @classmethod
    def parse(cls, note: str) -> Note:
        """Raises InvalidArgumentError for anything but a note."""
        text, separator, lines = note.rpartition("\n\n")
        if not separator or not lines.endswith("\n") or _has_control_characters(note):
            raise InvalidArgumentError("not a signed note: text, empty line and signature lines")
        return cls(text + "\n", parsed_signatures(lines))

    def signatures_by(self, name: str, key_id: bytes) -> list[bytes]:
        """What is said to be signed by a key."""
        return [
            signed[ID_BYTES:]
            for signer, signed in self.signatures
            if signer == name and signed[:ID_BYTES] == key_id
        ]


def opened(note: str, key: VerifierKey) -> str:
    """The text of a note that this key has signed, its last newline included.

    Raises InvalidArgumentError when the note is not one, or the key's signature is missing or
    wrong. Signatures by other keys are passed over.
    """
    parsed = Note.parse(note)
    if not key.has_signed(parsed):
        raise InvalidArgumentError(f"the note has no signature by {key}")
    return parsed.text


def parsed_signatures(lines: str) -> tuple[tuple[str, bytes], ...]:
    """What signature lines say. Raises InvalidArgumentError for anything else."""
    if not lines.endswith("\n") or lines.count("\n") > SIGNATURES_MAX:
        raise InvalidArgumentError(f"not 1 to {SIGNATURES_MAX:,} signature lines")
    return tuple(_parsed_signature(line) for line in lines[:-1].split("\n"))


def signature_line(name: str, key_id: bytes, signature: bytes) -> str:
    """The line of a note that holds a signature."""
    return f"\u2014 {name} {base64.b64encode(key_id + signature).decode()}\n"


def _parsed_signature(line: str) -> tuple[str, bytes]:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    signed = decoded_base64(encoded)
    if dash != "\u2014" or not _is_name(name) or signed is None or len(signed) <= ID_BYTES:
        raise InvalidArgumentError(f"not a signature line: {line!r}")
    return name, signed


def ed25519_verifies(public_key: bytes, signature: bytes, text: bytes) -> bool:
    """Whether a signature is of this text, by the strictest reading of RFC 8032.

    Libraries differ on points of small order and on numbers that are not reduced, so that what one
    accepts another refuses. All of these are refused here.
    """
    from cryptography.exceptions import InvalidSignature

    if len(public_key) != KEY_BYTES or len(signature) != 2 * KEY_BYTES:
        return False
    if not (_is_strict_point(public_key) and _is_strict_point(signature[:KEY_BYTES])):
        return False
    if int.from_bytes(signature[KEY_BYTES:], "little") >= _GROUP_ORDER:
        return False
    try:
        _ed25519().Ed25519PublicKey.from_public_bytes(public_key).verify(signature, text)
    except InvalidSignature:
        return False
    return True


def _is_strict_point(encoded: bytes) -> bool:
    """Whether 32 bytes are no point of small order, and y in them is below the field's size."""
    y = int.from_bytes(encoded, "little") & (1 << 255) - 1
    return y < _FIELD and y not in _SMALL_ORDER_YS


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise FailedPreconditionError(
            "signatures need the package cryptography: pip install 'mlmd-eventstore[audit]'"
        ) from error
    return ed25519


def private_key(seed: bytes) -> ed25519.Ed25519PrivateKey:
    """What signs."""
    key: ed25519.Ed25519PrivateKey = _ed25519().Ed25519PrivateKey.from_private_bytes(seed)
    return key


def public_half(seed: bytes) -> bytes:
    """The public key to a private one."""
    return private_key(seed).public_key().public_bytes_raw()


def key_id(name: str, algorithm: bytes, public_key: bytes) -> bytes:
    """What names a key in a note, beside its name."""
    return hashlib.sha256(name.encode() + b"\n" + algorithm + public_key).digest()[:ID_BYTES]


def key_text(name: str, key_id: bytes, algorithm: bytes, key: bytes) -> str:
    """The text of a key, public or private."""
    return f"{name}+{key_id.hex()}+{base64.b64encode(algorithm + key).decode()}"


def parsed_verifier_key(text: str, algorithm: bytes) -> tuple[str, bytes]:
    """Name and public key of a verifier key's text.

    Raises InvalidArgumentError for anything but what `key_text` gives, and for a weak key.
    """
    name, stated_id, public_key = _parsed_key(text, "verifier key", algorithm)
    if not _is_strict_point(public_key):
        raise InvalidArgumentError(
            f"the verifier key of {name!r} is a point of small order or not written as such a "
            "point is: anybody could sign for it"
        )
    if key_id(name, algorithm, public_key).hex() != stated_id:
        raise InvalidArgumentError(f"the verifier key of {name!r} does not have its key id")
    return name, public_key


def parsed_private_key(text: str, algorithm: bytes) -> tuple[str, bytes]:
    """Name and seed of a private key's text.

    Raises InvalidArgumentError, without showing the key, for anything but a key's text.
    """
    stripped = text.strip()
    if not stripped.startswith(PRIVATE_PREFIX):
        raise InvalidArgumentError(f"a signing key starts with {PRIVATE_PREFIX}")
    rest = stripped.removeprefix(PRIVATE_PREFIX)
    name, stated_id, seed = _parsed_key(rest, "signing key", algorithm)
    if key_id(name, algorithm, public_half(seed)).hex() != stated_id:
        raise InvalidArgumentError(f"the signing key of {name!r} does not have its key id")
    return name, seed


_KEYS_FOR: Final = {ED25519: "notes", b"\x04": "cosignatures", b"\x06": "cosignatures in ML-DSA-44"}


def _parsed_key(text: str, what: str, algorithm: bytes) -> tuple[str, str, bytes]:
    name, _, rest = text.strip().partition("+")
    stated_id, _, encoded = rest.partition("+")
    key = decoded_base64(encoded)
    if key is not None and key[:1] != algorithm and key[:1] in _KEYS_FOR:
        raise InvalidArgumentError(
            f"the {what} of {name!r} is one for {_KEYS_FOR[key[:1]]}, not for "
            f"{_KEYS_FOR[algorithm]} in Ed25519"
        )
    if key is None or len(key) != 1 + KEY_BYTES or key[:1] != algorithm:
        raise InvalidArgumentError(f"not a {what}: use name+id+key, the key in base64 for Ed25519")
    check_name(name)
    return name, stated_id, key[1:]


def check_name(name: str) -> None:
    """Raise InvalidArgumentError for a name that no key can have."""
    if not _is_name(name):
        raise InvalidArgumentError(f"the key's name is {name!r}: it needs one without spaces and +")


def _is_name(name: str) -> bool:
    if not name or "+" in name or any(c.isspace() for c in name) or _has_control_characters(name):
        return False
    # Of a file in another encoding.
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _has_control_characters(text: str) -> bool:
    return any(ord(character) < 0x20 and character != "\n" for character in text)


def decoded_base64(encoded: str) -> bytes | None:
    """Standard base64, in the one way that encoding gives it; None for anything else."""
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded if base64.b64encode(decoded).decode() == encoded else None
