"""Which tests run which lines, and how long each test takes: found by running the suite once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

_DATA_VARIABLE = "EVENTSTORE_COVERAGE_DATA"
_MEASURED = ("eventstore", "projections")


class CoverageMap(msgspec.Struct, frozen=True):
    """`seconds` by test; `tests` by file (relative to the project) and line."""

    seconds: dict[str, float]
    tests: dict[str, dict[int, list[str]]]

    def tests_of(self, path: Path, first_line: int, last_line: int) -> list[str]:
        """The tests that run any of the lines, the shortest first."""
        lines = self.tests.get(str(path), {})
        found: set[str] = set()
        for line in range(first_line, last_line + 1):
            found.update(lines.get(line, ()))
        return sorted(found, key=lambda test: (self.seconds.get(test, 0.0), test))

    def tests_of_file(self, path: Path) -> list[str]:
        """The tests that run anything of a file, the shortest first."""
        found = {test for tests in self.tests.get(str(path), {}).values() for test in tests}
        return sorted(found, key=lambda test: (self.seconds.get(test, 0.0), test))


def coverage_map(root: Path, folder: Path, workers: int) -> CoverageMap:
    """Run the suite in `root` once; what it found is kept in `folder` for the next call."""
    kept = folder / "coverage-map.msgpack"
    if kept.exists():
        return msgspec.msgpack.decode(kept.read_bytes(), type=CoverageMap)
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(str(path.relative_to(root)) for path in root.glob("tests/**/test_*.py"))
    running = []
    for worker in range(workers):
        data = folder / f"coverage-{worker}"
        command = [sys.executable, "-m", "pytest", "-q", "-p", __name__, *files[worker::workers]]
        environment = {**os.environ, _DATA_VARIABLE: str(data), "PYTHONPATH": str(root)}
        with open(folder / f"coverage-{worker}.log", "w") as output:
            running.append(
                subprocess.Popen(command, cwd=root, env=environment, stdout=output, stderr=output)
            )
    for process in running:
        process.wait()
    found = _combined(root, [folder / f"coverage-{worker}" for worker in range(workers)])
    kept.write_bytes(msgspec.msgpack.encode(found))
    return found


def _combined(root: Path, measured: list[Path]) -> CoverageMap:
    from coverage import CoverageData

    seconds: dict[str, float] = {}
    tests: defaultdict[str, dict[int, list[str]]] = defaultdict(dict)
    real_root = root.resolve()
    for path in measured:
        durations = path.with_suffix(".seconds")
        seconds.update(msgspec.json.decode(durations.read_bytes(), type=dict[str, float]))
        data = CoverageData(str(path))
        data.read()
        for file in data.measured_files():
            relative = str(Path(file).resolve().relative_to(real_root))
            lines = tests[relative]
            for line, contexts in data.contexts_by_lineno(file).items():
                lines.setdefault(line, []).extend(context for context in contexts if context)
    return CoverageMap(seconds, dict(tests))


class _Recorder:
    """A pytest plugin that notes the lines of each test under the test's name."""

    def __init__(self, data: Path) -> None:
        from coverage import Coverage

        root = Path.cwd()
        self._data = data
        self._seconds: dict[str, float] = {}
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

    def pytest_sessionfinish(self) -> None:
        self._coverage.stop()
        self._coverage.save()
        self._data.with_suffix(".seconds").write_bytes(msgspec.json.encode(self._seconds))


def pytest_configure(config: pytest.Config) -> None:
    """Record, where this module is named as a plugin."""
    data = os.environ.get(_DATA_VARIABLE)
    if data:
        config.pluginmanager.register(_Recorder(Path(data)), "mutation-coverage")
