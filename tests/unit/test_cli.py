"""The command line, as a shell sees it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import eventstore
from tests.builders import artifact, put_types
from tests.conftest import PENGUIN_DATABASE


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "eventstore", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
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
    assert done.returncode == 0, done.stderr
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
        assert answer in done.stdout, answer
    again = run("demo", tmp_path / "demo")
    assert again.returncode == 2
    assert "is not empty" in again.stderr


def test_import_info_log_verify(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    done = run("import", PENGUIN_DATABASE, directory)
    assert done.returncode == 0, done.stderr
    assert "314" in done.stdout
    information = json.loads(run("info", directory, "--json").stdout)
    assert information["position"] == 314
    assert information["counts"]["artifact"] == 27
    assert "sealed" in run("info", directory).stdout
    records = run("log", directory, "--kind", "context", "--limit", "0", "--json").stdout
    assert len([json.loads(line) for line in records.splitlines()]) == 22
    assert "There are more" in run("log", directory, "--limit", "3").stdout
    done = run("verify", directory)
    assert (done.returncode, "is sound: 314 records" in done.stdout) == (0, True)


def test_log_filters(small_store: Path) -> None:
    both = [
        json.loads(line)
        for line in run(
            "log", small_store, "--kind", "artifact", "--id", 1, "--json"
        ).stdout.splitlines()
    ]
    assert [line["content"]["uri"] for line in both] == ["", "s3://moved"]
    assert [line["previous"] for line in both] == [None, both[0]["position"]]
    last = run("log", small_store, "--after", both[0]["position"], "--json").stdout.splitlines()
    assert len(last) == 1
    since = both[1]["recorded_at"]
    assert len(run("log", small_store, "--since", since, "--json").stdout.splitlines()) == 1
    assert not run("log", small_store, "--actor", "nobody", "--json").stdout
    bad = run("log", small_store, "--since", "yesterday")
    assert (bad.returncode, "is no moment" in bad.stderr) == (1, True)
    bad = run("log", small_store, "--since", "2026-11-20T08:00:00")
    assert (bad.returncode, "no time zone" in bad.stderr) == (1, True)


def test_verify_names_the_damaged_commit(small_store: Path) -> None:
    (segment,) = (small_store / "log").glob("*.arrows")
    content = bytearray(segment.read_bytes())
    content[-100] ^= 1
    segment.write_bytes(content)
    done = run("verify", small_store)
    assert done.returncode == 3
    assert "commit 6 is damaged" in done.stdout.replace("\n", " ")
    report = json.loads(run("verify", small_store, "--json").stdout)
    assert (report["ok"], report["findings"][0]["commit"]) == (False, 6)
    assert run("info", small_store).returncode == 3


def test_import_leaves_nothing_behind_when_it_fails(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database")
    for source, words in (
        (tmp_path / "missing.db", "there is no file"),
        (tmp_path / "text.db", "cannot be read as an SQLite database"),
    ):
        done = run("import", source, tmp_path / "store")
        assert done.returncode == 1
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "store").exists()
    done = run("import", PENGUIN_DATABASE, tmp_path)
    assert "exists already" in done.stderr


@pytest.mark.parametrize("command", ["", "demo", "import", "info", "log", "verify"])
def test_every_command_has_help_with_examples(command: str) -> None:
    done = run(*command.split(), "--help")
    assert done.returncode == 0
    assert "Examples:" in done.stdout
    assert f"eventstore {command}".strip() in done.stdout
    assert run("no-such-command").returncode == 2


def test_lineage_is_drawn_in_every_form(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    assert run("import", PENGUIN_DATABASE, directory).returncode == 0
    shown = run("lineage", directory, "artifact", 3, "--direction", "upstream")
    assert shown.returncode == 0, shown.stderr
    assert "Events" in shown.stdout
    assert run("lineage", directory, "context", 1, "--format", "dot").stdout.startswith("digraph")
    assert "flowchart" in run("lineage", directory, "artifact", 1, "--format", "mermaid").stdout
    graph = json.loads(run("lineage", directory, "artifact", 1, "--format", "json").stdout)
    assert {"artifact", "execution"} == {node["kind"] for node in graph["nodes"]}
    missing = run("lineage", directory, "artifact", 999)
    assert (missing.returncode, missing.stderr) == (1, "eventstore: no artifact has id 999\n")
    assert run("lineage", directory, "artifact", 1, "--as-of", "yesterday").returncode == 2


def test_the_past_is_told_in_words_and_in_json(small_store: Path) -> None:
    shown = run("history", small_store, "artifact", 1)
    assert shown.returncode == 0, shown.stderr
    assert "s3://moved" in shown.stdout
    lines = run("history", small_store, "artifact", 1, "--json").stdout.splitlines()
    versions = [json.loads(line) for line in lines]
    assert [change["field"] for change in versions[1]["changes"]] == ["uri"]
    first = versions[0]["position"]
    then = run("history", small_store, "artifact", 1, "--as-of", first, "--json")
    assert len(then.stdout.splitlines()) == 1
    (changed,) = run("diff", small_store, first, "--json").stdout.splitlines()
    assert json.loads(changed)["is_new"] is False
    assert "changed" in run("diff", small_store, first).stdout
    commits = run("changes", small_store, "--kind", "artifact", "--json").stdout.splitlines()
    assert len(commits) == 2
    assert "There are more" in run("changes", small_store, "--limit", 1).stdout
    shown = run("changes", small_store, "--since", first, "--actor", "nobody")
    assert (shown.returncode, shown.stdout) == (0, "")
    followed = run("tail", small_store, "--after", 0, "--commits", 3, "--json").stdout.splitlines()
    assert [json.loads(line)["commit"] for line in followed] == [1, 2, 3]
    assert run("history", small_store, "artifact", 1, "--touching").returncode == 2
    missing = run("history", small_store, "artifact", 9)
    assert (missing.returncode, missing.stderr) == (1, "eventstore: no artifact has id 9\n")
