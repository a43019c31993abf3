"""Standard streams that are closed, full or of another encoding; names that only files have."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import eventstore
from eventstore import errors
from eventstore.importing import import_mlmd_database
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.command_line.runner import ENVIRONMENT, program, run
from tests.conftest import PENGUIN_DATABASE

HOSTILE = "a\x9b31m\u202eb\x1b[31m"
HARMLESS = r"a\x9b31m\u202eb\x1b[31m"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("streams") / HOSTILE
    with eventstore.open(directory, actor=HOSTILE) as opened:
        type_id = opened.put_artifact_type(mlmd.ArtifactType(name="t"))
        opened.put_artifacts([mlmd.Artifact(type_id=type_id, name="漢字")])
        opened.seal()
    return directory


def in_shell(
    redirections: str, *arguments: object, **environment: str
) -> subprocess.CompletedProcess[str]:
    script = f'exec "$@" {redirections}'
    return subprocess.run(
        ["bash", "-c", script, "bash", *program(*arguments)],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, **environment},
        check=False,
    )


@pytest.mark.parametrize("command", [("info", "STORE"), ("export", "STORE", "-"), ("--help",)])
def test_a_closed_output_is_one_line(command: tuple[str, ...], store: Path) -> None:
    done = in_shell(">&-", *(store if word == "STORE" else word for word in command))
    assert done.returncode == 1
    assert done.stderr == "eventstore: writing the result failed: Bad file descriptor\n"


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full"])
def test_what_cannot_be_said_changes_no_result(where: str, store: Path) -> None:
    if "full" in where and not Path("/dev/full").exists():
        pytest.skip("there is no full device")
    done = in_shell(where, "list", store, "artifact", "--as-of", "today", "--csv")
    assert (done.returncode, done.stdout.count("\n")) == (0, 2)
    assert in_shell(where, "nonsense").returncode == 2
    assert in_shell(where, "info", store / "missing").returncode == 1


def test_a_closed_input_has_nothing_to_read(store: Path) -> None:
    done = in_shell("<&-", "sql", store, "-")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "one query" in done.stderr


def test_all_closed_reads_the_store_and_leaves_it_sound(store: Path) -> None:
    assert in_shell("<&- >&- 2>&-", "info", store).returncode == 1
    assert run("verify", store).code == 0


def test_no_encoding_of_the_system_stops_a_command(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(store, "plain")
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TERM": "dumb"}
    for command in (("list", "plain", "artifact"), ("get", "plain", "artifact", 1)):
        plain, other = in_shell("", *command), in_shell("", *command, **environment)
        assert (other.returncode, other.stdout) == (0, plain.stdout)
        assert "漢字" in other.stdout
    refused = in_shell("", "info", store, **environment)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "set PYTHONUTF8=1" in refused.stderr


def test_times_of_this_machine_have_its_offset(store: Path) -> None:
    done = in_shell("", "log", store, "--json", "--local", "--limit", "1", TZ="Asia/Kathmandu")
    assert json.loads(done.stdout)["recorded_at"].endswith("+05:45")


def test_what_programs_read_is_harmless_on_a_terminal(store: Path, tmp_path: Path) -> None:
    piped, shown = run("files", store), run("files", store, width=200)
    assert piped.out.rstrip("\n") == str(store / "log" / "0000000001.parquet")
    assert HARMLESS in shown.out
    assert HOSTILE not in shown.out
    exported, seen = run("export", store, "-"), run("export", store, "-", width=80)
    assert "\x9b" in exported.out
    assert "\x9b" not in seen.out
    assert [json.loads(line) for line in seen.out.splitlines()] == [
        json.loads(line) for line in exported.out.splitlines()
    ]
    (tmp_path / "pub").write_text(run("key", HOSTILE[:-5], tmp_path / "key").out)
    checkpoint = run("checkpoint", store, "--key", tmp_path / "key")
    (tmp_path / "checkpoint").write_text(checkpoint.out)
    proving = ("--checkpoint", tmp_path / "checkpoint", "--key", tmp_path / "pub")
    proof, seen = run("prove", store, 1, *proving), run("prove", store, 1, *proving, width=80)
    assert proof.code == 0, proof.err
    for done in (seen, run("checkpoint", store, "--key", tmp_path / "key", width=80)):
        assert "\x9b" not in done.out
        assert "\u202e" not in done.out


@pytest.mark.parametrize("name", ["a\0b", "\udcff"])
def test_what_is_no_path_is_an_invalid_argument(name: str, tmp_path: Path) -> None:
    with eventstore.open(tmp_path / "store") as store:
        for ask in (
            lambda: eventstore.open(tmp_path / name),
            lambda: store.backup(tmp_path / name),
            lambda: eventstore.restore(tmp_path / name, tmp_path / "new"),
            lambda: eventstore.restore(tmp_path / "store", tmp_path / name),
            lambda: import_mlmd_database(tmp_path / name, tmp_path / "new"),
            lambda: import_mlmd_database(PENGUIN_DATABASE, tmp_path / name),
        ):
            with pytest.raises(errors.InvalidArgumentError, match="is no path"):
                ask()


def test_a_path_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    for command in (("import", "x" * 300, tmp_path / "new"), ("info", "x" * 300)):
        done = run(*command)
        assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
        assert "File name too long" in done.err
