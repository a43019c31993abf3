"""Records again, in a store made of a backup, what a register says: releases first, then erasures.

All erasures become one commit, each record erased once, by what the last of them left of it. So
nothing is put that another erasure would have to take away again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import replace

from eventstore import errors
from eventstore.copies.register import (
    NamedRecord,
    Register,
    RegisteredErasure,
    RegisteredRelease,
    registered,
    with_leaves,
)
from eventstore.log import Log
from eventstore.log.erased import Erased, Spans
from eventstore.log.kinds import ERASURE, HOLD, NODE_KINDS_BY_NAME, RETENTION_KINDS
from eventstore.projections.index_tables import STORED_TABLES
from eventstore.proto import retention_pb2
from eventstore.retention.choosing import versions_at
from eventstore.retention.erasing import write_replacements
from eventstore.retention.guards import all_versions, versions
from eventstore.retention.planning import Plan, Wanted, planned_ranges, redactions
from eventstore.retention.precedence import ChosenVersion, refusals
from eventstore.store import Engine
from eventstore.store.erasures import erased_as_of
from eventstore.store.snapshot import Snapshot
from eventstore.store.transaction import Transaction

_Name: TypeAlias = tuple[int, bytes]
"""A record's position and the beginning of its leaf."""


class Repeated(msgspec.Struct, frozen=True):
    """What was recorded again of a register, and what was not: counts.

    `elsewhere` are the records it names that another history of the store has at their positions,
    `kept` those that are held or locked, `not_redacted` those that were erased whole instead, since
    their content or the newest version of their entity is gone.
    """

    erasures: int = 0
    releases: int = 0
    elsewhere: int = 0
    kept: int = 0
    not_redacted: int = 0


def repeat(engine: Engine, register: Register) -> Repeated:
    """Record again what a register has and a store has not; the erasures are not completed yet.

    Raises DataLossError for a register that names what is never erased or another hold than was
    placed, FailedPreconditionError for a record whose key is destroyed although it is held or
    locked.
    """
    releases = [line for line in register if isinstance(line, RegisteredRelease)]
    erasures = [line for line in register if isinstance(line, RegisteredErasure)]
    snapshot = engine.snapshot()
    found = _Found(engine.log, snapshot, register)
    released: int = engine.put(_release_again, [r for r in releases if found.has(r.placed)])
    fates = _fates(found, snapshot, [e for e in erasures if not found.has(e.record)])
    repeated: Repeated = engine.put(
        lambda transaction, _: _erase_again(engine.log, transaction, fates, found), None
    )
    elsewhere = {*fates.elsewhere, *(r.placed.position for r in releases if found.lacks(r.placed))}
    return replace(repeated, releases=released, elsewhere=len(elsewhere))


class _Found:
    """Which of the records that a register names a log has."""

    def __init__(self, log: Log, snapshot: Snapshot, register: Register) -> None:
        self.own = registered(log, snapshot)
        self._position = snapshot.position
        self._leaves: dict[int, bytes] = {}
        self.bare: set[int] = set()
        """The positions of those whose content is gone."""
        spans = Spans.of(span for line in (*self.own, *register) for span in _spans_of(line))
        for record, leaf in with_leaves(log, spans, snapshot.position):
            self._leaves[record.position] = leaf
            if record.salt is None:
                self.bare.add(record.position)

    def is_at(self, position: int, leaf: bytes) -> bool:
        return self._leaves.get(position) == leaf

    def has(self, record: NamedRecord) -> bool:
        return self.is_at(record.position, record.leaf)

    def lacks(self, record: NamedRecord) -> bool:
        """Whether there is another record in its place."""
        return record.position <= self._position and not self.has(record)


class _Fates(msgspec.Struct):
    """By position what is erased of a restored record, each with the line that it is erased by."""

    lines: Sequence[RegisteredErasure]
    whole: dict[int, int] = {}
    redacted: dict[int, tuple[tuple[str, ...], int]] = {}
    who: dict[int, int] = {}
    elsewhere: set[int] = set()
    """The positions at which another history has another record."""

    @property
    def erased(self) -> Erased:
        content = (*self.whole, *self.redacted)
        return Erased(
            Spans.of((position, position) for position in content),
            Spans.of((position, position) for position in self.who),
        )


class _Family:
    """A record and what redactions have made of it, in any history, and what became of these."""

    def __init__(self, first: _Name) -> None:
        self.members = [first]
        self.redacted: dict[str, None] = {}
        self.is_whole = False
        self.line: int | None = None


def _families(lines: Iterable[RegisteredErasure]) -> dict[_Name, _Family]:
    made_of = {
        replacement: record
        for line in lines
        for part in line.parts
        for record, replacement in zip(part.records(), part.replacements(), strict=False)
        if replacement > record
    }
    families: dict[_Name, _Family] = {}
    for name in made_of:
        first = name
        while first in made_of:
            first = made_of[first]
        if first not in families:
            families[first] = _Family(first)
        families[name] = families[first]
        families[name].members.append(name)
    return families


def _fates(found: _Found, snapshot: Snapshot, lines: Sequence[RegisteredErasure]) -> _Fates:
    own = [line for line in found.own if isinstance(line, RegisteredErasure)]
    families = _families([*own, *lines])
    fates = _Fates(lines)
    for number, line in enumerate(lines):
        for part in line.parts:
            for name in part.records():
                is_here = found.is_at(*name)
                if part.who and is_here:
                    fates.who[name[0]] = number
                family = families.get(name) if part.content else None
                if family is not None:
                    family.redacted |= dict.fromkeys(part.redacted)
                    family.is_whole = family.is_whole or not part.redacted
                    family.line = number
                elif part.content and is_here:
                    fates.whole[name[0]] = number
                is_known = family is not None and any(found.is_at(*m) for m in family.members)
                if not (is_here or is_known) and name[0] <= snapshot.position:
                    fates.elsewhere.add(name[0])
    for family in families.values():
        for position, leaf in family.members:
            if family.line is None or not found.is_at(position, leaf):
                continue
            if family.is_whole:
                fates.whole[position] = family.line
            else:
                fates.redacted[position] = tuple(family.redacted), family.line
    before = erased_as_of(snapshot.index, snapshot.position)
    for by_position in (fates.whole, fates.redacted):
        _drop(by_position, lambda position: position in before.content)
    _drop(fates.who, lambda position: position in before.who)
    return fates


def _release_again(transaction: Transaction, lines: Iterable[RegisteredRelease]) -> int:
    """Draft the ends of holds that are still in force; how many."""
    for line in lines:
        known = versions(transaction, HOLD, line.number)
        if not known or known[0].position != line.placed.position:
            raise errors.DataLossError(
                f"the register says that hold {line.number} was placed at position "
                f"{line.placed.position}, which is not so: take the register as it was written"
            )
        current = known[-1]
        if current.message.stage == retention_pb2.Hold.RELEASED:
            continue
        message = retention_pb2.Hold()
        message.CopyFrom(current.message)
        message.stage = retention_pb2.Hold.RELEASED
        message.release_ticket = line.ticket
        message.is_repeated = True
        transaction.write(HOLD, message, previous=(current.position, current.payload))
    return len(transaction.drafts)


def _erase_again(log: Log, transaction: Transaction, fates: _Fates, found: _Found) -> Repeated:
    """Draft the erasures, and after them what is left of redacted versions."""
    chosen, kept = _allowed(log, transaction, fates, found)
    whole = {one.position for one in chosen if one.position in fates.whole}
    before = erased_as_of(transaction.index, transaction.position)
    names = {p: fates.redacted[p][0] for one in chosen if (p := one.position) in fates.redacted}
    _drop(names, lambda position: position in found.bare)
    for one in chosen:
        if one.position in names:
            newest = transaction.newest(STORED_TABLES[one.kind], one.id)
            assert newest is not None
            is_gone = newest[0] in whole or newest[0] in before.content
            # Of a version whose key is destroyed no replacement can be made.
            if is_gone or (newest[0] in fates.redacted and newest[0] in found.bare):
                del names[one.position]
    of_names = [one for one in chosen if one.position in names]
    replaced, replacements = redactions(transaction, of_names, names, before)
    instead = {p for one in chosen if (p := one.position) in fates.redacted and p not in names}
    whole |= instead
    by_line: dict[int, list[ChosenVersion]] = defaultdict(list)
    for one in sorted(chosen, key=lambda one: one.position):
        position = one.position
        is_content = position in whole or position in replaced
        content_line = fates.whole.get(position, fates.redacted.get(position, ((), -1))[1])
        who_line = fates.who.get(position, -1)
        if is_content and content_line == who_line:
            by_line[content_line].append(replace(one, content=True, who=True))
            continue
        if is_content:
            by_line[content_line].append(replace(one, content=True, who=False))
        if who_line >= 0:
            by_line[who_line].append(replace(one, content=False, who=True))
    numbers = transaction.next_ids(ERASURE.sequence, len(by_line))
    first = transaction.position + len(by_line) + 1
    for number, at in zip(numbers, sorted(by_line), strict=True):
        line = fates.lines[at]
        rule = line.rule.position if line.rule is not None and found.has(line.rule) else 0
        wanted = Wanted(basis=line.basis, ticket=line.ticket, rule_position=rule)
        by = {
            p: replaced[p] for one in by_line[at] if one.content and (p := one.position) in replaced
        }
        ranges = planned_ranges(by_line[at], by)
        planned = Plan(wanted, tuple(by_line[at]), tuple(ranges), tuple(replacements), ())
        message = planned.erasure(number, retention_pb2.Erasure.REQUESTED, first)
        message.is_repeated = True
        transaction.write(ERASURE, message)
    write_replacements(transaction, replacements)
    return Repeated(erasures=len(by_line), kept=kept, not_redacted=len(instead))


def _allowed(
    log: Log, snapshot: Snapshot, fates: _Fates, found: _Found
) -> tuple[list[ChosenVersion], int]:
    """The records that may be erased, and how many may not, since they are held or locked."""
    erased = fates.erased
    never = {
        known.position
        for kind in RETENTION_KINDS
        for of_number in all_versions(snapshot, kind)
        for known in of_number
    }
    wrong = [position for position in never if position in erased.content or position in erased.who]
    chosen = [] if wrong else [*versions_at(log, erased)]
    wrong += [one.position for one in chosen if one.content and one.kind not in NODE_KINDS_BY_NAME]
    if wrong:
        raise errors.DataLossError(
            f"the register names the record at position {min(wrong)}, which is never erased: take "
            "the register as it was written"
        )
    refused = {refusal.position: refusal for refusal in refusals(log, snapshot, chosen)}
    for position, refusal in refused.items():
        if position in found.bare:
            raise errors.FailedPreconditionError(
                f"the keys are destroyed of what must not be erased: {refusal}; the register is of "
                "another history of this store"
            )
    return [one for one in chosen if one.position not in refused], len(refused)


def _drop(by_position: dict[int, Any], is_out: Any) -> None:
    for position in [*by_position]:
        if is_out(position):
            del by_position[position]


def _spans_of(line: RegisteredErasure | RegisteredRelease) -> Iterable[tuple[int, int]]:
    """The positions of all records that a line names."""
    named = [line.record.position]
    if isinstance(line, RegisteredRelease):
        named.append(line.placed.position)
    else:
        named += [] if line.rule is None else [line.rule.position]
        for part in line.parts:
            yield from part.spans
            named += part.replaced_by
    yield from ((position, position) for position in named)
