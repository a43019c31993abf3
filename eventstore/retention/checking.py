"""Whether erasures that were recorded have covered what was held or locked then."""

from __future__ import annotations

import contextlib

import msgspec

from eventstore.answers import Refusal
from eventstore.log import Finding, Log, VerifyReport
from eventstore.log.kinds import ERASURE
from eventstore.projections import Projections
from eventstore.retention.choosing import versions_at
from eventstore.retention.guards import holds_in_force, rule_versions
from eventstore.retention.precedence import refusals
from eventstore.store.erasures import StoredErasure, erasures_as_of
from eventstore.store.snapshot import Snapshot


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
        for erasure in erasures_as_of(newest.index, newest.position):
            if erasure.requested_at is None:
                continue
            findings += [
                Finding(
                    f"erasure {erasure.number}, at position {erasure.requested_at}, has covered "
                    f"what must not be erased: {refusal}",
                    position=refusal.position,
                )
                for refusal in what_forbade(log, projections, erasure)
            ]
            before = Snapshot(projections, log.commit_end(erasure.requested_at - 1))
            has_filters = has_filters or _asks_filters(before)
    if has_filters:
        report = report.without("whether filters of holds and rules had found what is erased")
    return msgspec.structs.replace(
        report, ok=report.ok and not findings, findings=[*report.findings, *findings]
    )


def what_forbade(log: Log, projections: Projections, erasure: StoredErasure) -> list[Refusal]:
    """What was held or locked as an erasure was requested, of all that it covers."""
    assert erasure.requested_at is not None
    before = Snapshot(projections, log.commit_end(erasure.requested_at - 1))
    chosen = list(versions_at(log, erasure.erased))
    return refusals(log, before, chosen, now=log.recorded_at(erasure.requested_at))


def _has_erasures(log: Log) -> bool:
    import pyarrow.compute as compute

    return any(
        compute.any(compute.equal(batch["kind"], ERASURE.name)).as_py()
        for batch in log.scan(columns=["kind"])
    )


def _asks_filters(snapshot: Snapshot) -> bool:
    holds = (first.message for first, _ in holds_in_force(snapshot))
    rules = (rule.message for rule in rule_versions(snapshot))
    return any(guard.scope.filter for guard in (*holds, *rules))
