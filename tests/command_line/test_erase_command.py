"""`eventstore erase`: what it says, and what it does once it is told to."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.log import DirectoryLog
from eventstore.log.erased import Erased
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import put_types
from tests.command_line.runner import run

SUBJECT = "somebody.0123456789@example.com"
REASON = ("--reason", "GDPR-17(1)(b)")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with eventstore.open(tmp_path / "store") as store:
        artifact_type, *_ = put_types(store)
        for number in range(3):
            node = mlmd.Artifact(type_id=artifact_type, name=f"n{number}", uri=f"s3://{number}")
            node.custom_properties["owner"].string_value = SUBJECT
            with store.acting(actor=SUBJECT):
                store.put_artifacts([node])
    return tmp_path / "store"


def test_nothing_is_erased_without_yes(directory: Path) -> None:
    for said in ((), ("--dry-run",)):
        done = run("erase", directory, "artifact", 1, *REASON, *said)
        assert done.code == 0
        assert "Planned: 1 version" in done.out
        assert "0000000001.arrows" in done.out
        assert "backups, packed stores and other copies" in done.out
        assert done.err == "Nothing was erased: say --yes.\n"
    report = json.loads(run("erase", directory, "artifact", 1, *REASON, "--json").out)
    assert (report["number"], report["stage"]) == (None, "planned")
    assert [version["position"] for version in report["versions"]] == [13]
    assert run("get", directory, "artifact", 1, "--json").out.count(SUBJECT) == 1


def test_with_yes_it_is_and_every_command_says_so(directory: Path) -> None:
    done = run(
        *("erase", directory, "artifact", 1, 2, *REASON, "--ticket", "P-1"),
        *("--redact", "owner", "--who", "--actor", "dpo", "--yes", "--json"),
    )
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert (report["number"], report["stage"]) == (1, "completed")
    assert (report["contents_erased"], report["whos_erased"]) == (2, 2)
    assert [v["replaced_by"] for v in report["versions"]] == [17, 18]
    assert SUBJECT not in run("get", directory, "artifact", 1, "--json").out
    assert SUBJECT in run("get", directory, "artifact", 3, "--json").out
    assert run("erase", directory, "artifact", 1, *REASON, "--yes").code == 0
    done = run("erase", directory, "artifact", 1, *REASON, "--version", 13, "--yes")
    assert done.out.splitlines()[1].split() == ["artifact", "1", "13", "owner", "and", "who", "1"]
    done = run("erase", directory, "artifact", 2, *REASON, "--version", 14)
    assert done.err == (
        "Nothing is left to erase: it was erased before.\n"
        "What is left of the version at position 14 is at position 18: erase that one.\n"
    )
    (row,) = csv.DictReader(
        io.StringIO(run("erase", directory, "artifact", 2, *REASON, "--version", 14, "--csv").out)
    )
    assert (row["position"], row["erased"], row["erased_before_by"]) == ("14", "owner and who", "1")
    assert row["replaced_by"] == "18"

    words = "erased by erasure 1: GDPR-17(1)(b), P-1, dpo, 2"
    history = run("history", directory, "artifact", 1).out.splitlines()
    assert "content erased by erasure 2: GDPR-17(1)(b), " in history[-1]
    assert f"owner and who {words}" in " ".join(history)
    assert "takes the place of position 13" in history[-1]
    (first, _) = map(
        json.loads, run("history", directory, "artifact", 1, "--json").out.splitlines()
    )
    assert first["message"] is None
    assert [mark["redacted"] for mark in first["erasures"]] == [["owner"]]
    assert "artifact 1: (erased by erasure 1)" in run("log", directory).out
    (record,) = [
        json.loads(line)
        for line in run("log", directory, "--json").out.splitlines()
        if json.loads(line)["position"] == 13
    ]
    assert "content" not in record
    assert record["erasures"][0]["actor"] == "dpo"
    assert words in run("changes", directory).out
    files = [
        f"segment {file['segment']} was {file['old_sha256']}, is {file['new_sha256']}"
        for file in report["files"]
    ]
    assert f"files: + {'; '.join(files)}\n" in run("changes", directory).out
    replaced = "ranges: + position 13: owner and who, replaced by position 17; position 14: owner"
    assert replaced in run("changes", directory).out
    completed = json.loads(run("changes", directory, "--json", "--since", 18).out.splitlines()[-1])
    (told,) = [f["after"] for f in completed["changes"][0]["fields"] if f["field"] == "files"]
    assert [(f["old_sha256"], f["new_sha256"]) for f in told] == [
        (file["old_sha256"], file["new_sha256"]) for file in report["files"]
    ]
    assert "takes the place of position 13" in run("changes", directory).out
    for shown in (("history", directory, "artifact", 1), ("changes", directory, "--since", 16)):
        last = json.loads(run(*shown, "--json").out.splitlines()[-1])
        put = last if shown[0] == "history" else last["changes"][1]
        assert put["replaces"] == 13, shown
    assert run("diff", directory, 12, 15).out.count("erased by erasure") == 2
    for shown, count in (
        (("history", directory, "artifact", 1), 2),
        (("changes", directory), 4),
        (("diff", directory, 12, 15), 3),
        (("log", directory), 3),
    ):
        rows = [*csv.DictReader(io.StringIO(run(*shown, "--csv").out))]
        marked = [json.loads(row["erasures"]) for row in rows if row["erasures"]]
        assert len(marked) == count, shown
        assert {mark["number"] for marks in marked for mark in marks} <= {1, 2}
    page = run("report", directory, "artifact", 2, "--output", directory.parent / "r.html")
    assert page.code == 0, page.err
    html = (directory.parent / "r.html").read_text()
    assert "Erased: owner and who, by erasure 1 (GDPR-17(1)(b), P-1)" in html
    assert SUBJECT not in html
    rows = run("sql", directory, "SELECT number, actor, ticket FROM erasures", "--csv").out
    assert rows.splitlines()[1] == '1,"dpo","P-1"'
    assert run("verify", directory).code == 0


def test_what_cannot_be_asked(directory: Path) -> None:
    for words, code, said in (
        (("artifact", 1), 2, "say KIND, ID and --reason"),
        (("artifact", *REASON), 2, "say KIND, ID and --reason"),
        (("artifact", 1, 2, "--version", 13, *REASON), 2, "--version is of one ID"),
        (("artifact", 1, *REASON, "--yes", "--dry-run"), 2, "exclude each other"),
        (("artifact", 1, *REASON, "--unfinished"), 2, "go alone"),
        (("artifact", 1, "--reason", "she asked"), 1, "use a code such as"),
        (("artifact", 9, *REASON), 1, "no artifact has id 9"),
        (("event", 1, *REASON), 1, "who put it can be erased"),
        (("artifact", 1, *REASON, "--redact", "nothing"), 1, "of artifact 1 has 'nothing'"),
    ):
        done = run("erase", directory, *words)
        assert (done.code, said in done.err) == (code, True), (words, done.err)


def test_what_is_held_is_named(directory: Path) -> None:
    with eventstore.open(directory) as store:
        store.place_hold(entities=[("artifact", 1)], basis="CASE-1")
    done = run("erase", directory, "artifact", 1, *REASON)
    assert (done.code, done.err) == (0, "It would be refused.\n")
    assert "artifact 1 at position 13 is held by hold 1 (CASE-1" in done.out
    assert "refused" not in done.out
    done = run("erase", directory, "artifact", 1, 2, *REASON, "--yes")
    assert done.code == 1
    assert "nothing was erased: artifact 1 at position 13 is held by hold 1" in done.err
    assert run("history", directory, "artifact", 2).out.count("erased") == 0


def test_what_is_unfinished_is_completed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("erase", directory, "--unfinished")
    assert (done.code, done.out) == (0, "No erasure is unfinished\n")
    with monkeypatch.context() as patch:
        patch.setattr(DirectoryLog, "destroy", _full)
        done = run("erase", directory, "artifact", 1, *REASON, "--yes")
        assert (done.code, "no room" in done.err) == (1, True)
        assert "erasure 1 is in effect, but files of" in done.err
        done = run("erase", directory, "--unfinished")
        assert (done.code, "erasure 1 is in effect, but files of" in done.err) == (1, True)
    for form in ((), ("--json",)):
        done = run("erase", directory, "artifact", 1, *REASON, *form)
        assert done.code == 0
        assert "Erasure 1 is in effect and not complete: files may still have what it" in done.err
        assert f"eventstore erase {directory} --unfinished" in done.err
    done = run("erase", directory, "--unfinished", "--json")
    assert (done.code, done.out) == (0, '{"erasures":[1]}\n')
    assert run("sql", directory, "SELECT stage FROM erasures").out == "stage\ncompleted\n"


def _full(_log: DirectoryLog, erased: Erased, *_: Any) -> Any:
    if erased:
        raise errors.ResourceExhaustedError("no room on the disk")


def test_changes_show_what_was_held_and_erased(directory: Path) -> None:
    placing = ("--entity", "artifact:2", "--basis", "CASE-1", "--ticket", "T-1", "--actor", "ana")
    assert run("hold", "place", directory, *placing).code == 0
    assert run("erase", directory, "artifact", 1, *REASON, "--yes", "--actor", "dpo").code == 0
    words = run("changes", directory, "--since", 15, "--reverse").out
    for said in (
        " by ana\n  new hold 1: CASE-1, T-1\n    basis: + CASE-1\n",
        "    stage: + PLACED\n    ticket: + T-1\n",
        " by dpo\n  new erasure 1: GDPR-17(1)(b)\n    basis: + GDPR-17(1)(b)\n",
        "  changed erasure 1: GDPR-17(1)(b)\n",
        "    stage: REQUESTED -> COMPLETED\n",
    ):
        assert said in words, words
    (commit,) = run("changes", directory, "--kind", "hold", "--json").out.splitlines()
    (change,) = json.loads(commit)["changes"]
    assert (change["kind"], change["id"], change["message"]["basis"]) == ("hold", 1, "CASE-1")
    rows = [*csv.DictReader(io.StringIO(run("changes", directory, "--since", 15, "--csv").out))]
    stages = [
        (r["kind"], r["id"], r["actor"], r["after"], r["basis"], r["ticket"])
        for r in rows
        if r["field"] == "stage"
    ]
    assert stages == [
        ("erasure", "1", "dpo", "COMPLETED", "GDPR-17(1)(b)", ""),
        ("erasure", "1", "dpo", "REQUESTED", "GDPR-17(1)(b)", ""),
        ("hold", "1", "ana", "PLACED", "CASE-1", "T-1"),
    ]
    log = run("log", directory).out
    assert "erasure 1: completed GDPR-17(1)(b)" in log
    assert "hold 1: placed CASE-1, T-1" in log


def test_a_second_person_approves_or_not(directory: Path) -> None:
    with eventstore.open(directory) as store:
        store.set_retention_rule(needs_approval=True, basis="FOUR-EYES")
        at = store.log_position()
    done = run("erase", directory, "artifact", 1, *REASON, "--json")
    assert json.loads(done.out)["second_person"]["recorded_at_position"] == at
    said = f"second person by retention rule 1 (FOUR-EYES, recorded at position {at}): --yes only"
    assert said in done.err
    for number in (1, 2):
        done = run("erase", directory, "artifact", number, *REASON, "--yes", "--actor", "ana")
        assert f"Erasure {number}, proposed: 1 version" in done.out
        assert f"--approve {number}" in done.err
    done = run("erase", directory, "--approve", 1, "--actor", "ana", "--yes")
    assert (done.code, "needs a second person: 'ana'" in done.err) == (1, True)
    for tried in ((), ("--dry-run",)):
        done = run("erase", directory, "--approve", 1, "--actor", "ben", *tried)
        assert (done.code, "Planned: 1 version" in done.out) == (0, True)
        assert "Nothing was erased: say --yes" in done.err
    assert run("erase", directory, "--withdraw", 2, "--dry-run").code == 2
    done = run("erase", directory, "--approve", 1, "--actor", "ben", "--yes")
    assert (done.code, "Erasure 1, completed: 1 version" in done.out) == (0, True)
    words = "content erased by erasure 1: GDPR-17(1)(b), proposed by ana, approved by ben, 2"
    assert words in run("history", directory, "artifact", 1).out
    (version,) = run("history", directory, "artifact", 1, "--json").out.splitlines()
    (mark,) = json.loads(version)["erasures"]
    assert (mark["proposed_by"], mark["approved_by"]) == ("ana", "ben")
    page = directory.parent / "r.html"
    assert run("report", directory, "artifact", 1, "--output", page).code == 0
    assert "proposed by ana, approved by ben" in page.read_text()
    done = run("erase", directory, "--withdraw", 2)
    assert (done.code, done.out) == (0, "Erasure 2 is withdrawn\n")
    stages = run("sql", directory, "SELECT stage FROM erasures ORDER BY number").out
    assert stages.splitlines() == ["stage", "completed", "withdrawn"]


def test_a_proof_of_what_is_erased_names_the_record_of_the_erasure(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory.parent)
    Path("ana.pub").write_text(run("key", "ana@example.com", "ana.key").out)
    Path("before").write_text(run("checkpoint", "store", "--key", "ana.key").out)
    assert run("erase", "store", "artifact", 1, *REASON, "--yes").code == 0
    signing = ("checkpoint", "store", "--key", "ana.key", "--previous", "before")
    Path("after").write_text(run(*signing).out)
    proving = ("--checkpoint", "after", "--key", "ana.pub")
    done = run("prove", "store", 13, *proving)
    assert done.err == (
        "Erased of this record, by erasure 1: content. The record of that erasure, at position 16, "
        "is proved likewise.\n"
    )
    Path("proof").write_text(done.out)
    assert "its content is not shown" in run("prove", "--check", "proof", "--key", "ana.pub").out
    Path("proof").write_text(run("prove", "store", 16, *proving).out)
    assert "basis: GDPR-17(1)(b)" in run("prove", "--check", "proof", "--key", "ana.pub").out
