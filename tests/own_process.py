"""Programs that run in a process of their own."""

from __future__ import annotations

import subprocess
import sys


def assert_runs(program: str, *arguments: object) -> None:
    """Assert that a program ends well and complains of nothing."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
