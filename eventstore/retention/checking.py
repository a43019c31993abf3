"""Whether erasures that were recorded were allowed: by holds, locks and a second person."""

from __future__ import annotations

import contextlib
from typing import Final

import msgspec

from eventstore.log import Finding, Log, VerifyReport
from eventstore.log.kinds import ERASURE
from eventstore.log.record import Position
from eventstore.projections import Projections
from eventstore.retention.choosing import versions_at
from eventstore.retention.guards import holds_in_force, other_guard, rule_versions
from eventstore.retention.precedence import approval_demanded, refusals
from eventstore.store.erasures import StoredErasure, actor_at, in_effect
from eventstore.store.snapshot import Snapshot

GUARDS: Final = "whether a hold, a lock or a missing second person forbade erasures"
"""What is checked here, as a report says where it was not."""


def with_guards(report: VerifyReport, log: Log) -> VerifyReport:
    """A report on a log that is sound, with what was erased although that was not allowed.

    Each erasure is held against the rules and holds as of the moment before it. What a filter found
    cannot be told once that is erased; the report says so where it matters.
    """
    if not (report.ok and _has_erasures(log)):
        return report
    with contextlib.closing(Projections(log, read_only=True)) as projections:
        newest = Snapshot(projections, projections.catch_up())
        if other_guard(log, newest) is not None:
            return report.without(f"{GUARDS}, since the point index has other holds or rules")
        findings: list[Finding] = []
        has_filters = False
        for erasure in in_effect(newest.index, newest.position):
            before = state_before(projections, erasure)
            findings += [
                Finding(
                    f"erasure {erasure.number}, at position {erasure.requested_at}, {why}",
                    position=position,
                )
                for position, why in what_forbade(log, before, erasure)
            ]
            has_filters = has_filters or _asks_filters(before)
    if has_filters:
        report = report.without("whether filters of holds and rules had found what is erased")
    return msgspec.structs.replace(
        report, ok=report.ok and not findings, findings=[*report.findings, *findings]
    )


def state_before(projections: Projections, erasure: StoredErasure) -> Snapshot:
    """The state that an erasure was requested on, which may lie within a commit."""
    assert erasure.requested_at is not None
    return Snapshot(projections, Position(erasure.requested_at - 1))


def what_forbade(log: Log, before: Snapshot, erasure: StoredErasure) -> list[tuple[int, str]]:
    """What forbade an erasure as it was requested, by the position that this is about.

    It has covered what was held or locked, or nobody else has approved it where a rule demanded a
    second person. Who approved one that a restoration repeats is not known.
    """
    assert erasure.requested_at is not None
    chosen = list(versions_at(log, erasure.erased))
    now = log.recorded_at(erasure.requested_at)
    found = [
        (refusal.position, f"has covered what must not be erased: {refusal}")
        for refusal in refusals(log, before, chosen, now=now)
    ]
    if erasure.message.is_repeated:
        return found
    if erasure.proposed_at is None:
        rule = approval_demanded(before, chosen)
        if rule is not None:
            found.append(
                (
                    erasure.requested_at,
                    f"takes a second person by retention rule {rule.message.id}, recorded at "
                    f"position {rule.position}, and nobody has proposed it",
                )
            )
    elif not _are_two_people(log, erasure.proposed_at, erasure.requested_at):
        found.append(
            (
                erasure.requested_at,
                f"it was proposed at position {erasure.proposed_at}, and not approved by somebody "
                "else",
            )
        )
    return found


def _are_two_people(log: Log, proposed_at: int, approved_at: int) -> bool:
    proposer, approver = actor_at(log, proposed_at), actor_at(log, approved_at)
    return None not in (proposer, approver) and proposer != approver


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
