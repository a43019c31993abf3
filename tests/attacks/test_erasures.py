"""What records of erasures cannot say, and what is missing without one: both verifiers find it."""

from __future__ import annotations

import base64
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eventstore.audit import SigningKey, standalone_verifier
from eventstore.log import DirectoryLog, Draft, VerifyReport, verification
from eventstore.log.erased import Erased, Spans
from eventstore.log.verification import verify_directory
from eventstore.plain_json import moment_text
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import retention_pb2 as retention
from eventstore.times import moment_of
from tests.attacks.forging import forge
from tests.builders import draft, rotate
from tests.data.make_stores import erased

KEY = SigningKey.generate("auditor")
STANDALONE_KEY = standalone_verifier.parse_key(str(KEY.verifier_key))

Commits = list[list[Draft]]


def node(number: int, previous: int | None = None, name: str = "", **fields: Any) -> Draft:
    """An artifact."""
    message = mlmd.Artifact(id=number, type_id=10, **fields)
    if name:
        message.name = name
    return Draft("artifact", number, 10, previous, message.SerializeToString())


def context(number: int, previous: int | None, name: str) -> Draft:
    message = mlmd.Context(id=number, type_id=11, name=name)
    return Draft("context", number, 11, previous, message.SerializeToString())


def link() -> Draft:
    message = mlmd.Event(artifact_id=1, execution_id=1, type=mlmd.Event.INPUT)
    return Draft("event", 1, None, None, message.SerializeToString())


def hold() -> Draft:
    message = retention.Hold(id=1, stage=retention.Hold.PLACED)
    return Draft("hold", 1, None, None, message.SerializeToString())


def of(first: int, last: int | None = None, what: str = "content", by: int = 0) -> dict[str, Any]:
    """A range; with `by` the content is redacted and replaced."""
    made: dict[str, Any] = {
        "first_position": first,
        "last_position": first if last is None else last,
    }
    made |= {"content": what in ("content", "both"), "who": what in ("who", "both")}
    return made | ({"redacted_properties": ["name"], "replaced_by": by} if by else {})


def erasure(
    *ranges: dict[str, Any], stage: str = "REQUESTED", previous: int | None = None, **fields: Any
) -> Draft:
    message = retention.Erasure(id=1, stage=retention.Erasure.Stage.Value(stage), **fields)
    for given in ranges:
        message.ranges.add(**given)
        if stage == "COMPLETED":
            count = given["last_position"] - given["first_position"] + 1
            message.contents_erased += count * given["content"]
            message.whos_erased += count * given["who"]
    return Draft("erasure", 1, None, previous, message.SerializeToString())


ONE, TWO = [node(1, name="a")], [node(2, name="b")]

SOUND: dict[str, tuple[Commits, dict[int, str]]] = {
    "pending": ([ONE, [erasure(of(1))]], {}),
    "destroyed": (
        [ONE, TWO, [erasure(of(1, what="both"), of(2, what="who"))]],
        {1: "both", 2: "who"},
    ),
    "partly destroyed": ([ONE, TWO, [erasure(of(1, 2))]], {2: "content"}),
    "completed": (
        [ONE, [erasure(of(1))], [erasure(of(1), stage="COMPLETED", previous=2)]],
        {1: "content"},
    ),
    "proposed": ([ONE, [erasure(of(1), stage="PROPOSED")]], {}),
    "withdrawn": (
        [
            *(ONE, [erasure(of(1), stage="PROPOSED")]),
            [erasure(of(1), stage="WITHDRAWN", previous=2)],
        ],
        {},
    ),
    "a name that is free, though it is there": ([ONE, [erasure(of(1))], [node(2, name="a")]], {}),
    "a name that is free": ([ONE, [erasure(of(1))], [node(2, name="a")]], {1: "content"}),
    "who put a link": ([[*ONE, link()], [erasure(of(1, 2, "who"))]], {1: "who", 2: "who"}),
    "a former version": (
        [ONE, [node(1, 1, "a")], [erasure(of(1))], [node(1, 2, "a")]],
        {1: "content"},
    ),
    "a redacted name, there yet": (
        [ONE, [erasure(of(1, by=3)), node(1, 1)], [node(2, name="a")], [node(1, 3)]],
        {},
    ),
    "a redacted name": (
        [ONE, [erasure(of(1, by=3)), node(1, 1)], [node(2, name="a")], [node(1, 3)]],
        {1: "content"},
    ),
    "a completed redaction": (
        [
            *(ONE, [erasure(of(1, by=3)), node(1, 1)]),
            [erasure(of(1, by=3), stage="COMPLETED", previous=2)],
        ],
        {1: "content"},
    ),
    "former names that others bear by now": (
        [
            *([context(1, None, "a")], [context(1, 1, "b")], [context(2, None, "a")]),
            [erasure(of(1, by=5), of(2, by=6)), context(1, 2, "a"), context(1, 5, "b")],
        ],
        {1: "content"},
    ),
    "one former version, redacted": (
        [
            *([context(1, None, "a")], [context(1, 1, "b")], [context(2, None, "a")]),
            [erasure(of(1, by=5)), context(1, 2, "a"), context(1, 5, "b")],
        ],
        {},
    ),
    "one former version without its name": (
        [ONE, [node(1, 1, "a")], [erasure(of(1, by=4)), node(1, 2), node(1, 4, "a")]],
        {1: "content"},
    ),
}

FORGED: dict[str, tuple[Commits, dict[int, str]]] = {
    "content without an erasure": ([ONE], {1: "content"}),
    "who without an erasure": ([ONE], {1: "who"}),
    "a proposed one": ([ONE, [erasure(of(1), stage="PROPOSED")]], {1: "content"}),
    "a withdrawn one": (
        [
            *(ONE, [erasure(of(1), stage="PROPOSED")]),
            [erasure(of(1), stage="WITHDRAWN", previous=2)],
        ],
        {1: "content"},
    ),
    "withdrawn once requested": (
        [ONE, [erasure(of(1))], [erasure(of(1), stage="WITHDRAWN", previous=2)]],
        {},
    ),
    "of who alone": ([ONE, [erasure(of(1, what="who"))]], {1: "content"}),
    "of content alone": ([ONE, [erasure(of(1))]], {1: "both"}),
    "of another position": ([ONE, TWO, [erasure(of(1))]], {2: "content"}),
    "of nothing": ([ONE, [erasure(of(1, what=""))]], {}),
    "what comes after it": ([ONE, [erasure(of(1, 3))], TWO], {}),
    "what comes after it, gone": ([ONE, [erasure(of(1, 3, "both"))], TWO], {3: "both"}),
    "itself": ([ONE, [erasure(of(2, what="who"))]], {}),
    "an end before the beginning": ([ONE, TWO, [erasure(of(2, 1))]], {}),
    "position 0": ([ONE, [erasure(of(0, 1))]], {}),
    "a hold": ([ONE, [hold()], [erasure(of(1, 2, "who"))]], {}),
    "the content of a hold": ([[hold()], [erasure(of(1))]], {}),
    "the content of a link": ([[link()], [erasure(of(1))]], {1: "content"}),
    "the content of a link, there yet": ([[*ONE, link()], [erasure(of(1, 2))]], {}),
    "completed, and there": (
        [ONE, [erasure(of(1))], [erasure(of(1), stage="COMPLETED", previous=2)]],
        {},
    ),
    "completed, and who is there": (
        [
            *(ONE, [erasure(of(1, what="both"))]),
            [erasure(of(1, what="both"), stage="COMPLETED", previous=2)],
        ],
        {1: "content"},
    ),
    "completed, and more": (
        [
            *(ONE, TWO, [erasure(of(1))]),
            [erasure(of(1, 2), stage="COMPLETED", previous=3)],
        ],
        {1: "content", 2: "content"},
    ),
    "completed at once": ([ONE, [erasure(of(1), stage="COMPLETED")]], {1: "content"}),
    "at no stage": ([ONE, [erasure(of(1), stage="STAGE_UNSPECIFIED")]], {}),
    "completed twice": (
        [
            *(ONE, [erasure(of(1))], [erasure(of(1), stage="COMPLETED", previous=2)]),
            [erasure(of(1), stage="COMPLETED", previous=3)],
        ],
        {1: "content"},
    ),
    "a name before it is free": ([ONE, [node(2, name="a")], [erasure(of(1))]], {}),
    "a name that was not erased": ([ONE, [erasure(of(1, what="who"))], [node(2, name="a")]], {}),
    "replaced by another": ([ONE, [erasure(of(1, by=3)), node(2)]], {}),
    "replaced in another commit": ([ONE, [erasure(of(1, by=3))], [node(1, 1)]], {}),
    "replaced before": ([ONE, [node(1, 1, "a")], [erasure(of(1, by=2))]], {}),
    "replaced by what is missing": ([ONE, [erasure(of(1, by=3))]], {}),
    "of two replaced by one": ([ONE, TWO, [erasure(of(1, 2, by=4)), node(1, 1)]], {}),
    "redacted without a replacement": (
        [ONE, [erasure(of(1) | {"redacted_properties": ["owner"]})]],
        {},
    ),
    "replaced without being redacted": (
        [ONE, [erasure(of(1) | {"replaced_by": 3}), node(1, 1, "a")]],
        {},
    ),
    "who, replaced": (
        [ONE, [erasure(of(1, what="who", by=3)), node(1, 1, "a")]],
        {},
    ),
    "a name that another one has": (
        [
            *([context(1, None, "a")], [context(1, 1, "b")], [context(2, None, "a")]),
            [erasure(of(2, by=5)), context(1, 2, "a")],
        ],
        {},
    ),
    "another name than the replacement": (
        [ONE, [erasure(of(1, by=3)), node(1, 1)], [node(1, 3, "a")]],
        {},
    ),
    "another creation than the replaced": (
        [
            [node(1, None, "a")],
            [node(1, 1, "a")],
            [erasure(of(1, by=4)), node(1, 2, create_time_since_epoch=7), node(1, 4, "a")],
        ],
        {},
    ),
}


def made(directory: Path, commits: Commits, gone: dict[int, str]) -> Path:
    """A store of one sealed segment, in which some records have lost something."""
    with closing(DirectoryLog.create(directory)) as log:
        for drafts in commits:
            log.append(drafts, expected_position=log.position, actor="ana")
        log.seal()
    if gone:
        forge(
            directory,
            lambda records: [erased(record, gone.get(record.position)) for record in records],
        )
    return directory


def standalone(directory: Path, report: VerifyReport) -> str:
    """What the stand-alone verifier says, with a checkpoint by a signer who has not looked."""
    records = [*standalone_verifier.stored_records(str(directory))]
    root = base64.b64encode(bytes.fromhex(report.tree_head)).decode()
    last = records[-1]
    at = moment_text(moment_of(last["recorded_at"]))
    note = KEY.signed(
        f"eventstore/{_store_id(directory)}\n{len(records)}\n{root}\ncommit {last['commit']}\n"
        f"recorded-at {at}\nsigned-at {at}\n"
    )
    return standalone_verifier.verify_records(iter(records), note, STANDALONE_KEY)


def _store_id(directory: Path) -> str:
    with closing(DirectoryLog.open(directory, read_only=True)) as log:
        return str(log.store_id)


@pytest.mark.parametrize("name", SOUND)
def test_what_may_be(tmp_path: Path, name: str) -> None:
    commits, gone = SOUND[name]
    directory = made(tmp_path / "store", commits, gone)
    report = verify_directory(directory)
    assert report.findings == []
    said = standalone(directory, report)
    is_completed = any(stage in name for stage in ("completed", "withdrawn", "proposed"))
    assert len(report.not_checked) == (0 if is_completed else 1)
    assert ("erasure 1 is not completed" in said) is not is_completed


@pytest.mark.share(2)
@pytest.mark.parametrize("name", FORGED)
def test_what_cannot_be(tmp_path: Path, name: str) -> None:
    commits, gone = FORGED[name]
    directory = made(tmp_path / "store", commits, gone)
    report = verify_directory(directory)
    assert report.findings
    with pytest.raises(standalone_verifier.Refused):
        standalone(directory, report)


BROKEN_OFF = "where a copy was broken off here, go on with it"


def test_a_finding_names_the_erasure_or_what_lacks_one(tmp_path: Path) -> None:
    commits = [[draft(1), link()], [draft(2)], [erasure(of(1, 2))]]
    directory = made(tmp_path / "store", commits, {1: "content", 3: "both"})
    report = verify_directory(directory)
    assert [(f.what.partition(": ")[2], f.position) for f in report.findings] == [
        ("erasure 1 covers the content of what is never erased, event 1", 4),
        (f"artifact 2 is without content, and no erasure after it covers that: {BROKEN_OFF}", 3),
        (f"artifact 2 is without who put it, and no erasure after it covers that: {BROKEN_OFF}", 3),
    ]


def test_what_is_not_looked_at_may_cover_what_is(tmp_path: Path) -> None:
    with closing(DirectoryLog.create(tmp_path / "store")) as log:
        for drafts in (ONE, [erasure(of(1, by=3)), node(1, 1)]):
            log.append(drafts, expected_position=log.position)
            log.seal()
        log.destroy(Erased(Spans.of([(1, 1)])))
        completed = erasure(of(1, by=3), stage="COMPLETED", previous=2)
        log.append([completed], expected_position=log.position)
    for after, upto in ((0, 1), (1, 3), (1, None), (3, None), (0, None)):
        assert verify_directory(tmp_path / "store", after=after, upto=upto).findings == []


@pytest.mark.parametrize("stage", ["_checked_in_order", "strange_files"])
def test_an_erasure_that_comes_meanwhile_is_no_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    with closing(DirectoryLog.create(tmp_path / "store")) as log:
        for drafts in (ONE, TWO):
            log.append(drafts, expected_position=log.position)
        log.seal()
        call = getattr(verification, stage)

        def late(*arguments: Any) -> Any:
            found = [*call(*arguments)]
            log.append([erasure(of(1))], expected_position=log.position)
            log.destroy(Erased(Spans.of([(1, 1)])))
            return found

        monkeypatch.setattr(verification, stage, late)
        assert verify_directory(log.directory).findings == []


@pytest.mark.parametrize("form", ["0000000001.parquet", "0000000001.arrows"])
def test_no_other_form_of_a_segment_has_what_was_destroyed(tmp_path: Path, form: str) -> None:
    with closing(DirectoryLog.create(tmp_path / "store")) as log:
        for drafts in (ONE, [erasure(of(1))]):
            log.append(drafts, expected_position=log.position)
        rotate(log)
        left = log.directory / "log" / form
        stream = (log.directory / "log" / "0000000001.arrows").read_bytes()
        log.seal()
        content = left.read_bytes() if form.endswith("parquet") else stream
        log.destroy(Erased(Spans.of([(1, 1)])))
        left.write_bytes(content)
        report = verify_directory(log.directory)
        assert report.ok
        assert standalone(log.directory, report)
        completed = erasure(of(1), stage="COMPLETED", previous=2)
        log.append([completed], expected_position=log.position)
        report = verify_directory(log.directory)
        (finding,) = report.findings
        assert finding.what.startswith(f"{left} still has what an erasure says was destroyed")
        with pytest.raises(standalone_verifier.Refused, match="is destroyed: it is there"):
            standalone(log.directory, report)
    DirectoryLog.open(log.directory).close()
    assert verify_directory(log.directory).ok
