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

_ED25519: Final = b"\x01"
_KEY_BYTES: Final = 32
_ID_BYTES: Final = 4
_PRIVATE_PREFIX: Final = "PRIVATE+KEY+"

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
        return _key_id(self.name, self.public_key)

    def __str__(self) -> str:
        return _key_text(self.name, self.key_id, self.public_key)

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Raises InvalidArgumentError for anything but what `str` gives, and for a weak key."""
        name, key_id, public_key = _parsed_key(text, "verifier key")
        if not _is_strict_point(public_key):
            raise InvalidArgumentError(
                f"the verifier key of {name!r} is a point of small order or not written as such a "
                "point is: anybody could sign for it"
            )
        key = cls(name, public_key)
        if key.key_id.hex() != key_id:
            raise InvalidArgumentError(f"the verifier key of {name!r} does not have its key id")
        return key


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key. Its text, `PRIVATE+KEY+name+id+seed`, is secret; so is `seed`."""

    name: str
    seed: bytes = field(repr=False)

    @property
    def verifier_key(self) -> VerifierKey:
        """What others need to check its signatures."""
        return VerifierKey(self.name, self._private().public_key().public_bytes_raw())

    def text(self) -> str:
        """The private key as text, to be kept secret."""
        return _PRIVATE_PREFIX + _key_text(self.name, self.verifier_key.key_id, self.seed)

    @classmethod
    def generate(cls, name: str) -> SigningKey:
        """A new key. Raises InvalidArgumentError for a name that is empty or has spaces or a +."""
        _check_name(name)
        return cls(name, os.urandom(_KEY_BYTES))

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """Raises InvalidArgumentError, without showing the key, for anything but a key's text."""
        stripped = text.strip()
        if not stripped.startswith(_PRIVATE_PREFIX):
            raise InvalidArgumentError(f"a signing key starts with {_PRIVATE_PREFIX}")
        name, key_id, seed = _parsed_key(stripped.removeprefix(_PRIVATE_PREFIX), "signing key")
        key = cls(name, seed)
        if key.verifier_key.key_id.hex() != key_id:
            raise InvalidArgumentError(f"the signing key of {name!r} does not have its key id")
        return key

    def signed(self, text: str) -> str:
        """The note: the text, which ends in a newline, and this key's signature."""
        if not text.endswith("\n") or _has_control_characters(text):
            raise InvalidArgumentError("a signed text ends in a newline and is printable")
        signature = self._private().sign(text.encode())
        encoded = base64.b64encode(self.verifier_key.key_id + signature).decode()
        return f"{text}\n\u2014 {self.name} {encoded}\n"

    def _private(self) -> ed25519.Ed25519PrivateKey:
        key: ed25519.Ed25519PrivateKey = _ed25519().Ed25519PrivateKey.from_private_bytes(self.seed)
        return key


def opened(note: str, key: VerifierKey) -> str:
    """The text of a note that this key has signed, its last newline included.

    Raises InvalidArgumentError when the note is not one, or the key's signature is missing or
    wrong. Signatures by other keys are passed over.
    """
    text, separator, lines = note.rpartition("\n\n")
    if not separator or not lines.endswith("\n") or _has_control_characters(note):
        raise InvalidArgumentError("not a signed note: text, empty line and signature lines")
    text += "\n"
    is_signed = False
    for line in lines[:-1].split("\n"):
        name, signed = _parsed_signature(line)
        if name != key.name or signed[:_ID_BYTES] != key.key_id:
            continue
        if not ed25519_verifies(key.public_key, signed[_ID_BYTES:], text.encode()):
            raise InvalidArgumentError(f"the signature of {name!r} is not of this text")
        is_signed = True
    if not is_signed:
        raise InvalidArgumentError(f"the note has no signature by {key}")
    return text


def _parsed_signature(line: str) -> tuple[str, bytes]:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    signed = _decoded(encoded)
    if dash != "\u2014" or not name or signed is None or len(signed) <= _ID_BYTES:
        raise InvalidArgumentError(f"not a signature line: {line!r}")
    return name, signed


def ed25519_verifies(public_key: bytes, signature: bytes, text: bytes) -> bool:
    """Whether a signature is of this text, by the strictest reading of RFC 8032.

    Libraries differ on points of small order and on numbers that are not reduced, so that what one
    accepts another refuses. All of these are refused here.
    """
    from cryptography.exceptions import InvalidSignature

    if len(public_key) != _KEY_BYTES or len(signature) != 2 * _KEY_BYTES:
        return False
    if not (_is_strict_point(public_key) and _is_strict_point(signature[:_KEY_BYTES])):
        return False
    if int.from_bytes(signature[_KEY_BYTES:], "little") >= _GROUP_ORDER:
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


def _key_id(name: str, public_key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public_key).digest()[:_ID_BYTES]


def _key_text(name: str, key_id: bytes, key: bytes) -> str:
    return f"{name}+{key_id.hex()}+{base64.b64encode(_ED25519 + key).decode()}"


def _parsed_key(text: str, what: str) -> tuple[str, str, bytes]:
    name, _, rest = text.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    key = _decoded(encoded)
    if key is None or len(key) != 1 + _KEY_BYTES or key[:1] != _ED25519:
        raise InvalidArgumentError(f"not a {what}: use name+id+key, the key in base64 for Ed25519")
    _check_name(name)
    return name, key_id, key[1:]


def _check_name(name: str) -> None:
    if not name or "+" in name or any(c.isspace() for c in name) or _has_control_characters(name):
        raise InvalidArgumentError(f"the key's name is {name!r}: it needs one without spaces and +")


def _has_control_characters(text: str) -> bool:
    return any(ord(character) < 0x20 and character != "\n" for character in text)


def _decoded(encoded: str) -> bytes | None:
    """Standard base64, in the one way that encoding gives it."""
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded if base64.b64encode(decoded).decode() == encoded else None
