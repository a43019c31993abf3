"""Which tests run which lines, and how long each takes: found by running each test file once.

What a test file ran is kept beside the text that it ran, so that a later run of this tool runs only
the test files that are new or changed. Lines that a changed source has moved are followed; a line
that was added since counts as run by whoever ran the lines around it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import msgspec
import pytest

_DATA_VARIABLE = "EVENTSTORE_COVERAGE_DATA"
_MEASURED = ("eventstore", "projections")

Lines = dict[str, dict[int, list[str]]]
"""Tests by file (relative to the project) and line."""


class FileRun(msgspec.Struct, frozen=True):
    """What one test file ran: `sources` are the texts that `lines` speaks of."""

    digest: bytes
    seconds: dict[str, float]
    sources: dict[str, str]
    lines: Lines


class CoverageMap(msgspec.Struct, frozen=True):
    """`seconds` by test; `tests` by file and line."""

    seconds: dict[str, float]
    tests: Lines

    def tests_of(self, path: Path, first_line: int, last_line: int) -> list[str]:
        """The tests that run any of the lines, the shortest first."""
        lines = self.tests.get(str(path), {})
        found: set[str] = set()
        for line in range(first_line, last_line + 1):
            found.update(lines.get(line, ()))
        return sorted(found, key=lambda test: (self.seconds.get(test, 0.0), test))

    def one_of_each_file(self) -> list[str]:
        """The shortest test of each test file."""
        shortest: dict[str, str] = {}
        for test in sorted(self.seconds, key=lambda test: self.seconds[test]):
            shortest.setdefault(test.partition("::")[0], test)
        return [*shortest.values()]

    def tests_of_file(self, path: Path) -> list[str]:
        """The tests that run anything of a file, the shortest first."""
        found = {test for tests in self.tests.get(str(path), {}).values() for test in tests}
        return sorted(found, key=lambda test: (self.seconds.get(test, 0.0), test))


def coverage_map(root: Path, folder: Path, chosen: Sequence[str], workers: int) -> CoverageMap:
    """The map of the test files in `chosen`; what they ran in `root` is kept in `folder`."""
    kept = folder / "coverage"
    kept.mkdir(parents=True, exist_ok=True)
    files = sorted({file for place in chosen for file in _test_files(root, root / place)})
    with ThreadPoolExecutor(workers) as executor:
        runs = list(executor.map(lambda file: _file_run(root, kept, file), files))
    seconds: dict[str, float] = {}
    tests: defaultdict[str, defaultdict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        seconds.update(run.seconds)
        for path, lines in _as_of_now(root, run).items():
            for line, names in lines.items():
                tests[path][line] += names
    return CoverageMap(seconds, {path: dict(lines) for path, lines in tests.items()})


def _test_files(root: Path, place: Path) -> list[Path]:
    paths = place.rglob("test_*.py") if place.is_dir() else [place]
    return [path.relative_to(root) for path in paths]


def _file_run(root: Path, kept: Path, file: Path) -> FileRun:
    """What a test file ran when it, and what it imports from its folder, were as they are now."""
    beside = [path for path in (root / file).parent.glob("*.py") if path.name[:5] != "test_"]
    texts = [path.read_bytes() for path in sorted([root / file, *beside])]
    digest = hashlib.sha256(b"\0".join(texts)).digest()
    data = kept / "-".join(file.with_suffix("").parts)
    known = data.with_suffix(".msgpack")
    if known.exists():
        run = msgspec.msgpack.decode(known.read_bytes(), type=FileRun)
        if run.digest == digest:
            return run
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", __name__]
    command += [f"--basetemp={data}-files", str(file)]
    environment = {**os.environ, _DATA_VARIABLE: str(data), "PYTHONPATH": str(root)}
    with open(data.with_suffix(".log"), "w") as output:
        ran = subprocess.run(command, cwd=root, env=environment, stdout=output, stderr=output)
    if ran.returncode == pytest.ExitCode.TESTS_FAILED:
        print(f"tests of {file} that fail without any change are left out: see {output.name}")
    elif ran.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise RuntimeError(f"{file} cannot be run: see {output.name}")
    run = _measured(root, data, digest)
    known.write_bytes(msgspec.msgpack.encode(run))
    return run


def _measured(root: Path, data: Path, digest: bytes) -> FileRun:
    from coverage import CoverageData

    durations = data.with_suffix(".seconds").read_bytes()
    seconds = msgspec.json.decode(durations, type=dict[str, float])
    found = CoverageData(str(data))
    found.read()
    sources: dict[str, str] = {}
    tests: Lines = {}
    for file in found.measured_files():
        relative = str(Path(file).resolve().relative_to(root.resolve()))
        sources[relative] = Path(file).read_text(encoding="utf-8")
        lines = tests.setdefault(relative, {})
        for line, contexts in found.contexts_by_lineno(file).items():
            lines.setdefault(line, []).extend(test for test in contexts if test in seconds)
    return FileRun(digest, seconds, sources, tests)


def _as_of_now(root: Path, run: FileRun) -> Lines:
    """The lines that were run, where the sources have them now."""
    now: Lines = {}
    for path, lines in run.lines.items():
        if not (root / path).exists():
            continue
        source, changed = run.sources[path], (root / path).read_text(encoding="utf-8")
        now[path] = lines if source == changed else _followed(lines, source, changed)
    return now


def _followed(lines: dict[int, list[str]], before: str, after: str) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    old, new = before.splitlines(), after.splitlines()
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    for what, first, last, new_first, new_last in matcher.get_opcodes():
        if what == "equal":
            for line in range(first, last):
                if line + 1 in lines:
                    found[line + 1 - first + new_first] = lines[line + 1]
        else:
            around = {test for line in range(first, last + 2) for test in lines.get(line, ())}
            for line in range(new_first, new_last):
                found[line + 1] = sorted(around)
    return found


class _Recorder:
    """A pytest plugin that notes the lines of each test under the test's name."""

    def __init__(self, data: Path) -> None:
        from coverage import Coverage

        root = Path.cwd()
        self._data = data
        self._seconds: dict[str, float] = {}
        self._failed: set[str] = set()
        self._coverage: Any = Coverage(
            data_file=str(data),
            source=[str(root / name) for name in _MEASURED],
            config_file=False,
        )
        self._coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._coverage.switch_context(item.nodeid)
        started = time.perf_counter()
        answer = yield
        self._seconds[item.nodeid] = time.perf_counter() - started
        return answer

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self._coverage.stop()
        self._coverage.save()
        for test in self._failed:
            self._seconds.pop(test, None)
        self._data.with_suffix(".seconds").write_bytes(msgspec.json.encode(self._seconds))


def pytest_configure(config: pytest.Config) -> None:
    """Record, where this module is named as a plugin."""
    data = os.environ.get(_DATA_VARIABLE)
    if data:
        config.pluginmanager.register(_Recorder(Path(data)), "mutation-coverage")
