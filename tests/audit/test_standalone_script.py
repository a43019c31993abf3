"""The stand-alone verifier as the script that an auditor runs, without the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from eventstore.audit import SigningKey, standalone_verifier
from tests.builders import memory_store, put_types

FULL = Path("/dev/full")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The script, and what an odd name has signed."""
    key = SigningKey("ana\U0001f600\x9b31m", bytes(range(32)))
    with memory_store() as store:
        put_types(store)
        (tmp_path / "checkpoint").write_text(store.checkpoint(key).text, "utf-8")
    (tmp_path / "key").write_text(str(key.verifier_key), "utf-8")
    shutil.copy(standalone_verifier.__file__, tmp_path / "verifier.py")
    return tmp_path


def ran(folder: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    return subprocess.run(
        [sys.executable, "verifier.py", *arguments],
        **{"cwd": folder, "env": environment, "stderr": subprocess.PIPE, **options},
        check=False,
    )


def test_what_names_hold_is_escaped_whatever_the_terminal_shows(files: Path) -> None:
    checked = ran(files, "checkpoint", "checkpoint", "key", stdout=subprocess.PIPE)
    assert (checked.returncode, checked.stderr) == (0, b"")
    assert checked.stdout.startswith(b"holds: ana\\U0001f600\\x9b31m signed on ")
    text = (files / "checkpoint").read_text("utf-8").replace("signed-at 2", "signed-at 1")
    (files / "checkpoint").write_text(text, "utf-8")
    checked = ran(files, "checkpoint", "checkpoint", "key", stdout=subprocess.PIPE)
    assert checked.stdout == (
        b"REFUSED: the signature by ana\\U0001f600\\x9b31m is not of this text\n"
    )
    folder = os.fsdecode(b"\x1b[31m\xff")
    (files / folder).mkdir()
    checked = ran(files, "tiles", folder, "key", stdout=subprocess.PIPE)
    assert checked.stdout == b"REFUSED: \\x1b[31m\\udcff lacks checkpoint\n"


@pytest.mark.skipif(not FULL.exists(), reason="there is no device that is always full")
def test_an_answer_that_cannot_be_written_is_none(files: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with FULL.open("wb") as full, open(writing, "wb") as closed:
        for stdout in (full, closed):
            for arguments in (("checkpoint", "checkpoint", "key"), ("--help",)):
                checked = ran(files, *arguments, stdout=stdout)
                assert checked.returncode == 2
                assert checked.stderr.startswith(b"CANNOT CHECK: the answer cannot be written: ")
                assert checked.stderr.count(b"\n") == 1
        assert ran(files, "nothing", stdout=full, stderr=full).returncode == 2


@pytest.mark.parametrize(
    ("changed", "code", "words"),
    [(False, 0, "holds:"), (True, 1, "REFUSED:"), (None, 2, "CANNOT CHECK:")],
)
def test_it_ends_with_its_answer(
    tmp_path: Path, changed: bool | None, code: int, words: str
) -> None:
    key = SigningKey("ana", bytes(range(32)))
    with memory_store() as store:
        put_types(store)
        text = store.checkpoint(key).text
    script = shutil.copy(standalone_verifier.__file__, tmp_path / "verifier.py")
    (tmp_path / "key").write_text(str(key.verifier_key))
    if changed is not None:
        (tmp_path / "checkpoint").write_text(
            text.replace("\ncommit ", "\ncommit 1") if changed else text
        )
    ran = subprocess.run(
        [sys.executable, "-I", script, "checkpoint", "checkpoint", "key"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == code
    assert (ran.stderr if code == 2 else ran.stdout).startswith(words)
