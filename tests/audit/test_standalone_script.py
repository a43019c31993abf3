"""The stand-alone verifier as the script that an auditor runs, without the package."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from eventstore.audit import SigningKey, standalone_verifier
from tests.builders import memory_store, put_types


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
