"""Which records an erasure takes what of, and what it puts in their place."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from eventstore.answers import Refusal
from eventstore.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from eventstore.log import Log
from eventstore.log.erased import Erased, Spans
from eventstore.log.kinds import NODE_KINDS_BY_NAME, Node, NodeKind
from eventstore.log.readable import read_message
from eventstore.projections.index_tables import TABLES_OF
from eventstore.proto import retention_pb2 as retention
from eventstore.retention.codes import check_code
from eventstore.retention.precedence import ChosenVersion, refusals
from eventstore.retention.redaction import has, redacted, without_what_others_bear
from eventstore.store.erasures import all_erased, in_effect
from eventstore.store.snapshot import Snapshot

_NOTHING: Final = Spans()

_NAMED_MAX: Final = 5
"""How many entities an error names."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be erased of some records, and by which right.

    `content` is of nodes alone. With `redact` their content is replaced by what is left without
    these properties or fields. `rule_position` is that of the rule by which they expired, else 0.
    """

    basis: str
    ticket: str = ""
    content: bool = True
    who: bool = False
    redact: tuple[str, ...] = ()
    rule_position: int = 0


class Replacement(NamedTuple):
    """A version to be put: what is left of an erased one, or a repetition of the newest."""

    kind: NodeKind
    message: Node
    base: tuple[int, bytes]
    """Position and payload of the version that it was made from."""


class PlannedRange(NamedTuple):
    """Consecutive positions, and which of the replacements takes their place."""

    first: int
    last: int
    content: bool
    who: bool
    redacted: tuple[str, ...] = ()
    replacement: int | None = None


class Plan(msgspec.Struct, frozen=True):
    """An erasure before it is recorded; without ranges nothing is left to erase."""

    wanted: Wanted
    versions: tuple[ChosenVersion, ...]
    ranges: tuple[PlannedRange, ...]
    replacements: tuple[Replacement, ...]
    refused: tuple[Refusal, ...]
    passed_over: tuple[ChosenVersion, ...] = ()
    """The versions of which something that is wanted was erased before."""

    @property
    def erased(self) -> Erased:
        """The records that it erases something of."""
        return Erased(
            Spans.of((r.first, r.last) for r in self.ranges if r.content),
            Spans.of((r.first, r.last) for r in self.ranges if r.who),
        )

    def erasure(self, number: int, stage: Any, first_replacement: int | None) -> retention.Erasure:
        """It as a message; replacements are put from a position on, or not yet."""
        made = retention.Erasure(
            id=number,
            stage=stage,
            basis=self.wanted.basis,
            ticket=self.wanted.ticket,
            rule_position=self.wanted.rule_position,
        )
        for planned in self.ranges:
            added = made.ranges.add(
                first_position=planned.first,
                last_position=planned.last,
                content=planned.content,
                who=planned.who,
                redacted_properties=planned.redacted,
            )
            if planned.replacement is not None and first_replacement is not None:
                added.replaced_by = first_replacement + planned.replacement
        return made


def check_wanted(wanted: Wanted) -> None:
    """Raise InvalidArgumentError for what cannot be wanted of any record."""
    check_code("reason", wanted.basis, is_required=True)
    check_code("ticket", wanted.ticket)
    if any(not isinstance(name, str) or not name for name in wanted.redact):
        raise InvalidArgumentError(
            f"redact is {list(wanted.redact)!r}: use names of properties, or of the fields name, "
            "uri and external_id"
        )
    if wanted.redact and not wanted.content:
        raise InvalidArgumentError("redact erases content: leave content=False or redact out")
    if not (wanted.content or wanted.who):
        raise InvalidArgumentError("there is nothing to erase without content and who")


def plan(log: Log, snapshot: Snapshot, versions: Sequence[ChosenVersion], wanted: Wanted) -> Plan:
    """What is erased of these records, which exist; what is erased already is passed over.

    Raises FailedPreconditionError where what is to be redacted cannot be.
    """
    before = all_erased(in_effect(snapshot.index, snapshot.position))
    whole: set[int] = set()
    replaced: dict[int, tuple[tuple[str, ...], int]] = {}
    replacements: list[Replacement] = []
    if wanted.redact:
        names = dict.fromkeys((version.position for version in versions), wanted.redact)
        done = _redacted_since(snapshot, wanted.redact)
        replaced, replacements = redactions(snapshot, versions, names, before, done)
    elif wanted.content:
        whole = {
            v.position
            for v in versions
            if v.kind in NODE_KINDS_BY_NAME and v.position not in before.content
        }
    who = (
        {v.position for v in versions if v.position not in before.who} if wanted.who else set[int]()
    )
    touched = [
        replace(
            version,
            content=version.position in whole or version.position in replaced,
            who=version.position in who,
        )
        for version in sorted(versions, key=lambda version: version.position)
        if version.position in whole or version.position in replaced or version.position in who
    ]
    return Plan(
        wanted,
        tuple(touched),
        tuple(planned_ranges(touched, replaced)),
        tuple(replacements),
        tuple(refusals(log, snapshot, touched)),
        tuple(
            version
            for version in versions
            if (wanted.content and version.position in before.content)
            or (wanted.who and version.position in before.who)
        ),
    )


def redactions(
    snapshot: Snapshot,
    versions: Sequence[ChosenVersion],
    names: Mapping[int, tuple[str, ...]],
    before: Erased,
    done: Spans = _NOTHING,
) -> tuple[dict[int, tuple[tuple[str, ...], int]], list[Replacement]]:
    """By position what is redacted and the number of the replacement, and all replacements.

    `names` are those of the properties and fields that each version loses, by position. What is
    erased `before` is passed over; what is `done` has lost them already. Raises
    FailedPreconditionError where the newest version of an entity is erased.
    """
    by_entity: dict[tuple[str, int], list[int]] = defaultdict(list)
    for version in versions:
        by_entity[version.kind, version.id].append(version.position)
    replaced: dict[int, tuple[tuple[str, ...], int]] = {}
    replacements: list[Replacement] = []
    for (kind_name, entity_id), positions in by_entity.items():
        kind = NODE_KINDS_BY_NAME[kind_name]
        stored = TABLES_OF[kind].stored
        newest = snapshot.newest(stored, entity_id)
        assert newest is not None
        count = len(replacements)
        for position in sorted(positions):
            if position in before.content:
                continue
            found = snapshot.index.newest(stored, entity_id, position)
            assert found is not None
            message = read_message(kind.message, found[1])
            left = redacted(kind, message, names[position])
            if left is None and position in done:
                left = message
            if left is not None:
                replaced[position] = (names[position], len(replacements))
                left = without_what_others_bear(snapshot, kind, left)
                replacements.append(Replacement(kind, left, found))
        if len(replacements) == count:
            continue
        if newest[0] in before.content:
            raise FailedPreconditionError(
                f"{kind_name} {entity_id} is erased by now, so that no version of it can be put in "
                "the place of an earlier one: erase these versions instead of redacting them"
            )
        if newest[0] not in replaced:
            # What is put last is what the entity is from now on.
            message = read_message(kind.message, newest[1])
            replacements.append(Replacement(kind, message, newest))
    return replaced, replacements


def _redacted_since(snapshot: Snapshot, names: tuple[str, ...]) -> Spans:
    """The versions that lost just these properties after the snapshot.

    There are some where a redaction is planned again, since its request was sent again.
    """
    if snapshot.position == snapshot.index.position:
        return Spans()
    return Spans.of(
        (planned.first_position, planned.last_position)
        for erasure in in_effect(snapshot.index, snapshot.index.position)
        if erasure.requested_at is not None and erasure.requested_at > snapshot.position
        for planned in erasure.message.ranges
        if tuple(planned.redacted_properties) == names
    )


def require_names(
    snapshot: Snapshot, versions: Sequence[ChosenVersion], names: Iterable[str]
) -> None:
    """Raise NotFoundError for names that no version has, unless they were redacted before.

    The erasure would say of them that they are erased: a mistyped name would look like a done one.
    """
    missing = dict.fromkeys(names)
    if not missing:
        return
    # Those after the snapshot, too: one may have answered this request, which was sent again.
    known = in_effect(snapshot.index, snapshot.index.position)
    positions = sorted(version.position for version in versions)
    for erasure in known:
        for planned in erasure.message.ranges:
            at = bisect_left(positions, planned.first_position)
            if at < len(positions) and positions[at] <= planned.last_position:
                for name in planned.redacted_properties:
                    missing.pop(name, None)
    before = all_erased(known).content
    for version in versions:
        if not missing:
            return
        if version.position not in before:
            kind = NODE_KINDS_BY_NAME[version.kind]
            found = snapshot.index.newest(TABLES_OF[kind].stored, version.id, version.position)
            assert found is not None
            message = read_message(kind.message, found[1])
            missing = {name: None for name in missing if not has(kind, message, name)}
    if missing:
        entities = list(dict.fromkeys(f"{version.kind} {version.id}" for version in versions))
        more = len(entities) - _NAMED_MAX
        of = ", ".join(entities[:_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
        raise NotFoundError(
            f"no version that was chosen of {of} has {', '.join(map(repr, missing))}: nothing was "
            "erased; redact names that one of them has"
        )


def planned_ranges(
    versions: Iterable[ChosenVersion], replaced: Mapping[int, tuple[tuple[str, ...], int]]
) -> list[PlannedRange]:
    """Ranges of versions in the order of their positions; `replaced` is what `redactions` gives."""
    ranges: list[PlannedRange] = []
    for version in versions:
        position, has = version.position, (version.content, version.who)
        last = ranges[-1] if ranges else None
        if position in replaced:
            names, number = replaced[position]
            ranges.append(PlannedRange(position, position, *has, names, number))
        elif (
            last is not None
            and last.last == position - 1
            and last.replacement is None
            and (last.content, last.who) == has
        ):
            ranges[-1] = last._replace(last=position)
        else:
            ranges.append(PlannedRange(position, position, *has))
    return ranges
