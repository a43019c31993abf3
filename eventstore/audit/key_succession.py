"""Which keys have followed which: key rotations, put in order and held against each other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

from eventstore.audit.key_rotation import KeyRotation, short
from eventstore.audit.signed_note import VerifierKey
from eventstore.audit.statement import Statement
from eventstore.errors import InvalidArgumentError
from eventstore.plain_json import moment_text
from eventstore.wording import counted


@dataclass(frozen=True, slots=True)
class Succession:
    """Rotations of one store's keys, in order. Each line of them has a key that was trusted."""

    rotations: tuple[KeyRotation, ...] = ()

    @classmethod
    def of(cls, trusted: Collection[VerifierKey], rotations: Iterable[KeyRotation]) -> Succession:
        """Put rotations in order, which may come in any.

        Raises InvalidArgumentError, which names them, where they are of two stores, a key has two
        successors or two predecessors, they lead round, one is missing, or a later one states fewer
        records or an earlier time.
        """
        given = list({replace(rotation, text=""): rotation for rotation in rotations}.values())
        _refuse_two_stores(given)
        _refuse_two_names(trusted, given)
        after = _by_key(given, "old", "followed")
        before = _by_key(given, "new", "preceded")
        ordered: list[KeyRotation] = []
        for first in given:
            if first.old in before:
                continue
            line = list(_line(first, after))
            if not any(rotation.old in trusted or rotation.new in trusted for rotation in line):
                raise InvalidArgumentError(
                    f"{first} is in no line with a key that is trusted: a rotation is missing, or "
                    "it is another signer's"
                )
            for earlier, later in pairwise(line):
                _refuse_disorder(earlier, later)
            ordered += line
        for rotation in given:
            if rotation not in ordered:
                raise InvalidArgumentError(f"{rotation} leads back to where it comes from")
        return cls(tuple(ordered))

    def keys(self) -> list[VerifierKey]:
        """All keys in the rotations."""
        both = [key for rotation in self.rotations for key in (rotation.old, rotation.new)]
        return list(dict.fromkeys(both))

    def refusal(self, key: VerifierKey, stated: Statement) -> str:
        """Why it is not believed what a key has signed; empty when it is."""
        size = counted(stated.size, "record")
        for rotation in self.rotations:
            last = rotation.last
            if last.store_id != stated.store_id:
                return f"it is of store {stated.store_id}, {rotation} of {last.store_id}"
            if last.size == stated.size and _history(last) != _history(stated):
                return (
                    f"it states another history of {size} than {rotation}: keep both, they show "
                    "that two were signed"
                )
            if rotation.old != key:
                continue
            if stated.size > last.size:
                return (
                    f"{short(key)} has signed {size}, and by {rotation} it signs no more than "
                    f"{last.size}"
                )
            if stated.signed_at > rotation.rotated_at:
                at = moment_text(stated.signed_at)
                return f"{short(key)} has signed on {at}, after {rotation}"
        return ""


def _history(stated: Statement) -> tuple[bytes, int, datetime]:
    return stated.root, stated.commit, stated.recorded_at


def _line(first: KeyRotation, after: dict[VerifierKey, KeyRotation]) -> Iterator[KeyRotation]:
    # It ends: a key is preceded once, and the first one not at all.
    rotation: KeyRotation | None = first
    while rotation is not None:
        yield rotation
        rotation = after.get(rotation.new)


def _by_key(rotations: list[KeyRotation], end: str, verb: str) -> dict[VerifierKey, KeyRotation]:
    found: dict[VerifierKey, KeyRotation] = {}
    for rotation in rotations:
        key: VerifierKey = getattr(rotation, end)
        other = found.setdefault(key, rotation)
        if other is not rotation:
            raise InvalidArgumentError(
                f"{short(key)} is {verb} twice, by {other} and by {rotation}: one of them was not "
                "meant, or is forged; ask the signer, and keep both"
            )
    return found


def _refuse_two_stores(rotations: list[KeyRotation]) -> None:
    for one, other in pairwise(rotations):
        if one.last.store_id != other.last.store_id:
            raise InvalidArgumentError(
                f"{one} is of store {one.last.store_id}, {other} of {other.last.store_id}: give "
                "those of one store"
            )


def _refuse_two_names(trusted: Collection[VerifierKey], rotations: list[KeyRotation]) -> None:
    names: dict[bytes, VerifierKey] = {}
    in_rotations = [key for rotation in rotations for key in (rotation.old, rotation.new)]
    for key in (*trusted, *in_rotations):
        other = names.setdefault(key.public_key, key)
        if other != key:
            raise InvalidArgumentError(f"{short(other)} and {short(key)} are one key by two names")


def _refuse_disorder(earlier: KeyRotation, later: KeyRotation) -> None:
    first, second = earlier.last, later.last
    if second.size < first.size or later.rotated_at < earlier.rotated_at:
        raise InvalidArgumentError(
            f"{later} is back-dated: it states {counted(second.size, 'record')}, and comes after "
            f"{earlier}, which states {first.size}"
        )
    if second.size == first.size and _history(second) != _history(first):
        raise InvalidArgumentError(f"{earlier} and {later} state two histories")
