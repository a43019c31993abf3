"""What every command prints, at three widths and in a pipe, compared with the files in snapshots/.

Set RENEW_SNAPSHOTS=1 to write the files again; then look at what changed in them.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from eventstore.cli.main import _COMMANDS
from tests.command_line.runner import run
from tests.conftest import PENGUIN_DATABASE

SNAPSHOTS = Path(__file__).parent / "snapshots"
WIDTHS = (60, 80, 200, None)

FOR_PRIVACY = ("--reason", "GDPR-17(1)(b)")
BY_ANA = ("--key", "ana.pub")

COMMANDS: dict[str, tuple[object, ...]] = {
    "info": ("info", "models"),
    "log": ("log", "models", "--limit", 5),
    "log-reverse": ("log", "models", "--limit", 3, "--reverse"),
    "list-artifacts": ("list", "models", "artifact", "--limit", 4),
    "list-executions": ("list", "models", "execution", "--type", "Train", "--limit", 2),
    "list-explain": ("list", "models", "artifact", "--order-by", "create_time", "--explain"),
    "list-contexts": ("list", "models", "context", "--limit", 3),
    "get": ("get", "models", "artifact", 1),
    "get-type": ("get", "models", "artifact_type", 10),
    "get-by-name": ("get", "models", "artifact", "Dataset", "sales-march"),
    "history": ("history", "models", "artifact", 1),
    "history-touching": ("history", "models", "context", 2, "--touching"),
    "changes": ("changes", "models", "--limit", 2),
    "tail": ("tail", "models", "--after", 191, "--commits", 2),
    "diff": ("diff", "models", 191),
    "diff-lineage": ("diff", "models", 191, "--lineage", "artifact", 1),
    "lineage": ("lineage", "models", "artifact", 7),
    "lineage-limit": ("lineage", "models", "artifact", 1, "--direction", "both", "--limit", 5),
    "lineage-context": ("lineage", "models", "context", 2),
    "sql": ("sql", "models", "SELECT type, count(*) AS n FROM artifacts GROUP BY type ORDER BY 1"),
    "verify": ("verify", "models"),
    "import": ("import", PENGUIN_DATABASE.name, "STORE"),
    "demo": ("demo", "STORE"),
    "rebuild": ("rebuild", "models"),
    "erase": ("erase", "models", "artifact", 1, "--redact", "rows", "--who", *FOR_PRIVACY),
    "report": ("report", "models", "artifact", 1, "--no-verify", "--output", "FILE"),
    "export": ("export", "models", "FILE"),
    "key": ("key", "ana@example.com", "FILE"),
    "rotate": ("rotate", "checkpoint", "--key", "ana.key", "--to", "new.key"),
    "checkpoint": ("checkpoint", "models", "--key", "ana.key"),
    "prove": ("prove", "models", 3, "--checkpoint", "checkpoint", "--key", "ana.pub"),
    "prove-check": ("prove", "--check", "proof", "--key", "ana.pub"),
    "publish": ("publish", "tiles", "models", "FILE", "--checkpoint", "checkpoint", *BY_ANA),
    "audit": ("audit", "www", *BY_ANA),
    "cosign": ("cosign", "checkpoint", "--add", "cosigned", "--policy", "policy"),
    "wrong-kind": ("get", "models", "artefact", 1),
    "wrong-type": ("list", "models", "artifact", "--type", "Modl"),
    "wrong-command": ("linage", "models"),
    "missing-store": ("info", "missing"),
    "help": ("--help",),
    **{f"help-{name}": (name, "--help") for name in _COMMANDS},
    **{f"help-hold-{name}": ("hold", name, "--help") for name in ("place", "release", "list")},
    **{
        f"help-retention-{name}": ("retention", name, "--help")
        for name in ("rule", "withdraw", "list", "apply")
    },
    "hold-list": ("hold", "list", "models"),
    "hold-place": (
        "hold",
        "place",
        "models",
        "--entity",
        "artifact:7",
        "--basis",
        "C",
        "--dry-run",
    ),
    "retention-list": ("retention", "list", "models"),
}
# What differs from run to run, and what is shown in its place, at the same length.
CHANGING = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "2026-11-20T08:00:00.000000Z"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "2026-11-20T08:00:00.000Z"),
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "0" * 36),
    (r"\b[0-9a-f]{64}\b", "0" * 64),
    (r"(?<=\()[A-Za-z0-9+/]{43}=(?=\))", "H" * 43 + "="),
    (r"\b\d+\.\d [KM]iB\b", "99.0 KiB"),
    (r"\b\d+ bytes\b", "99999 bytes"),
    (r"(?<=ana@example.com\+)\S+", "0" * 53),
    (r"— ana@example.com \S+", "— ana@example.com SIGNATURE"),
    (r"^[A-Za-z0-9+/]{43}=$", "HEAD="),
    (r"^extra \S+$", "extra RECORD="),
    (r"— north.example \S+", "— north.example COSIGNATURE"),
    (r"python -m eventstore|\S*/eventstore(?= )", "eventstore"),
)
WORD = re.compile(r"\S+")


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workplace")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("LOGNAME", "ana")
        # Names of one length everywhere, since text is wrapped around them.
        shutil.copy(PENGUIN_DATABASE, folder)
        assert run("demo", "models").code == 0
        assert run("sql", "models", "FROM artifacts").code == 0
        (folder / "ana.pub").write_text(run("key", "ana@example.com", "ana.key").out)
        run("key", "ana@example.com", "new.key")
        signed = run("checkpoint", "models", "--key", "ana.key")
        (folder / "checkpoint").write_text(signed.out)
        proof = run("prove", "models", 3, "--checkpoint", "checkpoint", "--key", "ana.pub")
        (folder / "proof").write_text(proof.out)
        publishing = ("tiles", "models", "www", "--checkpoint", "checkpoint")
        assert run("publish", *publishing, *BY_ANA).code == 0
        witness = run("key", "north.example", "north.key", "--witness").out
        cosigned = run(
            *("cosign", "checkpoint", "--by", "north.key", "--key", "ana.pub", "--last", "last")
        )
        (folder / "cosigned").write_text(cosigned.out)
        (folder / "policy").write_text(f"witness north {witness}quorum north\n")
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_output_is_as_in_the_snapshot(
    name: str, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("LOGNAME", "ana")
    printed = {}
    for width in WIDTHS:
        # Of one length everywhere, since text is wrapped around it.
        place = f"new-{name}-{width or 0:03d}"
        done = run(
            *(place if word in ("STORE", "FILE") else word for word in COMMANDS[name]), width=width
        )
        text = f"exit {done.code}\n{done.out}"
        if done.err:
            text += f"on standard error:\n{done.err}"
        text = text.replace(place, "new")
        for pattern, standing in CHANGING:
            text = re.sub(pattern, standing, text, flags=re.MULTILINE)
        printed[width] = text
    for width, text in printed.items():
        assert _words(text) - _words(printed[None]) <= _words(printed[200]) | {"\\"}, width
        # Names of columns that are empty are left out where values stand below each other.
        header = _words(printed[None].split("\n")[1])
        assert _words(printed[None]) - header <= _words(text), width
    whole = "".join(
        f"===== {'a pipe' if width is None else f'{width} columns'}\n{text}"
        for width, text in printed.items()
    )
    snapshot = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("RENEW_SNAPSHOTS"):
        snapshot.write_text(whole)
    assert whole == snapshot.read_text()


def _words(text: str) -> set[str]:
    """The words, without the rules of tables and what joins lines in a pipe."""
    return {word.rstrip(";") for word in WORD.findall(text) if not set(word) <= {"─", ";"}}


def test_every_command_and_exit_code_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
    for name in _COMMANDS:
        assert f"`{name}`" in text or f"eventstore {name}" in text, name
    for code in (0, 1, 2, 3, 130, 141):
        assert f"| {code} |" in text
