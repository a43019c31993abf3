"""Paths without a name, empty ones, and ones that a terminal would obey."""

from __future__ import annotations

from pathlib import Path

import pytest

import eventstore
from eventstore import errors
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.command_line.runner import run

COMMANDS = [
    ("info",),
    ("list", "artifact"),
    ("log",),
    ("sql", "SELECT 1"),
    ("verify",),
    ("rebuild",),
    ("files",),
    ("backup", "copy"),
    ("restore", "copy"),
    ("demo",),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("path", ["/", ".", "..", "//", "below/.."])
def test_a_path_without_a_name_is_one_line(
    path: str, command: tuple[str, ...], folder: Path
) -> None:
    done = run(command[0], path, *command[1:])
    assert done.code in (1, 2)
    assert done.out == ""
    if done.code == 1:
        assert done.err.count("\n") == 1
    assert path in done.err or "manifest.json" in done.err
    assert [entry.name for entry in folder.iterdir()] == ["below"]


@pytest.mark.parametrize("path", ["/", ".", ".."])
def test_a_folder_that_is_no_store_is_left_as_it_was(path: str, folder: Path) -> None:
    before = sorted(Path(path).iterdir())
    with pytest.raises(errors.NotFoundError, match="there is no store"):
        eventstore.open(path, read_only=True)
    with pytest.raises(errors.FailedPreconditionError, match="neither empty nor a store"):
        eventstore.open(path)
    assert sorted(Path(path).iterdir()) == before


def test_the_current_folder_can_be_a_store(folder: Path) -> None:
    (folder / "below").rmdir()
    eventstore.open(".").close()
    assert run("info", ".").code == 0
    with eventstore.open(Path()) as store:
        assert store.log_position()


def test_an_empty_text_is_no_path(folder: Path) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="'' is no path"):
        eventstore.open("")
    with pytest.raises(errors.InvalidArgumentError, match="'' is no path"):
        eventstore.restore("", "new")
    with eventstore.open(folder / "store") as store:
        with pytest.raises(errors.InvalidArgumentError, match="'' is no path"):
            store.backup("")
        with pytest.raises(errors.InvalidArgumentError, match="'' is no path"):
            eventstore.restore(folder / "store", "")
    for command in (
        *((command[0], "", *command[1:]) for command in COMMANDS),
        ("info", "store", "--output", ""),
        ("sql", "store", "--file", ""),
        ("backup", "store", ""),
        ("restore", "store", ""),
        ("export", "store", ""),
        ("key", "ana", ""),
        ("import", "", "new"),
        ("import", "x", ""),
    ):
        done = run(*command)
        assert (done.code, done.out) == (2, ""), command
        assert "an empty text is no path: write . for the current folder" in done.err


@pytest.mark.parametrize("name", ["no\nstore", "no\rstore", "\x1b[31mno", "no\u202estore"])
@pytest.mark.parametrize("command", [*COMMANDS, ("prove", "1"), ("nonsense",), ("--option",)])
def test_what_is_said_of_a_path_is_one_harmless_line(
    command: tuple[str, ...], name: str, folder: Path
) -> None:
    file = folder / name
    file.write_text("")
    for path in (name, f"{name}/below", *([f"{name} too"] if command != ("demo",) else [])):
        done = run(command[0], path, *command[1:], "--output", f"{path}.out")
        assert done.code in (1, 2)
        errors_said = done.err[done.err.find("Error: ") :] if done.code == 2 else done.err
        assert errors_said.count("\n") == 1
        assert not set(done.err) & set("\r\x1b\u202e")


def test_notes_and_warnings_name_paths_in_one_harmless_line(folder: Path) -> None:
    directory = folder / "a\n\x1b[31mb"
    with eventstore.open(directory) as store:
        store.put_artifact_type(mlmd.ArtifactType(name="t"))
    assert run("sql", directory, "FROM types").code == 0
    tables = directory / "projections" / "tables.duckdb"
    tables.write_bytes(b"no database")
    verified = run("verify", directory)
    assert verified.code == 0
    assert verified.err.count("\n") == 1
    assert r"a\n\x1b[31mb" in verified.err
    (directory / "log" / "stray").write_text("")
    found = run("verify", directory)
    assert (found.code, found.out.count("\n")) == (3, 2)
    assert not set(found.out + found.err + verified.err) & set("\x1b")


def test_an_error_of_sql_still_points_to_its_place(folder: Path) -> None:
    eventstore.open(folder / "store").close()
    done = run("sql", "store", "SELECT 1,\n  1 + nothing(2), '\x1b'")
    assert done.code == 1
    assert done.err.count("\n") > 1
    assert "\\n" not in done.err
