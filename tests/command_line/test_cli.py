"""What commands do, one after the other on a store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import eventstore
from tests.builders import artifact, put_types
from tests.command_line.runner import ROOT, program, run
from tests.conftest import PENGUIN_DATABASE


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, which takes far longer than `run`."""
    return subprocess.run(
        program(*arguments), capture_output=True, text=True, check=False, cwd=ROOT
    )


@pytest.fixture
def small_store(tmp_path: Path) -> Path:
    directory = tmp_path / "small"
    with eventstore.open(directory) as store:
        type_id, _, _ = put_types(store)
        (node_id,) = store.put_artifacts([artifact(type_id, name="one")])
        (stored,) = store.get_artifacts_by_id([node_id])
        stored.uri = "s3://moved"
        store.put_artifacts([stored])
    return directory


def test_demo_answers_its_questions(tmp_path: Path) -> None:
    done = run("demo", tmp_path / "demo")
    assert done.code == 0, done.err
    for answer in (
        "sales-march (s3://warehouse/sales-march)",
        "learning rate",
        "march-lr0.001-l4",
        "at the push (position 201)",
        "good [LIVE]",
        "bad: 2,114 rows counted twice [MARKED_FOR_DELETION]",
        "Verified 202 records",
        "eventstore info",
    ):
        assert answer in done.out, answer
    again = run("demo", tmp_path / "demo")
    assert again.code == 2
    assert "is not empty" in again.err


def test_import_info_log_verify(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    done = run("import", PENGUIN_DATABASE, directory)
    assert done.code == 0, done.err
    assert "314" in done.out
    information = json.loads(run("info", directory, "--json").out)
    assert information["position"] == 314
    assert information["counts"]["artifact"] == 27
    assert "sealed" in run("info", directory).out
    records = run("log", directory, "--kind", "context", "--limit", "0", "--json").out
    assert len([json.loads(line) for line in records.splitlines()]) == 22
    assert "There are more" in run("log", directory, "--limit", "3").err
    done = run("verify", directory)
    assert (done.code, "is sound: 314 records" in done.out) == (0, True)


def test_log_filters(small_store: Path) -> None:
    both = [
        json.loads(line)
        for line in run(
            "log", small_store, "--kind", "artifact", "--id", 1, "--json", "--reverse"
        ).out.splitlines()
    ]
    assert [line["content"]["uri"] for line in both] == ["", "s3://moved"]
    assert [line["previous"] for line in both] == [None, both[0]["position"]]
    last = run("log", small_store, "--after", both[0]["position"], "--json").out.splitlines()
    assert len(last) == 1
    since = both[1]["recorded_at"]
    assert len(run("log", small_store, "--since", since, "--json").out.splitlines()) == 1
    assert not run("log", small_store, "--actor", "nobody", "--json").out
    bad = run("log", small_store, "--since", "the day of the push")
    assert (bad.code, "is no moment" in bad.err) == (2, True)


def test_rebuild_folds_the_log_anew(small_store: Path, tmp_path: Path) -> None:
    query = "SELECT count(*) FROM artifacts"
    before = run("sql", small_store, query).out
    for path in (small_store / "projections").rglob("*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    done = run("rebuild", small_store)
    assert (done.code, "anew" in done.out) == (0, True), done.err
    assert run("sql", small_store, query).out == before
    missing = run("rebuild", tmp_path / "missing")
    assert (missing.code, "check the path" in missing.err) == (1, True)
    assert not (tmp_path / "missing").exists()


def test_verify_names_the_damaged_commit(small_store: Path) -> None:
    (segment,) = (small_store / "log").glob("*.arrows")
    content = bytearray(segment.read_bytes())
    content[-100] ^= 1
    segment.write_bytes(content)
    done = process("verify", small_store)
    assert done.returncode == 3
    assert "commit 6 is damaged" in done.stdout.replace("\n", " ")
    assert "leave its files where they are" in done.stderr.replace("\n", " ")
    report = json.loads(process("verify", small_store, "--json").stdout)
    assert (report["ok"], report["findings"][0]["commit"]) == (False, 6)
    assert process("info", small_store).returncode == 3


def test_import_leaves_nothing_behind_when_it_fails(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database")
    for source, words in (
        (tmp_path / "missing.db", "there is no file"),
        (tmp_path / "text.db", "cannot be read as an SQLite database"),
    ):
        done = run("import", source, tmp_path / "store")
        assert done.code == 1
        assert words in done.err
        assert "Traceback" not in done.err
        assert not (tmp_path / "store").exists()
    done = run("import", PENGUIN_DATABASE, tmp_path)
    assert "exists already" in done.err
    done = run("import", tmp_path, tmp_path / "store")
    assert (done.code, "is a directory" in done.err) == (1, True)
    (tmp_path / "manifest.json").touch()
    done = run("import", tmp_path, tmp_path / "store")
    assert (done.code, "is a store already" in done.err) == (1, True)


@pytest.mark.parametrize("command", ["", "demo", "import", "info", "log", "verify"])
def test_every_command_has_help_with_examples(command: str) -> None:
    done = run(*command.split(), "--help")
    assert done.code == 0
    assert "Examples:" in done.out
    assert f"eventstore {command}".strip() in done.out
    assert run("no-such-command").code == 2


def test_lineage_is_drawn_in_every_form(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    assert run("import", PENGUIN_DATABASE, directory).code == 0
    shown = run("lineage", directory, "artifact", 3, "--direction", "upstream")
    assert shown.code == 0, shown.err
    assert "Events" in shown.out
    assert run("lineage", directory, "context", 1, "--format", "dot").out.startswith("digraph")
    assert "flowchart" in run("lineage", directory, "artifact", 1, "--format", "mermaid").out
    graph = json.loads(run("lineage", directory, "artifact", 1, "--format", "json").out)
    assert {"artifact", "execution"} == {node["kind"] for node in graph["nodes"]}
    missing = run("lineage", directory, "artifact", 999)
    assert (missing.code, missing.err) == (1, "eventstore: no artifact has id 999\n")
    assert run("lineage", directory, "artifact", 1, "--as-of", "soon").code == 2


def test_the_past_is_told_in_words_and_in_json(small_store: Path) -> None:
    shown = run("history", small_store, "artifact", 1)
    assert shown.code == 0, shown.err
    assert "s3://moved" in shown.out
    lines = run("history", small_store, "artifact", 1, "--json").out.splitlines()
    versions = [json.loads(line) for line in lines]
    assert [change["field"] for change in versions[1]["changes"]] == ["uri"]
    first = versions[0]["position"]
    then = run("history", small_store, "artifact", 1, "--as-of", first, "--json")
    assert len(then.out.splitlines()) == 1
    (changed,) = run("diff", small_store, first, "--json").out.splitlines()
    assert json.loads(changed)["is_new"] is False
    assert "changed" in run("diff", small_store, first).out
    within = run("diff", small_store, first, "--lineage", "artifact", 1, "--json").out
    assert [json.loads(line)["id"] for line in within.splitlines()] == [1]
    commits = run("changes", small_store, "--kind", "artifact", "--json").out.splitlines()
    assert len(commits) == 2
    assert "There are more" in run("changes", small_store, "--limit", 1).err
    shown = run("changes", small_store, "--since", first, "--actor", "nobody")
    assert (shown.code, shown.out) == (0, "")
    followed = run("tail", small_store, "--after", 0, "--commits", 3, "--json").out.splitlines()
    assert [json.loads(line)["commit"] for line in followed] == [1, 2, 3]
    assert run("history", small_store, "artifact", 1, "--touching").code == 2
    missing = run("history", small_store, "artifact", 9)
    assert (missing.code, missing.err) == (1, "eventstore: no artifact has id 9\n")


def test_an_auditor_signs_proves_and_verifies(small_store: Path, tmp_path: Path) -> None:
    secret, public, checkpoint = tmp_path / "a.key", tmp_path / "a.pub", tmp_path / "checkpoint"
    made = run("key", "ana@example.com", secret)
    public.write_text(made.out)
    assert secret.stat().st_mode & 0o077 == 0
    assert run("key", "ana@example.com", secret).code == 1
    signed = run("checkpoint", small_store, "--key", secret)
    checkpoint.write_text(signed.out)
    older = tmp_path / "older"
    older.write_text(run("checkpoint", small_store, "--key", secret, "--as-of", 10).out)
    keys = ("--checkpoint", checkpoint, "--key", public)
    assert "is sound" in run("verify", small_store, *keys, "--checkpoint", older).out
    assert run("verify", small_store, "--checkpoint", checkpoint).code == 2
    again = run("checkpoint", small_store, "--key", secret, "--previous", older)
    assert again.out.splitlines()[:5] == checkpoint.read_text().splitlines()[:5]
    refused = run(*("checkpoint", small_store, "--key", secret, "--as-of", 9, "--previous", older))
    assert refused.code == 1
    assert refused.out == ""
    assert "previous checkpoint states 10 records" in refused.err
    assert "is sound" in run("verify", small_store, "--since", 10).out
    proofs = {
        "record": run("prove", small_store, 3, *keys).out,
        "history": run("prove", small_store, "--since", older, *keys).out,
    }
    verifier = Path(eventstore.__file__).parent / "audit" / "standalone_verifier.py"
    alone = tmp_path / "verifier.py"
    alone.write_text(verifier.read_text())

    def verified(*arguments: object) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-S", "-I", str(alone), *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    for name, proof in proofs.items():
        file = tmp_path / name
        file.write_text(proof)
        since = ("--since", older) if name == "history" else ()
        how = ("consistency", file, older) if name == "history" else ("proof", file)
        checked = run("prove", "--check", file, *since, "--key", public)
        assert checked.code == 0, checked.err
        assert verified(*how, public)[0] == 0
        file.write_text(proof.replace("eventstore/", "eventstorf/"))
        refused = run("prove", "--check", file, *since, "--key", public)
        assert (refused.code, refused.out) == (3, "")
        code, printed = verified(*how, public)
        assert (code, printed.startswith("REFUSED")) == (1, True)
    page = tmp_path / "report.html"
    reported = ("report", small_store, "artifact", 1, "--output", page)
    assert run(*reported, *keys).code == 0
    assert "ana@example.com" in page.read_text()
    assert "the caches, from which this report was made" in page.read_text()
    assert run(*reported).code == 1
    assert run(*reported, "--checkpoint", checkpoint).code == 2
    export = tmp_path / "records.jsonl"
    assert run("export", small_store, export).code == 0
    assert run("export", small_store, export).code == 1
    assert verified("checkpoint", checkpoint, public)[0] == 0
    assert verified("records", export, checkpoint, public)[0] == 0
    assert verified("records", export, older, public)[0] == 0
    lines = export.read_text().splitlines(keepends=True)
    export.write_text("".join(lines[:-1]))
    assert verified("records", export, checkpoint, public)[0] == 1
    export.write_text("".join([lines[1], lines[0], *lines[2:]]))
    assert verified("records", export, checkpoint, public)[0] == 1
    assert verified("nothing")[0] == 2
    code, printed = verified("--help")
    assert (code, "proof FILE KEY" in printed) == (0, True)
    stored = subprocess.run(
        [sys.executable, alone, "store", small_store, checkpoint, public],
        capture_output=True,
        text=True,
        check=False,
    )
    assert stored.returncode == 0, stored.stdout


def test_verify_side_by_side_from_a_script_without_a_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import eventstore\n"
        "from eventstore.log import verification\n"
        "verification._PARALLEL_RECORDS_MIN = 1\n"
        "store = eventstore.open('store')\n"
        "for name in 'abc':\n"
        "    store.put_artifact_type(eventstore.proto.ArtifactType(name=name))\n"
        "    store.seal()\n"
        "print(store.verify().records, store.log_position())\n"
    )
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    checked, position = done.stdout.split()
    assert checked == position


def test_reads_as_they_are_and_as_they_were(small_store: Path) -> None:
    first = json.loads(run("history", small_store, "artifact", 1, "--json").out.splitlines()[0])
    then = ("--as-of", first["position"])
    now = run("get", small_store, "artifact", 1, "--json")
    assert json.loads(now.out)["uri"] == "s3://moved"
    assert json.loads(run("get", small_store, "artifact", 1, "--json", *then).out)["uri"] == ""
    assert "s3://moved" in run("get", small_store, "artifact", 1).out
    missing = run("get", small_store, "context", 1, *then)
    assert missing.code == 1
    assert missing.err.startswith("eventstore: no context has id 1 as of")
    (listed,) = run("list", small_store, "artifact", "--json", *then).out.splitlines()
    assert json.loads(listed)["id"] == 1
    unknown = run("list", small_store, "artifact", "--type", "Dataset")
    assert (unknown.code, "did you mean 'DataSet'?" in unknown.err) == (1, True)
    shown = run("list", small_store, "artifact", "--filter", "id = 1 OR id = 2", "--descending")
    assert "s3://moved" in shown.out
    wrong = run("list", small_store, "artifact", "--filter", "id =")
    assert (wrong.code, "filter_query" in wrong.err) == (1, True)


def test_sql_in_every_format(small_store: Path, tmp_path: Path) -> None:
    query = "SELECT id, uri, created_at FROM artifacts ORDER BY id LIMIT 1"
    assert "s3://moved" in run("sql", small_store, query).out
    (line,) = run("sql", small_store, query, "--format", "json").out.splitlines()
    assert json.loads(line)["uri"] == "s3://moved"
    csv = run("sql", small_store, query, "--format", "csv").out
    assert csv.startswith('"id","uri"')
    file = tmp_path / "rows.parquet"
    assert run("sql", small_store, query, "--format", "parquet").code == 2
    assert run("sql", small_store, query, "--format", "parquet", "--output", file).code == 0
    assert file.stat().st_size
    refused = run("sql", small_store, "DROP TABLE artifacts")
    assert (refused.code, "takes one query" in refused.err) == (1, True)


def test_tail_follows_writers_that_come_and_go(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    eventstore.open(directory).close()
    following = subprocess.Popen(
        program("tail", directory, "--after", "9", "--commits", "3"),
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    for number in range(3):
        with eventstore.open(directory, actor=f"writer {number}") as store:
            store.put_artifact_type(eventstore.proto.ArtifactType(name=f"T{number}"))
            if number == 1:
                store.seal()
    printed, _ = following.communicate(timeout=120)
    assert [f"by writer {number}" in printed for number in range(3)] == [True] * 3
    assert following.returncode == 0


def test_files_are_a_path_a_line(small_store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(small_store, copy)
    with eventstore.open(copy) as store:
        store.seal()
        expected = store.segment_files()
    assert expected
    shutil.copy(expected[0], copy / "log" / "0000000099.parquet")
    shown = run("files", copy)
    assert (shown.code, shown.out.splitlines()) == (0, [*map(str, expected)])
    (first, *_) = [json.loads(line) for line in run("files", copy, "--json").out.splitlines()]
    assert first["path"] == str(expected[0])
    assert first["bytes"] == expected[0].stat().st_size
    assert first["first_position"] == 1
    assert run("files", tmp_path / "nothing").code == 1
