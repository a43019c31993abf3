"""What witnesses sign: that they saw a checkpoint, and when (c2sp.org/tlog-cosignature).

A cosignature is a signature line of the checkpoint's note, by a key of its own kind, over two
lines and the note's text:

    cosignature/v1
    time SECONDS

The time stands in the line in front of the signature. It says that of this log the witness has seen
no larger tree by then, and none that this one does not begin with.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from typing import Final

from eventstore.audit.signed_note import (
    ID_BYTES,
    KEY_BYTES,
    PRIVATE_PREFIX,
    Note,
    check_name,
    ed25519_verifies,
    key_id,
    key_text,
    parsed_private_key,
    parsed_verifier_key,
    private_key,
    public_half,
    signature_line,
)
from eventstore.errors import InvalidArgumentError

COSIGNATURE: Final = b"\x04"
"""What says in a key's text that it cosigns checkpoints with Ed25519."""

_TIME: Final = struct.Struct(">Q")
_TIME_MAX: Final = 2**63 - 1

COSIGNED_BYTES: Final = ID_BYTES + _TIME.size + 2 * KEY_BYTES
"""How long what a cosignature's line encodes is; a signature of a note is shorter."""


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """The public half of a witness's key; as text `name+id+key`, as of a VerifierKey."""

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """What names the key in a cosignature's line, beside its name."""
        return key_id(self.name, COSIGNATURE, self.public_key)

    def __str__(self) -> str:
        return key_text(self.name, self.key_id, COSIGNATURE, self.public_key)

    @classmethod
    def parse(cls, text: str) -> WitnessKey:
        """Raises InvalidArgumentError for anything but what `str` gives, and for a weak key."""
        return cls(*parsed_verifier_key(text, COSIGNATURE))

    def cosigned_at(self, note: Note) -> int | None:
        """When this witness has cosigned the note, in seconds since the epoch; None if it has not.

        Of several cosignatures it is the latest. Raises InvalidArgumentError for one that is not
        of this note's text.
        """
        times = [
            self._checked_time(signature, note.text)
            for signature in note.signatures_by(self.name, self.key_id)
        ]
        return max(times, default=None)

    def _checked_time(self, signature: bytes, text: str) -> int:
        if len(signature) != _TIME.size + 2 * KEY_BYTES:
            raise InvalidArgumentError(f"the cosignature of {self.name!r} is not a cosignature")
        (time,) = _TIME.unpack(signature[: _TIME.size])
        if time > _TIME_MAX or not ed25519_verifies(
            self.public_key, signature[_TIME.size :], _cosigned_text(text, time)
        ):
            raise InvalidArgumentError(
                f"the cosignature of {self.name!r} is not of this checkpoint: it was shown "
                "another one, or the line was changed"
            )
        return int(time)


@dataclass(frozen=True, slots=True)
class CosigningKey:
    """A witness's private key. Its text, `PRIVATE+KEY+name+id+seed`, is secret; so is `seed`."""

    name: str
    seed: bytes = field(repr=False)

    @property
    def verifier_key(self) -> WitnessKey:
        """What others need to check its cosignatures."""
        return WitnessKey(self.name, public_half(self.seed))

    def text(self) -> str:
        """The private key as text, to be kept secret."""
        return PRIVATE_PREFIX + key_text(
            self.name, self.verifier_key.key_id, COSIGNATURE, self.seed
        )

    @classmethod
    def generate(cls, name: str) -> CosigningKey:
        """A new key. Raises InvalidArgumentError for a name that is empty or has spaces or a +."""
        check_name(name)
        return cls(name, os.urandom(KEY_BYTES))

    @classmethod
    def parse(cls, text: str) -> CosigningKey:
        """Raises InvalidArgumentError, without showing the key, for anything but a key's text."""
        return cls(*parsed_private_key(text, COSIGNATURE))

    def cosigned(self, note: str, time: int) -> str:
        """The note with this witness's cosignature as its last line, made at `time` in seconds.

        Whether it ought to be cosigned is for `witnessing` to judge.
        """
        if not 0 <= time <= _TIME_MAX:
            raise InvalidArgumentError(f"{time} seconds are no time of a cosignature")
        text = Note.parse(note).text
        signature = private_key(self.seed).sign(_cosigned_text(text, time))
        line = signature_line(self.name, self.verifier_key.key_id, _TIME.pack(time) + signature)
        return note + line


def _cosigned_text(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()
