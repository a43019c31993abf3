"""The command line at a real terminal, interrupted, in closed pipes, and without its extras."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import eventstore
from tests.command_line.runner import ENVIRONMENT, program, run


@pytest.fixture
def store(tmp_path: Path) -> Path:
    directory = tmp_path / "store"
    with eventstore.open(directory, actor="ana") as opened:
        for name in "abc":
            opened.put_artifact_type(eventstore.proto.ArtifactType(name=name))
            opened.seal()
    return directory


def test_a_real_terminal_of_60_columns(store: Path) -> None:
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    environment = {k: v for k, v in ENVIRONMENT.items() if k != "COLUMNS"}
    with subprocess.Popen(
        program("log", store), stdout=child, stderr=child, env=environment
    ) as process:
        os.close(child)
        printed = b""
        try:
            while part := os.read(parent, 65536):
                printed += part
        except OSError:
            # A terminal without a program ends so.
            pass
        os.close(parent)
    assert process.returncode == 0
    lines = printed.decode().splitlines()
    assert lines[0].startswith("\x1b[1mRecords of")
    assert "recorded at" in printed.decode()
    assert all(len(line) <= 60 or " " not in line.strip() for line in lines[1:])


def test_an_interrupt_is_one_line_and_ends_the_workers(store: Path, tmp_path: Path) -> None:
    script = tmp_path / "interrupted.py"
    script.write_text(
        "import os, signal, sys\n"
        "from eventstore.cli import main\n"
        "from eventstore.log import verification\n"
        "verification._PARALLEL_RECORDS_MIN = 1\n"
        "started, started_before = verification._worker_process, []\n"
        "def noting():\n"
        "    process = started()\n"
        "    os.write(2, b'%d\\n' % process.pid)\n"
        "    os.kill(process.pid, signal.SIGSTOP)\n"
        "    if not started_before:\n"
        "        started_before.append(process)\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return process\n"
        "verification._worker_process = noting\n"
        "sys.argv = ['eventstore', 'verify', sys.argv[1]]\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, script, store], capture_output=True, text=True, env=ENVIRONMENT, timeout=60
    )
    *workers, said = done.stderr.splitlines()
    assert (done.returncode, done.stdout, said) == (130, "", "eventstore: interrupted")
    assert workers
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(int(worker), 0)


def test_tail_ends_with_an_interrupt(store: Path) -> None:
    with subprocess.Popen(
        program("tail", store, "--after", 0),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("commit 1 at ")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "eventstore: interrupted\n")


def test_a_reader_that_has_enough_is_no_error(store: Path) -> None:
    with subprocess.Popen(
        program("tail", store, "--after", 0),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        with eventstore.open(store) as opened:
            for number in range(3):
                name = f"later {number}"
                opened.put_artifact_type(eventstore.proto.ArtifactType(name=name))
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize(
    ("package", "extra", "arguments"),
    [
        ("cryptography", "audit", ("key", "ana", "KEY")),
        ("cryptography", "audit", ("checkpoint", "STORE", "--key", "FILE")),
        ("cryptography", "audit", ("prove", "--check", "PROOF", "--key", "FILE")),
        ("cryptography", "audit", ("verify", "STORE", "--checkpoint", "SIGNED", "--key", "FILE")),
        ("jinja2", "audit", ("report", "STORE", "artifact", "1", "--output", "-", "--no-verify")),
    ],
)
def test_a_missing_extra_is_one_line_with_the_command_that_installs_it(
    package: str, extra: str, arguments: tuple[str, ...], store: Path, tmp_path: Path
) -> None:
    from eventstore.audit import SigningKey

    file, signed, proof = (tmp_path / name for name in ("file", "signed", "proof"))
    key = SigningKey.generate("ana")
    with eventstore.open(store) as opened:
        (type_id,) = [t.id for t in opened.get_artifact_types() if t.name == "a"]
        opened.put_artifacts([eventstore.proto.Artifact(type_id=type_id)])
        checkpoint = opened.checkpoint(key)
        signed.write_text(checkpoint.text)
        proof.write_text(opened.prove(3, checkpoint).to_text())
    file.write_text(key.text() if arguments[0] == "checkpoint" else str(key.verifier_key))
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from eventstore.cli import main; sys.argv[0] = 'eventstore'; main()"
    )
    places = {
        "STORE": str(store),
        "FILE": str(file),
        "SIGNED": str(signed),
        "PROOF": str(proof),
        "KEY": str(tmp_path / "key"),
    }
    given = [places.get(word, word) for word in arguments]
    done = subprocess.run(
        [sys.executable, "-c", code, *given], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("eventstore: ")
    assert f"pip install 'mlmd-eventstore[{extra}]'" in line
    helped = subprocess.run(
        [sys.executable, "-c", code, given[0], "--help"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    assert (helped.returncode, helped.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_a_full_disk_is_one_line(store: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            program("info", store), stdout=full, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
        )
    assert done.returncode == 1
    assert done.stderr == "eventstore: writing the result failed: No space left on device\n"


@pytest.mark.parametrize("query", ["SELECT 1 AS a", "FROM artifacts"])
def test_nothing_is_said_that_is_no_note(query: str, store: Path) -> None:
    done = subprocess.run(
        program("sql", store, query, "--csv"), capture_output=True, text=True, env=ENVIRONMENT
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_completion_knows_commands_and_kinds(store: Path) -> None:
    for words, last, completed in (
        ("eventstore li", 1, {"lineage", "list"}),
        (f"eventstore get {store} art", 3, {"artifact", "artifact_type"}),
    ):
        environment = {
            **ENVIRONMENT,
            "_EVENTSTORE_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(last),
        }
        code = "import sys; sys.argv = ['eventstore']; from eventstore.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment
        )
        assert {line.partition(",")[2] for line in done.stdout.splitlines()} == completed


def test_results_go_into_files_that_are_whole_or_not_there(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    query = "SELECT name FROM types ORDER BY id DESC LIMIT 1"
    assert run("sql", store, query, "--csv", "--output", file).code == 0
    assert file.read_text() == '"name"\n"c"\n'
    refused = run("sql", store, "SELECT 1", "--csv", "--output", file)
    assert (refused.code, refused.out) == (1, "")
    assert "say --force" in refused.err
    assert run("sql", store, "SELECT 1 AS a", "--csv", "--output", file, "--force").code == 0
    assert file.read_text() == '"a"\n1\n'
    assert run("sql", store, "SELECT 1 AS a", "--csv", "--output", "-").out == '"a"\n1\n'
    assert run("sql", store, "-", "--csv", stdin="SELECT 2 AS b").out == '"b"\n2\n'
    (tmp_path / "query.sql").write_text("SELECT 3 AS c")
    assert run("sql", store, "--file", tmp_path / "query.sql", "--csv").out == '"c"\n3\n'
    assert run("sql", store, "SELECT 1", "--output", "/dev/null", "--force").code == 0
    assert not Path("/dev/null").is_file()
    assert [path.name for path in tmp_path.glob(".*")] == []
