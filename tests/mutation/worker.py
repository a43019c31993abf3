"""A process that has imported everything but the project, and forks once for each mutant."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from enum import Enum
from pathlib import Path

import msgspec

from tests.mutation.mutants import Mutant

_FAR_FUTURE = 4_000_000_000


class Outcome(Enum):
    """What became of a mutant; the last two are survivors."""

    KILLED = "killed"
    TIMED_OUT = "killed by the clock"
    SURVIVED = "survived"
    UNTESTED = "untested"


class Worker:
    """One copy of the project, and the process that runs tests in it."""

    def __init__(self, copy: Path, log: Path) -> None:
        self._copy = copy
        self._changes = 0
        # The server is this checkout's; what it forks imports the copy.
        self._log = open(log, "w")  # noqa: SIM115
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.mutation.worker", str(copy)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": str(copy)},
            cwd=copy,
        )

    def check(self, tests: list[str], seconds: float) -> None:
        """Raise RuntimeError unless tests pass as long as nothing is changed."""
        if self._run(tests, seconds) is not Outcome.SURVIVED:
            raise RuntimeError(f"tests fail without any change: see {self._log.name}")

    def judge(self, mutant: Mutant, tests: list[str], seconds: float) -> Outcome:
        """Run tests on the mutant until one fails."""
        path = self._copy / mutant.path
        source = path.read_text(encoding="utf-8")
        self._write(path, mutant.applied(source))
        try:
            return self._run(tests, seconds)
        finally:
            self._write(path, source)

    def _write(self, path: Path, source: str) -> None:
        path.write_text(source, encoding="utf-8")
        # Compiled code is told from old by the time of change, which is too coarse for this.
        self._changes += 1
        changed = _FAR_FUTURE + self._changes
        os.utime(path, (changed, changed))

    def _run(self, tests: list[str], seconds: float) -> Outcome:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(msgspec.json.encode([tests, seconds]) + b"\n")
        self._server.stdin.flush()
        answer = self._server.stdout.readline()
        if not answer:
            raise RuntimeError(f"the worker of {self._copy} died: see its log")
        return Outcome(msgspec.json.decode(answer))

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()
        self._log.close()


def _serve(copy: str) -> None:
    import click  # noqa: F401
    import duckdb  # noqa: F401
    import hypothesis  # noqa: F401
    import pytest  # noqa: F401
    import sqlglot  # noqa: F401
    from google.protobuf import json_format, struct_pb2  # noqa: F401

    os.chdir(copy)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        tests, seconds = msgspec.json.decode(line, type=tuple[list[str], float])
        outcome = _forked(tests, seconds)
        answers.write(msgspec.json.encode(outcome.value) + b"\n")
        answers.flush()


def _forked(tests: list[str], seconds: float) -> Outcome:
    child = os.fork()
    if child == 0:
        os.setsid()
        code = _tested(tests)
        sys.stdout.flush()
        os._exit(code)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            _end_group(child)
            return Outcome.SURVIVED if status == 0 else Outcome.KILLED
        time.sleep(0.02)
    _end_group(child)
    os.waitpid(child, 0)
    return Outcome.TIMED_OUT


def _end_group(child: int) -> None:
    try:
        os.killpg(child, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _tested(tests: list[str]) -> int:
    import pytest

    for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "eventstore")]:
        del sys.modules[name]
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    # Of its own, since pytest removes the older ones of all that are at their temporary files.
    options.append("--basetemp=build/tested")
    # Warnings are errors, and what was imported in advance is one.
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    try:
        # A test that is not collected any more counts as failed.
        return int(pytest.main([*options, *tests]))
    except BaseException:
        traceback.print_exc()
        return 70


if __name__ == "__main__":
    _serve(sys.argv[1])
