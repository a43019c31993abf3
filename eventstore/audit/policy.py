"""Whose signatures a checkpoint needs, as a text (c2sp.org/tlog-policy).

    log ana@example.com+1e2f...+AS...
    witness north north.example+5a6b...+BC...
    witness south south.example+7c8d...+BD...
    witness west west.example+9e0f...+BE...
    group witnesses 2 north south west
    quorum witnesses

Lines that begin with # are comments. A log's key is its signer's verifier key; where its name is an
origin (`eventstore/STORE-ID`), it is that store's alone. `all` and `any` stand for a number, groups
can be members of groups, and `quorum none` demands no cosignature.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from eventstore.audit.cosignature import WitnessKey
from eventstore.audit.key_rotation import KeyRotation
from eventstore.audit.key_succession import Succession
from eventstore.audit.signed_note import Note, VerifierKey
from eventstore.audit.statement import ORIGIN_PREFIX, Statement
from eventstore.errors import InvalidArgumentError

_NONE: Final = "none"
_WORDS_MAX: Final = {"log": 3, "witness": 4, "quorum": 2}


@dataclass(frozen=True, slots=True)
class Group:
    """As many of the members as `needed`, witnesses or other groups, make it count."""

    name: str
    needed: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """What a checker demands of a checkpoint.

    The signature of one of `logs`, and cosignatures of `witnesses`, by their names in the policy,
    so that `quorum` counts: a witness, a group, or "none".
    """

    logs: tuple[VerifierKey, ...]
    witnesses: dict[str, WitnessKey]
    groups: tuple[Group, ...]
    quorum: str
    succession: Succession = field(default_factory=Succession)
    """Which keys have come before and after those of `logs`."""

    @classmethod
    def parse(cls, text: str) -> Policy:
        """Raises InvalidArgumentError, which names the line, for anything but a policy."""
        if any((ord(c) < 0x20 and c not in "\t\n") or c == "\x7f" for c in text):
            raise InvalidArgumentError("not a policy: it has control characters")
        reading = _Reading()
        for number, line in enumerate(text.split("\n"), 1):
            words = [word for word in re.split("[ \t]+", line) if word]
            if not words or words[0].startswith("#"):
                continue
            try:
                reading.take(words)
            except InvalidArgumentError as error:
                raise InvalidArgumentError(f"line {number} of the policy: {error}") from None
        if reading.quorum is None:
            raise InvalidArgumentError("not a policy: it has no quorum line")
        return cls(tuple(reading.logs), reading.witnesses, tuple(reading.groups), reading.quorum)

    def of_log(self, log: VerifierKey) -> Policy:
        """The same for what this key signs, where the policy names no log."""
        return replace(self, logs=(log,))

    def opened(self, note: str) -> tuple[str, VerifierKey, tuple[str, ...]]:
        """The text of a note that holds by this policy, and the key and witnesses that signed it.

        Raises InvalidArgumentError when no log has, or after its key was rotated, too few witnesses
        have, or a signature by one of them is not of this text.
        """
        parsed = Note.parse(note)
        origin = parsed.text.partition("\n")[0]
        signers = [
            log
            for log in dict.fromkeys((*self.logs, *self.succession.keys()))
            if (not log.name.startswith(ORIGIN_PREFIX) or log.name == origin)
            and log.has_signed(parsed)
        ]
        if not signers:
            raise InvalidArgumentError("the note has no signature by a log that the policy names")
        signers = self._believed(signers, parsed.text)
        cosigners = self.cosigners(parsed)
        if not self.is_met(set(cosigners)):
            names = ", ".join(map(repr, cosigners)) or "none"
            raise InvalidArgumentError(
                f"the policy demands more cosignatures for {self.quorum!r}; there are those of: "
                f"{names}"
            )
        return parsed.text, signers[0], tuple(cosigners)

    def _believed(self, signers: list[VerifierKey], text: str) -> list[VerifierKey]:
        if not self.succession.rotations:
            return signers
        try:
            stated = Statement.parse(text)
        except ValueError as error:
            raise InvalidArgumentError(f"not a checkpoint of a store: {error}") from None
        refusals = {signer: self.succession.refusal(signer, stated) for signer in signers}
        believed = [signer for signer in signers if not refusals[signer]]
        if not believed:
            raise InvalidArgumentError(f"the checkpoint is not believed: {refusals[signers[0]]}")
        return believed

    def cosigners(self, note: Note) -> dict[str, int]:
        """The witnesses that have cosigned a note, and when, in seconds since the epoch.

        Raises InvalidArgumentError for a cosignature by one of them that is not of this text.
        """
        times = {name: key.cosigned_at(note) for name, key in self.witnesses.items()}
        return {name: time for name, time in times.items() if time is not None}

    def is_met(self, cosigners: set[str]) -> bool:
        """Whether the cosignatures of these witnesses are enough."""
        counted = {_NONE, *cosigners}
        # A group's members come before it.
        for group in self.groups:
            if sum(member in counted for member in group.members) >= group.needed:
                counted.add(group.name)
        return self.quorum in counted


class _Reading:
    """What the lines so far have said."""

    def __init__(self) -> None:
        self.logs: list[VerifierKey] = []
        self.witnesses: dict[str, WitnessKey] = {}
        self.groups: list[Group] = []
        self.quorum: str | None = None
        self._defined: set[str] = set()
        self._members: set[str] = set()

    def take(self, words: list[str]) -> None:
        keyword, *rest = words
        if keyword == "group":
            self._take_group(rest)
            return
        if keyword not in _WORDS_MAX:
            raise InvalidArgumentError(f"{keyword!r} is not log, witness, group or quorum")
        least = 3 if keyword == "witness" else 2
        if not least <= len(words) <= _WORDS_MAX[keyword]:
            raise InvalidArgumentError(f"a {keyword} line has other words")
        if keyword == "log":
            self._take_log(rest[0])
        elif keyword == "witness":
            self._take_witness(rest[0], rest[1])
        elif self.quorum is not None:
            raise InvalidArgumentError("there is a quorum line already")
        elif rest[0] != _NONE and rest[0] not in self._defined:
            raise InvalidArgumentError(f"{rest[0]!r} is not defined before")
        else:
            self.quorum = rest[0]

    def _take_log(self, key_text: str) -> None:
        key = VerifierKey.parse(key_text)
        if any(key.public_key == known.public_key for known in self.logs):
            raise InvalidArgumentError(f"the key of {key.name!r} is another log's already")
        self.logs.append(key)

    def _take_witness(self, name: str, key_text: str) -> None:
        key = WitnessKey.parse(key_text)
        self._define(name)
        if any(key.public_key == known.public_key for known in self.witnesses.values()):
            raise InvalidArgumentError(f"the key of {name!r} is another witness's already")
        self.witnesses[name] = key

    def _take_group(self, words: list[str]) -> None:
        if len(words) < 3:
            raise InvalidArgumentError("a group has a name, how many are needed, and members")
        name, needed, *members = words
        if re.fullmatch("all|any|[1-9][0-9]{0,8}", needed) is None:
            raise InvalidArgumentError(f"a group needs all, any or a number, not {needed!r}")
        count = {"all": len(members), "any": 1}.get(needed) or int(needed)
        if count > len(members):
            raise InvalidArgumentError(f"{name!r} needs {count} of {len(members)} members")
        for member in members:
            if member not in self._defined:
                raise InvalidArgumentError(f"{member!r} is not defined before")
            if member in self._members:
                raise InvalidArgumentError(f"{member!r} is a member already")
            self._members.add(member)
        self._define(name)
        self.groups.append(Group(name, count, tuple(members)))

    def _define(self, name: str) -> None:
        if name == _NONE or name in self._defined:
            raise InvalidArgumentError(f"the name {name!r} is taken")
        self._defined.add(name)


def with_rotations(trust: VerifierKey | Policy, rotations: Iterable[KeyRotation]) -> Policy:
    """What is trusted, a signer's key or a policy, where signing keys were rotated.

    A checkpoint then holds by any key in one line with a trusted one: by the newest, or by another
    one as far as that signed before it was replaced.

    Raises InvalidArgumentError when the rotations are no such lines.
    """
    policy = trust if isinstance(trust, Policy) else Policy((trust,), {}, (), _NONE)
    return replace(policy, succession=Succession.of(policy.logs, rotations))
