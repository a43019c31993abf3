"""How the key that signs a store's checkpoints gives way to another one.

A key rotation is a signed note (c2sp.org/signed-note), whose text is

    eventstore/key-rotation
    old-key NAME+ID+KEY
    new-key NAME+ID+KEY
    rotated-at TIME

and then the lines of the last checkpoint that the old key has signed. Both keys sign it: the old
one appoints the new one, which shows that somebody has its private half.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from eventstore.audit.signed_note import Note, SigningKey, VerifierKey
from eventstore.audit.statement import TIME, Statement, parsed_time
from eventstore.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from eventstore.log import SignedHead
from eventstore.plain_json import moment_text
from eventstore.times import microseconds_of, moment_of, now_in_microseconds

if TYPE_CHECKING:
    from eventstore.audit.checkpoint import Checkpoint

FIRST_LINE: Final = "eventstore/key-rotation"

_TEXT: Final = re.compile(
    rf"{FIRST_LINE}\nold-key (?P<old>[^\n]+)\nnew-key (?P<new>[^\n]+)\n"
    rf"rotated-at (?P<rotated_at>{TIME})\n(?P<last>.*)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class KeyRotation:
    """That `new` signs in place of `old` after what `last` states; `text` is the signed note."""

    old: VerifierKey
    new: VerifierKey
    rotated_at: datetime
    last: Statement
    text: str

    @classmethod
    def signed(cls, last: Checkpoint, old: SigningKey, new: SigningKey) -> KeyRotation:
        """Have a new key sign in place of an old one, whose last checkpoint of the store is given.

        What the old key signs of more records is not believed from then on.

        Raises InvalidArgumentError when the old key has not signed that checkpoint or both keys are
        one, FailedPreconditionError when it was signed later than now.
        """
        stated = Note.parse(last.text)
        if not old.verifier_key.has_signed(stated):
            raise InvalidArgumentError(
                f"the checkpoint was not signed by {short(old.verifier_key)}: a rotation states "
                "the last one that the old key has signed"
            )
        now = moment_of(now_in_microseconds())
        if now < last.signed_at:
            raise FailedPreconditionError(
                f"the checkpoint was signed on {moment_text(last.signed_at)}, which is later than "
                "now by this machine's clock: set it right"
            )
        text = _text(old.verifier_key, new.verifier_key, now, stated.text)
        return cls.parse(old.signed(text) + new.signed(text).removeprefix(f"{text}\n"))

    @classmethod
    def parse(cls, text: str) -> KeyRotation:
        """Read a key rotation, and check both signatures.

        Raises InvalidArgumentError when it is none, or one of the keys has not signed it.
        """
        note = Note.parse(text)
        found = _TEXT.fullmatch(note.text)
        if found is None:
            raise InvalidArgumentError(f"not a key rotation: it has no lines {FIRST_LINE} …")
        old, new = VerifierKey.parse(found["old"]), VerifierKey.parse(found["new"])
        try:
            rotation = cls(
                old, new, parsed_time(found["rotated_at"]), Statement.parse(found["last"]), text
            )
        except ValueError as error:
            raise InvalidArgumentError(f"not a key rotation: {error}") from None
        last = rotation.last
        if note.text != _text(old, new, rotation.rotated_at, str(last)):
            raise InvalidArgumentError("not a key rotation: its lines are not in the one form")
        if old.public_key == new.public_key:
            raise InvalidArgumentError(f"{rotation} has one key in place of itself")
        for key, which in ((old, "old"), (new, "new")):
            if not key.has_signed(note):
                raise InvalidArgumentError(f"{rotation} has no signature by the {which} key")
        if rotation.rotated_at < last.signed_at:
            raise InvalidArgumentError(
                f"{rotation} is back-dated: the checkpoint in it was signed on "
                f"{moment_text(last.signed_at)}"
            )
        return rotation

    def __str__(self) -> str:
        at = moment_text(self.rotated_at)
        return f"the key rotation from {short(self.old)} to {short(self.new)} of {at}"

    def of_store(self, store_id: UUID) -> SignedHead:
        """What a log is verified against. Raises NotFoundError when it is another store's."""
        last = self.last
        if last.store_id != store_id:
            raise NotFoundError(f"{self} is of store {last.store_id}, this is store {store_id}")
        recorded_at = microseconds_of(last.recorded_at)
        return SignedHead(last.size, last.root.hex(), last.commit, recorded_at, f"{self} states")


def short(key: VerifierKey) -> str:
    """A key by name and id, which tell it from others of the same signer."""
    return f"{key.name}+{key.key_id.hex()}"


def _text(old: VerifierKey, new: VerifierKey, rotated_at: datetime, last: str) -> str:
    at = moment_text(rotated_at)
    return f"{FIRST_LINE}\nold-key {old}\nnew-key {new}\nrotated-at {at}\n{last}"
