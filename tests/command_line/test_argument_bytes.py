"""Whatever bytes an argument has, a command ends in one line and no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.command_line.runner import run

NOT_UTF_8 = "\udcff"
"""A byte that is no text, as Python hands it over."""
HUGE = 10**23


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with eventstore.open(tmp_path / "store") as opened:
        type_id = opened.put_artifact_type(mlmd.ArtifactType(name="t"))
        opened.put_artifacts([mlmd.Artifact(type_id=type_id)])
    return tmp_path / "store"


@pytest.mark.parametrize(
    "command",
    [
        "list STORE artifact --filter X",
        "list STORE artifact --type X",
        "list STORE artifact --as-of X",
        "list STORE X",
        "get STORE artifact X",
        "get STORE X 1",
        "log STORE --actor X",
        "changes STORE --actor X",
        "changes STORE --type X",
        "changes STORE --since X",
        "diff STORE X",
        "sql STORE X",
        "sql STORE --file X",
        "lineage STORE artifact 1 --format X",
        "key X FILE",
        "X",
        "info X",
        "verify X",
        "import X FILE",
    ],
)
def test_text_that_is_not_utf_8_is_refused(store: Path, tmp_path: Path, command: str) -> None:
    names = {"STORE": store, "X": f"a{NOT_UTF_8}", "FILE": tmp_path / "file"}
    done = run(*(names.get(word, word) for word in command.split()))
    assert done.code in (1, 2)
    assert done.out == ""
    assert "Traceback" not in done.err
    message = [line for line in done.err.splitlines() if line.startswith(("Error:", "eventstore:"))]
    assert len(message) == 1
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize(
    "kind",
    ["artifact", "execution", "context", "artifact_type", "execution_type", "context_type"],
)
def test_no_entity_has_an_id_that_does_not_fit(store: Path, kind: str) -> None:
    for number in (HUGE, -HUGE, 2**63, -(2**63) - 1, 2**63 - 1):
        # Two dashes: a negative number is no option.
        done = run("get", store, kind, "--", number)
        assert (done.code, done.err.count("\n")) == (1, 1)
        assert f"has id {number}" in done.err


def test_a_limit_may_be_of_any_size(store: Path) -> None:
    for command in (("log", store), ("changes", store), ("list", store, "artifact")):
        few, many = run(*command, "--json"), run(*command, "--json", "--limit", HUGE)
        assert (many.code, many.out) == (0, few.out)
    assert run("lineage", store, "artifact", 1, "--limit", HUGE, "--hops", HUGE).code == 0
    assert run("report", store, "artifact", 1, "--limit", HUGE, "--output", "-").code == 0
