"""Steps of rules, holds and erasures that no put takes, and those without a second person."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eventstore.audit import standalone_verifier
from eventstore.log import DirectoryLog, Draft, VerifyReport
from eventstore.log.verification import verify_directory
from eventstore.proto import retention_pb2 as retention
from eventstore.retention.checking import with_guards
from tests.attacks.test_erasures import context, erasure, node, of, standalone

Commits = list[tuple[str | None, list[Draft]]]

ARTIFACT_1 = retention.Scope(entities=[retention.Entity(kind="artifact", id=1)])
ARTIFACT_2 = retention.Scope(entities=[retention.Entity(kind="artifact", id=2)])
RELEASE = {"release_ticket": "T-9"}


def hold(stage: str, previous: int | None = None, **fields: Any) -> Draft:
    known: dict[str, Any] = {"scope": ARTIFACT_2, "basis": "CASE-1"}
    message = retention.Hold(id=1, stage=retention.Hold.Stage.Value(stage), **known | fields)
    return Draft("hold", 1, None, previous, message.SerializeToString())


def rule(previous: int | None = None, **fields: Any) -> Draft:
    known: dict[str, Any] = {"scope": ARTIFACT_1, "basis": "FOUR-EYES"}
    message = retention.RetentionRule(id=1, **known | fields)
    return Draft("retention_rule", 1, None, previous, message.SerializeToString())


def other_erasure(*ranges: dict[str, Any], **fields: Any) -> Draft:
    made = erasure(*ranges, **fields)
    message = retention.Erasure.FromString(made.payload)
    message.id = 2
    return Draft("erasure", 2, None, None, message.SerializeToString())


def proposed(*ranges: dict[str, Any], **fields: Any) -> Draft:
    return erasure(*ranges, stage="PROPOSED", **fields)


def odd(made: Draft, added: bytes, previous: int | None = None) -> Draft:
    """With fields added to its payload, as no put writes them."""
    return Draft(made.kind, made.entity_id, None, previous, made.payload + added)


TWO: Commits = [("ana", [node(1, name="a"), node(2, name="b")])]
ASKING = rule(needs_approval=True)
ASKED: Commits = [*TWO, ("ana", [ASKING])]
PLACED: Commits = [*TWO, ("ana", [hold("PLACED", needs_approval=True)])]
PROPOSED: Commits = [
    *PLACED,
    ("ana", [hold("RELEASE_PROPOSED", 3, needs_approval=True, **RELEASE)]),
]
OF_1, OF_BOTH = of(1), of(1, what="both")

SOUND: dict[str, Commits] = {
    "approved": [*ASKED, ("ana", [proposed(OF_1)]), ("ben", [erasure(OF_1, previous=4)])],
    "approved of both": [
        *ASKED,
        ("ana", [proposed(of(1, 2, "both"))]),
        ("ben", [erasure(of(1, 2, "both"), previous=4)]),
    ],
    "approved of what is left": [
        *ASKED,
        ("ana", [proposed(of(1, 2, "both"))]),
        ("ben", [erasure(of(1, 2), of(1, what="who"), previous=4)]),
    ],
    "approved redaction": [
        *ASKED,
        ("ana", [proposed(OF_1 | {"redacted_properties": ["name"]})]),
        ("ben", [erasure(of(1, by=6), previous=4), node(1, 1)]),
    ],
    "approved, though nobody asked": [
        *TWO,
        ("ana", [proposed(OF_1)]),
        ("ben", [erasure(OF_1, previous=3)]),
    ],
    "approved by nobody's name": [
        *ASKED,
        ("ana", [proposed(OF_1)]),
        ("", [erasure(OF_1, previous=4)]),
    ],
    "of what no rule asks for": [*ASKED, ("ana", [erasure(of(2))])],
    "asked for later": [*TWO, ("ana", [erasure(OF_1)]), ("ana", [ASKING])],
    "asked for later, in the same commit": [*TWO, ("ana", [node(3), erasure(OF_1), ASKING])],
    "released before, in the same commit": [
        *TWO,
        ("ana", [hold("PLACED")]),
        ("ana", [node(3), hold("RELEASED", 3, **RELEASE), erasure(of(2))]),
    ],
    "what is no text": [
        *TWO,
        ("ana", [odd(rule(needs_approval=True), b"\x32\x02\xff\xfe")]),
        ("ana", [odd(hold("PLACED"), b"\x22\x02\xff\xfe")]),
        ("ana", [odd(erasure(OF_BOTH, stage="PROPOSED"), b"\x22\x02\xff\xfe")]),
        ("ben", [odd(erasure(OF_BOTH), b"\x22\x02\xff\xfe", previous=5)]),
    ],
    "a scope in parts": [
        *ASKED,
        (
            "ana",
            [
                odd(
                    rule(needs_approval=True, is_withdrawn=True, scope=None),
                    b"\x12\x00\x12\x0e\x22\x0c\x0a\x08artifact\x10\x01",
                    previous=3,
                )
            ],
        ),
    ],
    "of what came after the rule's end": [
        *TWO,
        ("ana", [rule(needs_approval=True, scope=retention.Scope(kinds=["artifact"]))]),
        (
            "ana",
            [
                rule(
                    *(3,),
                    needs_approval=True,
                    is_withdrawn=True,
                    scope=retention.Scope(kinds=["artifact"]),
                )
            ],
        ),
        ("ana", [node(3, name="c")]),
        ("ana", [erasure(of(5))]),
    ],
    "repeated": [*ASKED, ("ana", [erasure(OF_1, is_repeated=True)])],
    "repeated after a proposal": [
        *ASKED,
        ("ana", [proposed(of(1, 2))]),
        ("ana", [erasure(OF_1, previous=4, is_repeated=True)]),
    ],
    "of an expired one": [
        *TWO,
        ("ana", [rule(keep_at_most_seconds=1)]),
        ("ana", [erasure(OF_1, rule_position=3)]),
    ],
    "withdrawn by the same": [
        *ASKED,
        ("ana", [proposed(OF_1)]),
        ("ana", [erasure(OF_1, stage="WITHDRAWN", previous=4)]),
    ],
    "released": [*TWO, ("ana", [hold("PLACED")]), ("ana", [hold("RELEASED", 3, **RELEASE)])],
    "released by two": [*PROPOSED, ("ben", [hold("RELEASED", 4, needs_approval=True, **RELEASE)])],
    "release repeated": [
        *PLACED,
        ("ana", [hold("RELEASED", 3, needs_approval=True, is_repeated=True, **RELEASE)]),
    ],
    "proposed release repeated": [
        *PROPOSED,
        (
            "ana",
            [hold("RELEASED", 4, needs_approval=True, is_repeated=True, release_ticket="T-2")],
        ),
    ],
    "a rule that grows": [
        *TWO,
        ("ana", [rule(keep_at_least_seconds=60)]),
        ("ana", [rule(3, keep_at_least_seconds=61, needs_approval=True, scope=ARTIFACT_2)]),
        (
            "ana",
            [
                rule(
                    *(4,),
                    keep_at_least_seconds=61,
                    needs_approval=True,
                    scope=ARTIFACT_2,
                    is_withdrawn=True,
                )
            ],
        ),
    ],
}

FORGED: dict[str, Commits] = {
    "approved by nobody": [*ASKED, ("ana", [erasure(OF_1)])],
    "of who, approved by nobody": [*ASKED, ("ana", [erasure(of(1, what="who"))])],
    "approved by whoever proposed it": [
        *ASKED,
        ("ana", [proposed(OF_1)]),
        ("ana", [erasure(OF_1, previous=4)]),
    ],
    "approved by whoever proposed it, though nobody asked": [
        *TWO,
        ("ana", [proposed(OF_1)]),
        ("ana", [erasure(OF_1, previous=3)]),
    ],
    "proposed by nobody named": [
        *ASKED,
        (None, [proposed(OF_1)]),
        ("ben", [erasure(OF_1, previous=4)]),
    ],
    "approved by nobody named": [
        *ASKED,
        ("ana", [proposed(OF_1)]),
        (None, [erasure(OF_1, previous=4)]),
    ],
    "neither named": [*ASKED, (None, [proposed(OF_1)]), (None, [erasure(OF_1, previous=4)])],
    "proposed after": [
        *ASKED,
        ("ana", [erasure(OF_1)]),
        ("ben", [proposed(OF_1, previous=4)]),
    ],
    "proposed after, by another number": [
        *ASKED,
        ("ana", [erasure(OF_1)]),
        ("ben", [other_erasure(OF_1, stage="PROPOSED")]),
    ],
    "proposed by another number": [
        *ASKED,
        ("ben", [other_erasure(OF_1, stage="PROPOSED")]),
        ("ana", [erasure(OF_1)]),
    ],
    "proposed and approved in one commit": [
        *ASKED,
        ("ana", [proposed(OF_1), erasure(OF_1, previous=4)]),
    ],
    "of more than was proposed": [
        *ASKED,
        ("ana", [proposed(OF_1)]),
        ("ben", [erasure(of(1, 2), previous=4)]),
    ],
    "of another than was proposed": [
        *ASKED,
        ("ana", [proposed(of(2))]),
        ("ben", [erasure(OF_1, previous=4)]),
    ],
    "of who, too": [
        *ASKED,
        ("ana", [proposed(OF_1)]),
        ("ben", [erasure(OF_BOTH, previous=4)]),
    ],
    "of content instead of who": [
        *ASKED,
        ("ana", [proposed(of(1, what="who"))]),
        ("ben", [erasure(OF_1, previous=4)]),
    ],
    "proposed to be redacted, erased whole": [
        *ASKED,
        ("ana", [proposed(OF_1 | {"redacted_properties": ["name"]})]),
        ("ben", [erasure(OF_1, previous=4)]),
    ],
    "redacted of something else": [
        *ASKED,
        ("ana", [proposed(OF_1 | {"redacted_properties": ["uri"]})]),
        ("ben", [erasure(of(1, by=6), previous=4), node(1, 1)]),
    ],
    "on another basis than proposed": [
        *ASKED,
        ("ana", [proposed(OF_1, basis="A")]),
        ("ben", [erasure(OF_1, previous=4, basis="B")]),
    ],
    "with another ticket than proposed": [
        *ASKED,
        ("ana", [proposed(OF_1, ticket="A")]),
        ("ben", [erasure(OF_1, previous=4, ticket="B")]),
    ],
    "withdrawn, then approved": [
        *ASKED,
        ("ana", [proposed(OF_1)]),
        ("ana", [erasure(OF_1, stage="WITHDRAWN", previous=4)]),
        ("ben", [erasure(OF_1, previous=5)]),
    ],
    "withdrawn of something else": [
        *ASKED,
        ("ana", [proposed(OF_1)]),
        ("ana", [erasure(of(2), stage="WITHDRAWN", previous=4)]),
    ],
    "withdrawn at once": [*ASKED, ("ana", [erasure(OF_1, stage="WITHDRAWN")])],
    "approved twice": [
        *ASKED,
        ("ana", [proposed(OF_1)]),
        ("ben", [erasure(OF_1, previous=4)]),
        ("ben", [erasure(OF_1, previous=5)]),
    ],
    "a proposal used again": [
        *ASKED,
        ("ana", [proposed(OF_1)]),
        ("ben", [erasure(OF_1, previous=4)]),
        ("ben", [other_erasure(OF_1)]),
    ],
    "proposed twice": [
        *ASKED,
        ("ana", [proposed(OF_1)]),
        ("ana", [proposed(OF_1, previous=4)]),
    ],
    "completed once proposed": [
        *ASKED,
        ("ana", [proposed(OF_1)]),
        ("ben", [erasure(OF_1, stage="COMPLETED", previous=4)]),
    ],
    "of a rule that was replaced": [
        *ASKED,
        ("ana", [rule(3, needs_approval=True, scope=ARTIFACT_2)]),
        ("ana", [erasure(OF_1)]),
    ],
    "of a rule that was withdrawn": [
        *ASKED,
        ("ana", [rule(3, needs_approval=True, is_withdrawn=True)]),
        ("ana", [erasure(OF_1)]),
    ],
    "of what came while a rule asked": [
        *([("ana", [ASKING])]),
        *([("ana", [node(1, name="a")])]),
        ("ana", [erasure(of(2))]),
    ],
    "of a context's version": [
        ("ana", [context(1, None, "a")]),
        ("ana", [rule(needs_approval=True, scope=retention.Scope(context_ids=[1]))]),
        ("ana", [context(1, 1, "b")]),
        ("ana", [erasure(of(3))]),
    ],
    "repeated as it is proposed": [*ASKED, ("ana", [proposed(OF_1, is_repeated=True)])],
    "expired by no rule": [*TWO, ("ana", [erasure(OF_1, rule_position=1)])],
    "expired by a rule to come": [
        *TWO,
        ("ana", [erasure(OF_1, rule_position=4)]),
        ("ana", [rule(keep_at_most_seconds=1)]),
    ],
    "expired by a rule that lets nothing expire": [
        *ASKED,
        ("ana", [erasure(of(2), rule_position=3)]),
    ],
    "expired before the beginning": [*TWO, ("ana", [erasure(OF_1, rule_position=-1)])],
    "counted before it is done": [*TWO, ("ana", [erasure(OF_1, contents_erased=1)])],
    "files before it is done": [
        *TWO,
        ("ana", [erasure(OF_1, files=[retention.ErasedFile(segment=1)])]),
    ],
    "released at once": [*TWO, ("ana", [hold("RELEASED", **RELEASE)])],
    "at no stage": [*TWO, ("ana", [hold("STAGE_UNSPECIFIED")])],
    "placed twice": [*TWO, ("ana", [hold("PLACED")]), ("ana", [hold("PLACED", 3)])],
    "released, then placed": [
        *TWO,
        ("ana", [hold("PLACED")]),
        ("ana", [hold("RELEASED", 3, **RELEASE)]),
        ("ana", [hold("PLACED", 4)]),
    ],
    "released twice": [
        *TWO,
        ("ana", [hold("PLACED")]),
        ("ana", [hold("RELEASED", 3, **RELEASE)]),
        ("ana", [hold("RELEASED", 4, **RELEASE)]),
    ],
    "released without a ticket": [*TWO, ("ana", [hold("PLACED")]), ("ana", [hold("RELEASED", 3)])],
    "placed with a ticket of release": [*TWO, ("ana", [hold("PLACED", **RELEASE)])],
    "released by one": [
        *PLACED,
        ("ben", [hold("RELEASED", 3, needs_approval=True, **RELEASE)]),
    ],
    "released by whoever proposed it": [
        *PROPOSED,
        ("ana", [hold("RELEASED", 4, needs_approval=True, **RELEASE)]),
    ],
    "released by nobody named": [
        *PROPOSED,
        (None, [hold("RELEASED", 4, needs_approval=True, **RELEASE)]),
    ],
    "released by one, who needs no other any more": [
        *PLACED,
        ("ben", [hold("RELEASED", 3, **RELEASE)]),
    ],
    "proposed to be released twice": [
        *PROPOSED,
        ("ben", [hold("RELEASE_PROPOSED", 4, needs_approval=True, **RELEASE)]),
    ],
    "proposed, and nobody asked for it": [
        *TWO,
        ("ana", [hold("PLACED")]),
        ("ana", [hold("RELEASE_PROPOSED", 3, **RELEASE)]),
    ],
    "placed again once proposed": [
        *PROPOSED,
        ("ben", [hold("PLACED", 4, needs_approval=True)]),
    ],
    "released with another ticket": [
        *PROPOSED,
        ("ben", [hold("RELEASED", 4, needs_approval=True, release_ticket="T-2")]),
    ],
    "released of another scope": [
        *PROPOSED,
        ("ben", [hold("RELEASED", 4, needs_approval=True, scope=ARTIFACT_1, **RELEASE)]),
    ],
    "released on another basis": [
        *PROPOSED,
        ("ben", [hold("RELEASED", 4, needs_approval=True, basis="X", **RELEASE)]),
    ],
    "repeated as it is placed": [*TWO, ("ana", [hold("PLACED", is_repeated=True)])],
    "of all there can be": [*TWO, ("ana", [erasure(of(1, 2**63 - 1))])],
    "completed of all there can be": [
        *TWO,
        ("ana", [erasure(of(-(2**63), 2**63 - 1))]),
        ("ana", [odd(erasure(of(-(2**63), 2**63 - 1)), b"\x10\x03", previous=3)]),
    ],
    "proposed of all there can be": [
        *TWO,
        ("ana", [proposed(of(1, 2**63 - 1))]),
        ("ben", [erasure(of(1, 2**63 - 1), previous=3)]),
    ],
    "released by one, in a stage that is cut to its bits": [
        *PLACED,
        (
            "ana",
            [
                odd(
                    hold("PLACED", needs_approval=True, **RELEASE),
                    b"\x18\x83\x80\x80\x80\x10",
                    previous=3,
                )
            ],
        ),
    ],
    "a message in it that is none": [*TWO, ("ana", [odd(hold("PLACED"), b"\x12\x01\x08")])],
    "a file in it that is none": [*TWO, ("ana", [odd(erasure(OF_1), b"\x4a\x01\x08")])],
    "released after an erasure, in its commit": [
        *TWO,
        ("ana", [hold("PLACED")]),
        ("ana", [node(3, name="c"), erasure(of(2)), hold("RELEASED", 3, **RELEASE)]),
    ],
    "a rule that shrinks": [
        *TWO,
        ("ana", [rule(keep_at_least_seconds=60)]),
        ("ana", [rule(3, keep_at_least_seconds=59)]),
    ],
    "a lock that ends": [
        *TWO,
        ("ana", [rule(keep_at_least_seconds=60)]),
        ("ana", [rule(3, keep_at_most_seconds=60)]),
    ],
    "a lock that ends with its rule": [
        *TWO,
        ("ana", [rule(keep_at_least_seconds=60, keep_at_most_seconds=60)]),
        ("ana", [rule(3, keep_at_most_seconds=60, is_withdrawn=True)]),
    ],
    "an approval that ends": [*ASKED, ("ana", [rule(3, keep_at_least_seconds=60)])],
    "withdrawn of another scope": [
        *ASKED,
        ("ana", [rule(3, needs_approval=True, is_withdrawn=True, scope=ARTIFACT_2)]),
    ],
    "a rule withdrawn at once": [*TWO, ("ana", [rule(needs_approval=True, is_withdrawn=True)])],
    "a rule after its end": [
        *ASKED,
        ("ana", [rule(3, needs_approval=True, is_withdrawn=True)]),
        ("ana", [rule(4, needs_approval=True)]),
    ],
    "a rule withdrawn twice": [
        *ASKED,
        ("ana", [rule(3, needs_approval=True, is_withdrawn=True)]),
        ("ana", [rule(4, needs_approval=True, is_withdrawn=True)]),
    ],
    "a rule that says nothing": [*TWO, ("ana", [rule()])],
    "a rule of current versions alone": [
        *TWO,
        ("ana", [rule(needs_approval=True, includes_current=True)]),
    ],
    "a rule for less than no time": [*TWO, ("ana", [rule(keep_at_least_seconds=-1)])],
    "a rule for ever": [*TWO, ("ana", [rule(keep_at_least_seconds=2**62)])],
    "a rule that cannot be kept": [
        *TWO,
        ("ana", [rule(keep_at_least_seconds=60, keep_at_most_seconds=59)]),
    ],
}


def checked(directory: Path, commits: Commits) -> VerifyReport:
    """The report on a store of these commits."""
    with closing(DirectoryLog.create(directory)) as log:
        for actor, drafts in commits:
            log.append(drafts, expected_position=log.position, actor=actor)
    report = verify_directory(directory)
    with closing(DirectoryLog.open(directory, read_only=True)) as log:
        return with_guards(report, log)


@pytest.mark.parametrize("name", SOUND)
def test_what_may_follow(tmp_path: Path, name: str) -> None:
    report = checked(tmp_path / "store", SOUND[name])
    assert report.findings == []
    said = standalone(tmp_path / "store", report)
    about = [what for what in report.not_checked if "two people" in what]
    if "repeated" in name:
        what = "the release of hold 1" if "release" in name else "erasure 1"
        assert about == [
            f"whether two people agreed to {what}: it was repeated as a backup was restored"
        ]
        assert f"whether two people agreed to {what} is not checked" in said
    else:
        assert about == []
        assert "two people" not in said


@pytest.mark.share(3)
@pytest.mark.parametrize("name", FORGED)
def test_what_cannot_follow(tmp_path: Path, name: str) -> None:
    report = checked(tmp_path / "store", FORGED[name])
    assert report.findings
    assert not report.ok
    with pytest.raises(standalone_verifier.Refused):
        standalone(tmp_path / "store", report)
