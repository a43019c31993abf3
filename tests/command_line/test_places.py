"""Commands on a store that a URL names, and those that need a directory."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd
from tests import elsewhere
from tests.command_line.runner import run


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store elsewhere with one artifact."""
    elsewhere.install(tmp_path / "installed", monkeypatch)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    url = f"elsewhere://ana:secret@host{tmp_path}/store"
    with eventstore.open(url) as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        store.put_artifacts([mlmd.Artifact(type_id=type_id, name="one")])
        store.seal()
    return url


@pytest.mark.parametrize(
    "command",
    [
        ("info",),
        ("list", "artifact"),
        ("log",),
        ("sql", "SELECT name FROM artifacts"),
        ("verify",),
        ("rebuild",),
        ("files",),
        ("backup", "copy"),
        ("erase", "artifact", "1", "--reason", "GDPR-17", "--yes"),
        ("hold", "list"),
    ],
    ids=lambda command: command[0],
)
def test_a_store_that_a_url_names(url: str, command: tuple[str, ...]) -> None:
    name, *others = command
    if name == "hold":
        done = run(name, others[0], url)
    else:
        done = run(name, url, *others)
    assert done.code == 0, done.err
    assert "secret" not in done.out + done.err
    if name == "backup":
        with eventstore.open("copy", read_only=True) as copy:
            assert copy.get_artifacts()[0].name == "one"


def test_json_has_no_password(url: str) -> None:
    done = run("rebuild", url, "--json")
    assert json.loads(done.out)["store"].startswith("elsewhere://ana:***@host/")


@pytest.mark.parametrize(
    "arguments",
    [
        ("demo", "URL"),
        ("import", "database", "URL"),
        ("restore", "copy", "URL"),
        ("restore", "URL", "copy"),
        ("backup", "here", "URL"),
        ("info", "here", "--output", "URL"),
    ],
)
def test_what_needs_a_path_says_so(url: str, arguments: tuple[str, ...]) -> None:
    done = run(*(url if argument == "URL" else argument for argument in arguments))
    assert done.code == 2
    assert "a URL is no path: name a file or directory of this machine" in done.err
    assert "secret" not in done.out + done.err
    assert os.listdir() == []


@pytest.mark.parametrize(
    "text", ["nobodys://u:secret@h/db", "lacking://u:secret@h", "pg://u:/secret@h"]
)
def test_what_cannot_be_opened_is_refused_in_a_line(url: str, text: str) -> None:
    for name in ("info", "verify", "files", "rebuild"):
        done = run(name, text)
        assert done.code in (1, 2), done
        assert len(done.err.splitlines()) == (1 if done.code == 1 else 4)
        assert "secret" not in done.out + done.err
    assert os.listdir() == []
