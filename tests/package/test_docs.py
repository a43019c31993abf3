"""The examples of the documents run as they stand, each document's in one go.

Python runs in this process, and so do plain commands, which are slow to start; all else that is for
a shell runs in one between them. Lines that install things are left out.
The server that docs/server.md speaks of is there, on another port.
What needs an engine that pip does not install with the rest is skipped where that is missing.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

import eventstore
from tests.builders import memory_store
from tests.command_line.runner import run
from tests.server.serving import serving

ROOT = Path(__file__).parents[2]
SPARK = ROOT / ".spark"
_BLOCK = re.compile(r"^```(\S*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_TOGETHER = ("python", "sh")
"""What runs in one go; the other languages that are run have a test of their own."""
_RUN_APART = ("bash", "zsh", "fish", "sql")
_NOT_RUN = ("{eval-rst}", "", "yaml", "console", "py")
"""The last two go on until they are ended, or ask what does. tests/http_api has their like."""


def blocks(document: Path) -> list[tuple[str, str]]:
    return _BLOCK.findall(document.read_text(encoding="utf-8"))


def needs_spark(text: str) -> bool:
    return "spark" in text


ALL_DOCUMENTS = (*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md")))
DOCUMENTS = [
    path for path in ALL_DOCUMENTS if any(language in _TOGETHER for language, _ in blocks(path))
]

_PLAIN_COMMAND = re.compile(r"eventstore [^|<$`;&\\]+")
_INSTALLATION = re.compile(r"^(pip|make) .*$", re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_examples_run(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if document.name == "server.md":
        with memory_store() as store, serving(store._engine) as server:
            _run(document, f"port={server.port}")
    else:
        _run(document)


def _run(document: Path, port: str = "port=8080") -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    for language, text in blocks(document):
        if language == "python" and not needs_spark(text):
            exec(compile(text.replace("port=8080", port), document.name, "exec"), names)
        elif language == "sh":
            script = _INSTALLATION.sub("", text)
            lines = list(filter(None, script.splitlines()))
            if all(map(_PLAIN_COMMAND.fullmatch, lines)):
                for line in lines:
                    _run_plain_command(line)
            else:
                _run_in_shell(script)


def test_no_example_is_left_out() -> None:
    for document in ALL_DOCUMENTS:
        for language, text in blocks(document):
            assert language in (*_TOGETHER, *_RUN_APART, *_NOT_RUN), f"{document.name}: {text}"
            # What has no language is output, or how to call make.
            assert language or not re.search(r"^(import |eventstore |>>>)", text, re.MULTILINE)


def test_sparks_examples_run(tmp_path: Path) -> None:
    if not (SPARK / "pyspark").exists() or shutil.which("java") is None:
        pytest.skip("Spark or Java is not installed: make engines")
    program = tmp_path / "examples.py"
    documents = [
        [text for language, text in blocks(path) if language == "python"] for path in DOCUMENTS
    ]
    # In one program: Spark takes long to start.
    examples = (text for texts in documents if any(map(needs_spark, texts)) for text in texts)
    program.write_text("\n".join(examples), encoding="utf-8")
    (tmp_path / "spark-defaults.conf").write_text(
        "spark.master local[1]\nspark.ui.enabled false\nspark.sql.shuffle.partitions 1\n"
        # Compiling costs more than these few rows.
        "spark.sql.codegen.wholeStage false\n"
        "spark.driver.extraJavaOptions -XX:TieredStopAtLevel=1\n"
    )
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{SPARK}",
            "SPARK_CONF_DIR": str(tmp_path),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_LOCAL_DIRS": str(tmp_path / "spark"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_set_up_as_documented(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed: make engines")
    command = tmp_path / "eventstore"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m eventstore "$@"\n')
    command.chmod(0o755)
    (example,) = (text for name, text in blocks(ROOT / "docs/command-line.md") if name == shell)
    script = {
        "bash": f"{example}complete -p eventstore",
        "zsh": f"autoload -Uz compinit && compinit -D\n{example}echo $_comps[eventstore]",
        "fish": f"{example}complete -c eventstore",
    }[shell]
    done = subprocess.run(
        [program, "-c", script],
        env={
            **os.environ,
            "HOME": str(tmp_path),
            "PYTHONPATH": str(ROOT),
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert "_eventstore_completion" in done.stdout, done.stderr


def test_the_query_of_the_format_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with eventstore.open("my-store") as store:
        for accuracy in (0.89, 0.93):
            with store.run("Trainer") as run:
                run.output("Model", name=f"model {accuracy}", accuracy=accuracy)
            store.seal()
    (query,) = (text for language, text in blocks(ROOT / "FORMAT.md") if language == "sql")
    found = duckdb.sql(query).project("name, accuracy").distinct()
    assert found.fetchall() == [("model 0.93", 0.93)]


def _run_plain_command(line: str) -> None:
    _, *words = shlex.split(line, comments=True)
    file = None
    if ">" in words:
        *words, _, file = words
    done = run(*words)
    assert done.code == 0, f"{line}\n{done.out}\n{done.err}"
    if file is not None:
        Path(file).write_text(done.out, encoding="utf-8")


def _run_in_shell(script: str) -> None:
    python = f'python() {{ "{sys.executable}" "$@"; }}'
    command = f'{python}\neventstore() {{ python -m eventstore "$@"; }}\n{script}'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
