"""The examples of every command's help run, on a store that has what they name."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import eventstore
from eventstore.cli.help import Command, CommandGroup
from eventstore.cli.main import _COMMANDS, _EXAMPLES, cli
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.command_line.runner import run
from tests.conftest import PENGUIN_DATABASE

# What a fresh store lacks, and what is used in its place.
MOMENTS = {
    "yesterday": "now",
    "2026-11-20": "now",
    "2026-11-17": "9",
    "1200": "50",
    "1234": "50",
    "1300": "60",
}
RANGES = ("--since", "--until")
MADE_ANEW = ("import", "restore", "demo")


def examples() -> Iterator[str]:
    context = click.Context(cli)
    for name in _COMMANDS:
        command = cli.get_command(context, name)
        several = command.commands.values() if isinstance(command, CommandGroup) else [command]
        for one in several:
            assert isinstance(one, Command)
            assert one.examples, name
            yield from one.examples
    yield from _EXAMPLES


# `run` takes the place of the process, `serve` and `ui` have no end, an authority for timestamps is
# not there, nor is a database or catalog on a server; the verifier that stands alone is no command.
NOT_RUN = (
    *(" run ", " serve ", " ui ", " timestamp ", "python "),
    *(" mysql://", " postgresql://", " https://"),
)
RUN = sorted({e for e in examples() if not any(word in e for word in NOT_RUN)})


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run("demo", "my-store").code == 0
        with eventstore.open("my-store") as store:
            model = store.get_artifact_type("Model").id
            store.put_artifacts([mlmd.Artifact(type_id=model, name="churn")])
            store.place_hold(entities=[("artifact", 7)], basis="CASE-1")
            for _ in range(2):
                store.set_retention_rule(needs_approval=True, basis="FOUR-EYES")
        Path("ana.pub").write_text(run("key", "ana@example.com", "ana.key").out)
        signed = run("checkpoint", "my-store", "--key", "ana.key").out
        for name in ("2026-11-20.checkpoint", "new.checkpoint", "old", "signed"):
            Path(name).write_text(signed)
        proving = ("--checkpoint", "signed", "--key", "ana.pub")
        Path("record.proof").write_text(run("prove", "my-store", 50, *proving).out)
        log, witness = Path("ana.pub").read_text(), run("key", "north", "north.key", "--witness")
        Path("policy.txt").write_text(f"log {log}witness north {witness.out}quorum north\n")
        for name in ("new.checkpoint", "old"):
            cosigning = ("--by", "north.key", "--key", "ana.pub", "--last", f"last-{name}")
            cosigned = run("cosign", name, *cosigning).out
            Path(name).write_text(cosigned)
            Path("north").write_text(cosigned)
            Path("cosigned.checkpoint").write_text(cosigned)
            Path("cosigned").write_text(cosigned)
        proving = ("--checkpoint", "new.checkpoint", "--key", "ana.pub")
        Path("history.proof").write_text(run("prove", "my-store", "--since", "old", *proving).out)
        run("key", "ana@example.com", "ana-2027.key")
        Path("last.checkpoint").write_text(signed)
        rotated = run("rotate", "last.checkpoint", "--key", "ana.key", "--to", "ana-2027.key")
        Path("ana-2027.rotation").write_text(rotated.out)
        assert run("backup", "my-store", "my-store-2026-11-20").code == 0
        encrypting = ("encrypted", "--encrypt", "my-store.keys")
        assert run("backup", "my-store", *encrypting).code == 0
        Path("my-store.erasures").write_text(run("erasures", "my-store").out)
        shutil.copy(PENGUIN_DATABASE, "metadata.sqlite")
        shutil.copy(PENGUIN_DATABASE, "mlmd.db")
        Path("report.sql").write_text("FROM commits")
    return folder


@pytest.mark.parametrize("example", RUN)
def test_example_of_help_runs(
    example: str, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(workplace, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    words = shlex.split(example, posix=True)
    start = words.index("eventstore") + 1
    end = next((n for n in range(start, len(words)) if words[n] in (">", "|")), len(words))
    given = []
    for before, word in zip(words[start - 1 :], words[start:end], strict=False):
        # Ranges may begin before the first commit; a day is a word of the example, not a file.
        word = word if before in RANGES and not word.isdigit() else MOMENTS.get(word, word)
        given.append(word.rpartition("/")[2] if word.startswith("/") else word)
    if given[0] in MADE_ANEW:
        shutil.rmtree("my-store")
    elif given[0] == "key" and "--public" not in given:
        Path(given[2]).unlink()
    elif given[0] == "erase":
        assert run("hold", "release", "my-store", 1, "--ticket", "CASE-1").code == 0
        if "--approve" in given:
            for number in (1, 2, 3):
                asked = ("--reason", "PRIV-214", "--actor", "ana", "--yes")
                assert run("erase", "my-store", "artifact", number, *asked).code == 0
    elif given[0] == "backup":
        shutil.rmtree("my-store-2026-11-20")
        shutil.rmtree("encrypted")
    elif given[0] == "audit":
        publishing = ("--checkpoint", "new.checkpoint", "--policy", "policy.txt")
        assert run("publish", "tiles", "my-store", "my-published", *publishing).code == 0
        given[1] = "my-published"
    elif given[0] == "tail":
        given += ["--commits", "1"] if "--after" in given else ["--after", "0", "--commits", "1"]
    done = run(*given, stdin="FROM commits")
    assert (done.code, "Traceback" in done.err) == (0, False), done.err
