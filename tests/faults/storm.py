"""Processes share a store that a server keeps, which is killed and started again and again.

`python -m tests.faults.storm [SERVER…] --seconds 60`, or as a part of `make torture`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

import eventstore
from tests.faults.layer import REPOSITORY
from tests.faults.part import Outcome, Report
from tests.faults.shared_store import put_types
from tests.faults.shared_store_check import Check
from tests.faults.storm_worker import opened, uri_of
from tests.lossy_proxy import Fate, LossyProxy
from tests.object_servers import AzuriteOnDisk, Moto, running_objects
from tests.sql_servers import running

SECONDS = float(os.environ.get("EVENTSTORE_STORM_SECONDS", "60"))
PROCESSES = 4
_ENDED_WITHIN_SECONDS = 120

_LONG_PAUSE_SECONDS = 15.0
"""Once the server is away for longer than anybody waits for it, if there is time for that."""


class Struck(NamedTuple):
    """A server that is there, by the URL of a store, and what ends it and brings it back."""

    url: str
    kill: Callable[[], None]
    start: Callable[[], None]


@contextlib.contextmanager
def sql_server(name: str) -> Iterator[Struck]:
    with running(name) as server:
        yield Struck(server.url(server.new_database()), server.kill, server.start)


@contextlib.contextmanager
def s3() -> Iterator[Struck]:
    """What is killed is the way to the server, which would forget all."""
    with (
        _in_environment(Moto.environment),
        running_objects(Moto) as server,
        LossyProxy(server.port) as proxy,
    ):
        url = server.url(server.new_prefix(), port=proxy.port)
        yield Struck(url, lambda: _cut_in_a_put(proxy), proxy.start)


@contextlib.contextmanager
def azure() -> Iterator[Struck]:
    """First the way to the server, then the server, which has to write its index as it stops."""
    with _in_environment(AzuriteOnDisk.environment), running_objects(AzuriteOnDisk) as server:
        assert isinstance(server, AzuriteOnDisk)
        with LossyProxy(server.port) as proxy:

            def kill() -> None:
                _cut_in_a_put(proxy)
                server.stop()

            def start() -> None:
                server.start()
                proxy.start()

            yield Struck(server.url(server.new_prefix(), port=proxy.port), kill, start)


SERVERS = {
    "postgresql": lambda: sql_server("postgresql"),
    "mariadb": lambda: sql_server("mariadb"),
    "s3": s3,
    "azure": azure,
}


def storm(report: Report) -> Outcome:
    """Strike each of the servers for a time."""
    whole = Outcome()
    for name in SERVERS:
        try:
            outcome = run(report, name, seconds=SECONDS)
        except pytest.skip.Exception as missing:
            report(f"{name}: {missing}")
            continue
        report(_line(name, outcome))
        for what, number in outcome.counts.items():
            whole.count(f"{what} on {name}", number)
        whole.complaints += outcome.complaints
    return whole


def run(
    report: Report,
    name: str,
    *,
    seconds: float,
    processes: int = PROCESSES,
    seed: int | None = None,
) -> Outcome:
    """What a store on a server goes through in a time, and how it is afterwards."""
    seed = random.randrange(1 << 32) if seed is None else seed
    report(f"{name}: seed {seed}, load {os.getloadavg()[0]:.1f}")
    root = Path(tempfile.mkdtemp(prefix="eventstore-storm-")).resolve()
    (root / "told").mkdir()
    with SERVERS[name]() as server:
        with contextlib.closing(opened(server.url, root / "cache")) as store:
            put_types(store)
        check = StormCheck(root, lambda: opened(server.url, root / "cache"))
        with ExitStack() as workers:
            for number in range(processes):
                workers.enter_context(_working(root, server.url, number, seed, check))
            restarts = _strike(server, seconds, random.Random(seed))
        check.read_told()
        check.outcome.count("restarts", restarts)
        puts = sum("put" in line or "one" in line for line in check.lines)
        report(f"{name}: {puts / seconds:.1f} puts a second, load {os.getloadavg()[0]:.1f}")
        check.store()
    if check.outcome.complaints:
        report(f"kept: {root}")
    else:
        shutil.rmtree(root)
    check.outcome.complaints[:] = [f"{name}, seed {seed}: {c}" for c in check.outcome.complaints]
    return check.outcome


class StormCheck(Check):
    """And what is known of puts that failed."""

    def _hold_log(self, store: eventstore.MetadataStore) -> None:
        super()._hold_log(store)
        keys = {name[2:] for _, name in self.names}
        for line in self.lines:
            if line.get("refused") in keys:
                self.complain(f"put {line['refused']} was said not to be there")
            for told, least, most in (("one", 1, 1), ("unknown_one", 0, 1), ("refused_one", 0, 0)):
                if told in line and not least <= self.uris[uri_of(line[told])] <= most:
                    found = self.uris[uri_of(line[told])]
                    self.complain(f"{line}: it is there {found} times")
                if told == "one" and told in line:
                    self.outcome.count("acknowledged puts")


@contextlib.contextmanager
def _working(root: Path, url: str, number: int, seed: int, check: Check) -> Iterator[None]:
    """A process that works until the end of the block."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.faults.storm_worker"),
            *(str(root), url, str(number), str(seed)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        cwd=REPOSITORY,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        # Who has never seen a server does not wait for it.
        process.stdout.readline()
        yield
        process.stdin.close()
        if process.wait(_ENDED_WITHIN_SECONDS):
            check.complain(f"process {number} ended with {process.returncode}")
    except subprocess.TimeoutExpired:
        check.complain(f"process {number} did not end within {_ENDED_WITHIN_SECONDS} s")
    finally:
        process.kill()
        process.wait()


def _strike(server: Struck, seconds: float, rng: random.Random) -> int:
    """Kill and start the server again and again; how often."""
    began, restarts = time.monotonic(), 0
    is_long_due = seconds > 3 * _LONG_PAUSE_SECONDS
    while True:
        time.sleep(rng.uniform(0.2, 1) * min(5, seconds / 3))
        passed = time.monotonic() - began
        if passed > seconds:
            return restarts
        server.kill()
        if is_long_due and passed > seconds / 2:
            is_long_due = False
            time.sleep(_LONG_PAUSE_SECONDS)
        else:
            time.sleep(rng.choice([0, 0, 0.3, 1, 2]))
        server.start()
        restarts += 1


def _cut_in_a_put(proxy: LossyProxy) -> None:
    """End a proxy between a put's request and its answer, or before either."""
    is_met = threading.Event()

    def fate(data: bytes) -> Fate:
        if not data.startswith(b"PUT "):
            return "passed"
        is_met.set()
        return "unanswered"

    proxy.fate = fate
    is_met.wait(timeout=1)
    proxy.close()
    proxy.fate = lambda _: "passed"


@contextlib.contextmanager
def _in_environment(variables: dict[str, str]) -> Iterator[None]:
    """Variables that this process and its children have meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _line(name: str, outcome: Outcome) -> str:
    counts = ", ".join(f"{number:,} {what}" for what, number in outcome.counts.items())
    return f"{name}: {counts}; {len(outcome.complaints)} complaints"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.storm", description=__doc__)
    parser.add_argument("server", nargs="*", choices=[*SERVERS, []], help="all if none is named")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args()
    broken = 0
    for name in arguments.server or SERVERS:
        outcome = run(print, name, seconds=arguments.seconds, seed=arguments.seed)
        print(*outcome.complaints, _line(name, outcome), sep="\n", flush=True)
        broken += len(outcome.complaints)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
