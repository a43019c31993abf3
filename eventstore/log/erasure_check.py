"""What erasures cover: whether that can be, and what is erased by it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from eventstore.log.erased import Erased, Spans
from eventstore.log.kinds import ERASURE
from eventstore.log.log import Finding
from eventstore.log.retention_stages import IN_EFFECT, RetentionRecord
from eventstore.proto import retention_pb2 as retention


class CoveringRange(NamedTuple):
    """A range of an erasure in effect, and the record that says so first."""

    position: int
    commit: int
    number: int
    first: int
    last: int
    content: bool
    who: bool
    replaced_by: int


class ErasuresInEffect(NamedTuple):
    """What the erasures of a log cover together, and what no put would have written of them.

    `erased` is covered, `destroyed` by erasures that are completed. `pending` are the numbers of
    those that are not.
    """

    ranges: list[CoveringRange]
    erased: Erased
    destroyed: Erased
    pending: list[int]
    findings: list[Finding]


def erasures_in_effect(records: Iterable[RetentionRecord]) -> ErasuresInEffect:
    """What is said by records of erasures, in order. Others are passed over."""
    ranges: list[CoveringRange] = []
    newest: dict[int, Any] = {}
    findings: list[Finding] = []
    for record in records:
        if record.kind != ERASURE.name:
            continue
        message = record.message()
        former: Any = newest.get(message.id)
        newest[message.id] = message
        findings += [
            Finding(
                f"commit {record.commit} was changed: erasure {message.id} {fault}",
                commit=record.commit,
                position=record.position,
            )
            for fault in _faults_of_ranges(message, record.position)
        ]
        if message.stage in IN_EFFECT and (former is None or former.stage not in IN_EFFECT):
            requested = message.stage == retention.Erasure.REQUESTED
            ranges += _covering(message, record, has_replacements=requested)
    completed = {n for n, m in newest.items() if m.stage == retention.Erasure.COMPLETED}
    pending = [n for n, m in newest.items() if m.stage == retention.Erasure.REQUESTED]
    return ErasuresInEffect(
        ranges,
        _covered(ranges),
        _covered([covering for covering in ranges if covering.number in completed]),
        sorted(pending),
        findings,
    )


def _faults_of_ranges(message: Any, position: int) -> Iterator[str]:
    for given in message.ranges:
        first, last = given.first_position, given.last_position
        if not 1 <= first <= last < position:
            yield f"covers positions {first} to {last}, which are not all before its record"
        elif not (given.content or given.who):
            yield f"covers neither content nor who of positions {first} to {last}"
        elif message.stage in IN_EFFECT and not _is_replaced_rightly(message, given, position):
            yield f"names a replacement of positions {first} to {last} that cannot be one"


def _is_replaced_rightly(message: Any, given: Any, position: int) -> bool:
    """Whether a range has a replacement if it is redacted, and else none."""
    if not given.replaced_by:
        return not given.redacted_properties
    # Of a further stage the record comes after the replacement.
    is_after = given.replaced_by > position or message.stage == retention.Erasure.COMPLETED
    return bool(given.redacted_properties and given.content and is_after)


def _covering(
    message: Any, record: RetentionRecord, *, has_replacements: bool
) -> list[CoveringRange]:
    """Its ranges; without the replacements where these came before what is looked at."""
    return [
        CoveringRange(
            record.position,
            record.commit,
            message.id,
            given.first_position,
            given.last_position,
            given.content,
            given.who,
            given.replaced_by if has_replacements else 0,
        )
        for given in message.ranges
    ]


def _covered(ranges: Sequence[CoveringRange]) -> Erased:
    """What they cover together; one that cannot be covers nothing, however long it is."""
    sound = [r for r in ranges if 1 <= r.first <= r.last < r.position]
    return Erased(
        Spans.of((r.first, r.last) for r in sound if r.content),
        Spans.of((r.first, r.last) for r in sound if r.who),
    )
