"""Whether erasures that were recorded have covered what was held or locked then."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import msgspec

from eventstore.answers import Refusal
from eventstore.log import Finding, Log, VerifyReport
from eventstore.log.erased import Erased, Spans
from eventstore.log.kinds import ENTITY_KINDS, ERASURE, LINK_KINDS
from eventstore.projections import Projections
from eventstore.proto import retention_pb2
from eventstore.retention.guards import (
    Recorded,
    all_versions,
    holds_in_force,
    rule_versions,
    versions,
)
from eventstore.retention.precedence import ChosenVersion, refusals
from eventstore.store.snapshot import Snapshot

_IN_EFFECT = (retention_pb2.Erasure.REQUESTED, retention_pb2.Erasure.COMPLETED)
_ENDS = {
    column: column.removesuffix("_id").removeprefix("parent_")
    for kind in LINK_KINDS
    for column, _ in kind.fields
    if column.endswith("_id")
}
"""The columns of links that hold ids, and the kinds of nodes that these are of."""


def with_guards(report: VerifyReport, log: Log) -> VerifyReport:
    """A report on a log that is sound, with what was erased although it was held or locked.

    Each erasure is held against the rules and holds as of the moment before it. What a filter found
    cannot be told once that is erased; the report says so where it matters.
    """
    if not (report.ok and _has_erasures(log)):
        return report
    with contextlib.closing(Projections(log, read_only=True)) as projections:
        newest = Snapshot(projections, projections.catch_up())
        findings: list[Finding] = []
        has_filters = False
        for erasure in _requests(newest):
            findings += [
                Finding(
                    f"erasure {erasure.message.id}, at position {erasure.position}, has covered "
                    f"what must not be erased: {refusal}",
                    position=refusal.position,
                )
                for refusal in what_forbade(log, projections, erasure)
            ]
            before = Snapshot(projections, log.commit_end(erasure.position - 1))
            has_filters = has_filters or _asks_filters(before)
    if has_filters:
        report = report.without("whether filters of holds and rules had found what is erased")
    return msgspec.structs.replace(
        report, ok=report.ok and not findings, findings=[*report.findings, *findings]
    )


def what_forbade(log: Log, projections: Projections, erasure: Recorded) -> list[Refusal]:
    """What was held or locked as an erasure was recorded, of all that it covers."""
    before = Snapshot(projections, log.commit_end(erasure.position - 1))
    chosen = list(versions_at(log, _erased_by(erasure)))
    return refusals(log, before, chosen, now=log.recorded_at(erasure.position))


def request_of(snapshot: Snapshot, number: int) -> Recorded:
    """The record by which an erasure that is in effect came into effect."""
    stages = versions(snapshot, ERASURE, number)
    return next(stage for stage in stages if stage.message.stage in _IN_EFFECT)


def versions_at(log: Log, erased: Erased) -> Iterator[ChosenVersion]:
    """The records at positions, with the nodes that links lead from and to."""
    columns = ["position", "kind", "entity_id", *_ENDS]
    left = erased.content.union(erased.who)
    while left:
        first = left.firsts[0]
        _, end = log.stretch_of(first)
        for batch in log.scan(first - 1, end, columns):
            for row in batch.to_pylist():
                if row["position"] in left:
                    kind = ENTITY_KINDS[row["kind"]]
                    ends = [(of, row[name]) for name, of in _ENDS.items() if row[name] is not None]
                    yield ChosenVersion(
                        kind.name,
                        row["entity_id"],
                        row["position"],
                        content=row["position"] in erased.content,
                        who=row["position"] in erased.who,
                        ends=tuple(ends),
                    )
        left = left.within(end + 1, log.position)


def _has_erasures(log: Log) -> bool:
    import pyarrow.compute as compute

    return any(
        compute.any(compute.equal(batch["kind"], ERASURE.name)).as_py()
        for batch in log.scan(columns=["kind"])
    )


def _requests(snapshot: Snapshot) -> Iterator[Recorded]:
    """The record of each erasure from which on it is in effect."""
    for stages in all_versions(snapshot, ERASURE):
        began = next((stage for stage in stages if stage.message.stage in _IN_EFFECT), None)
        if began is not None:
            yield began


def _erased_by(erasure: Recorded) -> Erased:
    ranges = erasure.message.ranges
    return Erased(
        Spans.of((r.first_position, r.last_position) for r in ranges if r.content),
        Spans.of((r.first_position, r.last_position) for r in ranges if r.who),
    )


def _asks_filters(snapshot: Snapshot) -> bool:
    holds = (first.message for first, _ in holds_in_force(snapshot))
    rules = (rule.message for rule in rule_versions(snapshot))
    return any(guard.scope.filter for guard in (*holds, *rules))
