"""Random records of a rule, hold or erasure: both verifiers find the same ones impossible."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from eventstore.audit import standalone_verifier
from eventstore.log.erasure_check import erasures_in_effect
from eventstore.log.retention_stages import RetentionRecord, stage_findings
from eventstore.proto import retention_pb2 as retention

_SEQUENCES = 5_000
_FIRST = 4
"""The position of the first record: a little is there to be erased."""


class Author:
    """Writes records of one rule, hold and erasure that often, and not always, fit together."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._needs_approval = random.random() < 0.5
        self._is_repeated = random.random() < 0.2
        self._ranges = self._some_ranges()

    def record(self, kind: str, position: int) -> RetentionRecord:
        make = {"retention_rule": self._rule, "hold": self._hold, "erasure": self._erasure}[kind]
        actor = self._random.choice(["ana", "ben", "ben", None, ""])
        return RetentionRecord(kind, position, position, actor, make().SerializeToString())

    def _mostly(self, usual: Any, *others: Any) -> Any:
        return self._random.choice([usual] * 4 * len(others) + list(others))

    def _scope(self) -> retention.Scope:
        usual = retention.Scope(kinds=["artifact"])
        return self._mostly(usual, retention.Scope(type_ids=[1, 2]), retention.Scope(filter="id"))

    def _rule(self) -> retention.RetentionRule:
        return retention.RetentionRule(
            id=1,
            scope=self._scope(),
            keep_at_least_seconds=self._random.choice([0, 0, 5, 5, 6, -1]),
            keep_at_most_seconds=self._random.choice([0, 0, 5, 6, 2**40]),
            includes_current=self._mostly(False, True),
            basis=self._mostly("B", "C"),
            is_withdrawn=self._mostly(False, True),
            needs_approval=self._random.random() < 0.5,
        )

    def _hold(self) -> retention.Hold:
        stage = self._random.choice([0, 1, 1, 2, 2, 3, 3, 7])
        return retention.Hold(
            id=1,
            scope=self._scope(),
            stage=stage,
            basis=self._mostly("B", "C"),
            ticket=self._mostly("T", "U"),
            release_ticket=self._mostly("R" if stage > 1 else "", "S"),
            needs_approval=self._mostly(self._needs_approval, not self._needs_approval),
            is_repeated=self._mostly(False, True),
        )

    def _erasure(self) -> retention.Erasure:
        made = retention.Erasure(
            id=1,
            stage=self._random.choice([0, 1, 1, 2, 2, 2, 3, 3, 4, 9]),
            ranges=self._mostly(self._ranges, self._some_ranges()),
            basis=self._mostly("B", "C"),
            ticket=self._mostly("T", "U"),
            rule_position=self._mostly(0, _FIRST, _FIRST + 1, -1, 99),
            is_repeated=self._mostly(self._is_repeated, not self._is_repeated),
        )
        if made.stage in (retention.Erasure.REQUESTED, retention.Erasure.COMPLETED):
            for given in made.ranges:
                given.replaced_by = 50 if given.redacted_properties else 0
        if made.stage == self._mostly(retention.Erasure.COMPLETED, retention.Erasure.REQUESTED):
            covered = [
                (g, range(g.first_position, min(g.last_position, 99) + 1)) for g in made.ranges
            ]
            made.contents_erased = len({p for g, of in covered if g.content for p in of})
            made.whos_erased = len({p for g, of in covered if g.who for p in of})
            made.files.add(segment=1)
        return made

    def _some_ranges(self) -> list[retention.ErasedRange]:
        return [self._range() for _ in range(self._mostly(1, 2))]

    def _range(self) -> retention.ErasedRange:
        first = self._mostly(1, 2)
        return retention.ErasedRange(
            first_position=first,
            last_position=self._mostly(first, 1, 3, 2**62),
            content=self._mostly(True, False),
            who=self._random.random() < 0.5,
            redacted_properties=self._mostly([], ["x"], ["y", "x"]),
        )


def _alone(records: list[RetentionRecord]) -> bool:
    """Whether the stand-alone verifier refuses them."""
    stages = standalone_verifier.Stages()
    try:
        for one in records:
            said = {name: getattr(one, name) for name in ("kind", "position", "actor", "payload")}
            stages.add(said | {"entity_id": 1})
    except standalone_verifier.Refused:
        return True
    return False


def test_both_verifiers_follow_the_same_stages() -> None:
    random, verdicts = Random(2026), Counter[bool]()
    for number in range(_SEQUENCES):
        author = Author(random)
        kinds = [["retention_rule"], ["hold"], ["erasure"], ["erasure", "retention_rule"]]
        among = random.choice(kinds)
        records = [
            author.record(random.choice(among), _FIRST + place)
            for place in range(random.randint(1, 4))
        ]
        findings = [
            *stage_findings(records, after=0),
            # The other one looks at this together with the stages.
            *(f for f in erasures_in_effect(records).findings if "not all before" in f.what),
        ]
        assert _alone(records) is bool(findings), (number, findings)
        verdicts[bool(findings)] += 1
    # The records fit together often enough for what is sound to be looked at, too.
    assert min(verdicts.values()) > _SEQUENCES // 20
