"""What records of rules, holds and erasures say, and whether it can follow what they said before.

Some steps take a second person: the actor of the proposal is not the one of what it leads to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from eventstore.log.erased import Spans
from eventstore.log.kinds import ERASURE, HOLD, KINDS, RETENTION_RULE
from eventstore.log.log import Finding
from eventstore.log.readable import read_message
from eventstore.proto import retention_pb2 as retention

SECONDS_MAX: Final = 1_000 * 366 * 86_400
"""How long a rule may keep records, at least or at most."""

IN_EFFECT: Final = (retention.Erasure.REQUESTED, retention.Erasure.COMPLETED)
"""The stages of an erasure in which what it covers is erased."""

_OF_HOLDS: Final = {
    None: (retention.Hold.PLACED,),
    retention.Hold.PLACED: (retention.Hold.RELEASE_PROPOSED, retention.Hold.RELEASED),
    retention.Hold.RELEASE_PROPOSED: (retention.Hold.RELEASED,),
}
_OF_ERASURES: Final = {
    None: (retention.Erasure.PROPOSED, retention.Erasure.REQUESTED),
    retention.Erasure.PROPOSED: (retention.Erasure.REQUESTED, retention.Erasure.WITHDRAWN),
    retention.Erasure.REQUESTED: (retention.Erasure.COMPLETED,),
}
"""By stage those that can follow it; None before the first."""

_STAYS_OF_RULES: Final = (
    *("scope", "keep_at_least_seconds", "keep_at_most_seconds", "includes_current"),
    *("basis", "needs_approval"),
)
"""What a rule's withdrawal leaves as it was."""
_STAYS_OF_HOLDS: Final = ("scope", "basis", "ticket", "needs_approval")
_STAYS_OF_ERASURES: Final = ("basis", "ticket", "rule_position")


class RetentionRecord(msgspec.Struct, frozen=True):
    """A record of a rule, hold or erasure: where it is, who put it, and its content."""

    kind: str
    position: int
    commit: int
    actor: str | None
    payload: bytes

    def message(self) -> Any:
        """What can be read of it."""
        return read_message(KINDS[self.kind].message, self.payload)


def stage_findings(records: Iterable[RetentionRecord], *, after: int) -> list[Finding]:
    """What no put would have written, of the records after a position, in order."""
    newest: dict[tuple[str, int], tuple[RetentionRecord, Any]] = {}
    rules: dict[int, Any] = {}
    findings = []
    for record in records:
        message = record.message()
        former, before = newest.get((record.kind, message.id), (None, None))
        newest[record.kind, message.id] = record, message
        # The record before may lie before what is looked at.
        follows = former is not None or not after
        if record.kind == RETENTION_RULE.name:
            rules[record.position] = message
            faults = [*_faults_of_rule(message, before, follows=follows)]
        elif record.kind == HOLD.name:
            faults = [*_faults_of_hold(message, before, follows=follows)]
        else:
            faults = [*_faults_of_erasure(message, before, follows=follows)]
            if message.rule_position > after or message.rule_position < 0:
                faults += _faults_of_expiry(rules.get(message.rule_position))
        if former is not None and _is_second_step(message, before):
            faults += _faults_of_approval(record.actor, former.actor, former.position)
        findings += [
            Finding(
                f"commit {record.commit} was changed: "
                f"{record.kind.replace('_', ' ')} {message.id} {fault}",
                commit=record.commit,
                position=record.position,
            )
            for fault in faults
        ]
    return findings


def repeated(records: Iterable[RetentionRecord]) -> list[str]:
    """The erasures and releases that a restoration has carried over: who agreed is not told."""
    found = {
        (record.kind, message.id)
        for record in records
        if record.kind != RETENTION_RULE.name and (message := record.message()).is_repeated
    }
    return [
        f"erasure {number}" if kind == ERASURE.name else f"the release of hold {number}"
        for kind, number in sorted(found)
    ]


def _faults_of_rule(rule: Any, before: Any, *, follows: bool) -> Iterator[str]:
    least, most = rule.keep_at_least_seconds, rule.keep_at_most_seconds
    if not (0 <= least <= SECONDS_MAX and 0 <= most <= SECONDS_MAX):
        yield "keeps records for what is no span of time"
    elif not (least or most or rule.needs_approval) or (rule.includes_current and not most):
        yield "says nothing"
    elif 0 < most < least:
        yield "keeps records at most shorter than at least"
    if before is None:
        if follows and rule.is_withdrawn:
            yield "is withdrawn by its first record"
        return
    if before.is_withdrawn:
        yield "was withdrawn before"
    elif rule.is_withdrawn and (changed := _changed(_STAYS_OF_RULES, rule, before)):
        yield f"has another {changed} as it is withdrawn"
    if least < before.keep_at_least_seconds:
        yield "keeps records shorter than before"
    if before.needs_approval and not rule.needs_approval:
        yield "asks for no second person any more"


def _faults_of_hold(hold: Any, before: Any, *, follows: bool) -> Iterator[str]:
    yield from _faults_of_stage(_OF_HOLDS, hold, before, follows=follows)
    if hold.is_repeated and hold.stage != retention.Hold.RELEASED:
        yield "is repeated, which a release alone is"
    if bool(hold.release_ticket) != (hold.stage != retention.Hold.PLACED):
        yield "has a ticket of its release before that, or none with it"
    if before is None:
        return
    if changed := _changed(_STAYS_OF_HOLDS, hold, before):
        yield f"has another {changed} than before"
    if hold.is_repeated:
        return
    if before.stage == retention.Hold.PLACED:
        if before.needs_approval and hold.stage == retention.Hold.RELEASED:
            yield "is released without the second person whom it asks for"
        elif not before.needs_approval and hold.stage == retention.Hold.RELEASE_PROPOSED:
            yield "is proposed to be released, and asks for no second person"
    elif hold.release_ticket != before.release_ticket:
        yield "has another ticket of its release than was proposed"


def _faults_of_erasure(erasure: Any, before: Any, *, follows: bool) -> Iterator[str]:
    yield from _faults_of_stage(_OF_ERASURES, erasure, before, follows=follows)
    counts = (0, 0)
    if erasure.stage == retention.Erasure.COMPLETED:
        counts = _count(erasure, "content"), _count(erasure, "who")
    elif erasure.files:
        yield "names files, and is not completed"
    if (erasure.contents_erased, erasure.whos_erased) != counts:
        yield "counts other records than it covers"
    if erasure.is_repeated and erasure.stage not in IN_EFFECT:
        yield "is repeated, which one in effect alone is"
    if before is None:
        return
    if changed := _changed(_STAYS_OF_ERASURES, erasure, before):
        yield f"has another {changed.replace('_', ' ')} than before"
    if before.stage == retention.Erasure.PROPOSED and erasure.stage in IN_EFFECT:
        if _is_second_step(erasure, before) and not _is_within(erasure, before):
            yield "covers something else than was proposed"
    elif _ranges(erasure) != _ranges(before):
        yield "covers something else than before"
    elif erasure.is_repeated != before.is_repeated:
        yield "is repeated at one stage, and not at another"


def _faults_of_stage(stages: Any, message: Any, before: Any, *, follows: bool) -> Iterator[str]:
    if follows and message.stage not in stages.get(None if before is None else before.stage, ()):
        yield "is at a stage that does not follow the one before"


def _faults_of_expiry(rule: Any) -> Iterator[str]:
    if rule is None or rule.is_withdrawn or not rule.keep_at_most_seconds:
        yield "names a rule's record by which nothing expires"


def _faults_of_approval(actor: str | None, proposer: str | None, proposed_at: int) -> Iterator[str]:
    if actor is None or proposer is None:
        yield f"was proposed at position {proposed_at}, and there is no telling by two people"
    elif actor == proposer:
        yield f"was proposed at position {proposed_at} by {actor!r}, who has approved it, too"


def _is_second_step(message: Any, before: Any) -> bool:
    """Whether a record has to be a second person's, since the one before is a proposal."""
    if isinstance(message, retention.RetentionRule) or message.is_repeated:
        return False
    if isinstance(message, retention.Hold):
        proposed, approved = retention.Hold.RELEASE_PROPOSED, retention.Hold.RELEASED
        return bool(before.stage == proposed and message.stage == approved)
    proposed_erasure, requested = retention.Erasure.PROPOSED, retention.Erasure.REQUESTED
    return bool(before.stage == proposed_erasure and message.stage == requested)


def _changed(names: Iterable[str], message: Any, before: Any) -> str | None:
    """The first of some fields that a message has otherwise than the one before."""
    return next((n for n in names if _value(message, n) != _value(before, n)), None)


def _value(message: Any, name: str) -> Any:
    if name != "scope":
        return getattr(message, name)
    scope = message.scope
    entities = [(entity.kind, entity.id) for entity in scope.entities]
    lists = [list(of) for of in (scope.kinds, scope.type_ids, scope.context_ids)]
    return lists, entities, scope.filter


def _ranges(erasure: Any) -> list[tuple[Any, ...]]:
    return [
        (
            *(given.first_position, given.last_position, given.content, given.who),
            *(tuple(given.redacted_properties), given.replaced_by),
        )
        for given in erasure.ranges
    ]


def _parts(erasure: Any) -> dict[tuple[str, ...], Spans]:
    """The positions that it covers, by what of them; content also by what is redacted of it."""
    found: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
    for given in erasure.ranges:
        span = given.first_position, given.last_position
        if given.content and span[0] <= span[1]:
            found["content", *given.redacted_properties].append(span)
        if given.who and span[0] <= span[1]:
            found[("who",)].append(span)
    return {part: Spans.of(spans) for part, spans in found.items()}


def _is_within(requested: Any, proposed: Any) -> bool:
    """Whether nothing is requested but what was proposed; some may have been erased since."""
    known = _parts(proposed)
    return not any(
        spans.without(known.get(part, Spans())) for part, spans in _parts(requested).items()
    )


def _count(erasure: Any, what: str) -> int:
    """How many records lose their content, or who put them."""
    ranges = (given for given in erasure.ranges if getattr(given, what))
    spans = Spans.of((given.first_position, given.last_position) for given in ranges)
    return sum(max(last - first + 1, 0) for first, last in spans)
