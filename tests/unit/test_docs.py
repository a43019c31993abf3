"""The examples of the documents run as they stand, each document's in one go.

Python runs in this process, shell commands between them; lines that install things are left out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```", re.DOTALL | re.MULTILINE)
DOCUMENTS = [
    path
    for path in (*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md")
    if _BLOCK.search(path.read_text(encoding="utf-8"))
]

_INSTALLATION = re.compile(r"^(pip|make) .*$", re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_examples_run(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = _BLOCK.findall(document.read_text(encoding="utf-8"))
    names: dict[str, object] = {"__name__": "__main__"}
    for language, text in blocks:
        if language == "python":
            exec(compile(text, document.name, "exec"), names)
        else:
            _run_in_shell(_INSTALLATION.sub("", text))


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
