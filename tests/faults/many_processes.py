"""Many processes share one store, and are killed and stopped at any moment; then all is checked.

Run as a process: it imports everything once and forks for every worker. The line that it prints at
the end is what it counted and found, as JSON.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.builders import open_with
from tests.faults.layer import REPOSITORY
from tests.faults.operations import import_once
from tests.faults.part import Outcome, Report
from tests.faults.shared_store import put_types
from tests.faults.shared_store_check import Check
from tests.faults.shared_store_worker import THREADS, Worker, dump_stacks_on_signal

KILLS = int(os.environ.get("EVENTSTORE_KILLS", "500"))
STRESS_SECONDS = float(os.environ.get("EVENTSTORE_STRESS_SECONDS", "60"))

WRITERS = 4
_READER, _COPIER = WRITERS, WRITERS + 1

SILENCE_SECONDS_MAX = 120
"""Workers that tell of no progress for so long hang."""

_CHECK_SECONDS_MAX = 1_200
_STOPPED_TURNS = 3
"""For how many turns of the reader a stopped writer stays stopped."""


def kills(report: Report) -> Outcome:
    """Kill processes at any moment, and start others in their place."""
    return run(report, kills=KILLS)


def stress(report: Report) -> Outcome:
    """Let all of them work at once."""
    return run(report, seconds=STRESS_SECONDS)


def run(report: Report, *, kills: int = 0, seconds: float = 0, seed: int | None = None) -> Outcome:
    """Until that many were killed, or for that long; in a process of its own."""
    seed = random.randrange(1 << 32) if seed is None else seed
    report(f"seed {seed}")
    arguments = [str(kills), str(seconds), str(seed)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.many_processes", *arguments],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        cwd=REPOSITORY,
        text=True,
    )
    assert process.stdout is not None
    outcome = Outcome()
    last = ""
    with process.stdout:
        for line in process.stdout:
            if last:
                report(last.rstrip())
            last = line
    if process.wait():
        outcome.complaints.append(f"the process of seed {seed} died: {process.returncode}")
        return outcome
    found = json.loads(last)
    outcome.counts |= found["counts"]
    outcome.complaints += [f"seed {seed}: {line}" for line in found["complaints"]]
    return outcome


class Band:
    """The processes that share a store, and how far they are."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.seed = root, seed
        self.rng = random.Random(seed)
        self.outcome = Outcome()
        self.complaints = self.outcome.complaints
        self._progress, self._told = os.pipe()
        os.set_blocking(self._told, False)
        self._running: dict[int, int] = {}
        self._lives: Counter[int] = Counter()
        for name in ("told", "stacks", "backups", "tmp"):
            (root / name).mkdir()

    def start(self, number: int) -> None:
        self._lives[number] += 1
        worker = (number, self._lives[number])

        def work() -> None:
            os.close(self._progress)
            dump_stacks_on_signal(self.root / "stacks" / "-".join(map(str, worker)))
            life = Worker(self.root, *worker, self._told, self.seed)
            (
                life.back_up
                if number == _COPIER
                else life.read
                if number == _READER
                else life.write
            )()

        # Not before the worker can take it.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        self._running[number] = forked(work)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])

    def start_all(self) -> None:
        for number in range(WRITERS + 2):
            self.start(number)

    def turns(self) -> bytes:
        """Wait for turns to end; a byte for each. Empty when there were none for too long."""
        if not select.select([self._progress], [], [], SILENCE_SECONDS_MAX)[0]:
            self._say_that_it_hangs()
            return b""
        return os.read(self._progress, 65536)

    def wait_for(self, turns: int, of: int | None = None) -> bool:
        """Wait for a number of turns of one process, or of any; False when that takes too long."""
        waiting_until = time.monotonic() + SILENCE_SECONDS_MAX
        while turns > 0:
            ended = self.turns()
            if not ended:
                return False
            turns -= sum(of is None or turn // THREADS == of for turn in ended)
            if turns > 0 and time.monotonic() > waiting_until:
                self._say_that_it_hangs()
                return False
        return True

    def kill(self) -> None:
        """Kill a process, at times one that is stopped, and start another."""
        number = self.rng.randrange(WRITERS + 2)
        if number >= WRITERS and self.rng.random() < 0.5:
            number = self.rng.randrange(WRITERS)
        self._kill(number)

    def stop(self) -> bool:
        """Stop a writer wherever it is; reads go on meanwhile. False when they do not."""
        number = self.rng.randrange(WRITERS)
        os.kill(self._running[number], signal.SIGSTOP)
        self.outcome.count("stops")
        goes_on = self.wait_for(_STOPPED_TURNS, of=_READER)
        if not goes_on:
            self.complaints.append(f"no read ends while writer {number} is stopped")
        if self.rng.random() < 0.25:
            self.outcome.count("kills of stopped ones")
            self._kill(number)
        else:
            os.kill(self._running[number], signal.SIGCONT)
        return goes_on

    def look_for_dead(self) -> None:
        for number, pid in list(self._running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self.complaints.append(f"process {number} ended by itself with {status}")
                self.start(number)

    def end(self) -> None:
        """Let all end their turns, and their children, too."""
        os.close(self._told)
        for pid in self._running.values():
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGTERM)
        # Closed by the last process that has it.
        while self.turns():
            pass
        for number, pid in list(self._running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended and _is_dead(pid):
                ended, status = os.waitpid(pid, 0)
            if not ended:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            elif status:
                self.complaints.append(f"process {number} ended with {status}")

    def _kill(self, number: int) -> None:
        os.kill(self._running[number], signal.SIGKILL)
        os.waitpid(self._running[number], 0)
        self.outcome.count("kills")
        self.start(number)

    def _say_that_it_hangs(self) -> None:
        """Add the stacks of all threads to the complaints."""
        self.complaints.append(f"no turn ended for {SILENCE_SECONDS_MAX} s")
        for number, pid in self._running.items():
            stacks = self.root / "stacks" / f"{number}-{self._lives[number]}"
            os.kill(pid, signal.SIGUSR1)
            os.kill(pid, signal.SIGCONT)
            waiting_until = time.monotonic() + 5
            while time.monotonic() < waiting_until and not stacks.read_text():
                select.select([], [], [], 0.1)
            self.complaints.append(f"process {number}:\n{stacks.read_text()}")


def _is_dead(pid: int) -> bool:
    """Whether a child that has closed its files is gone, too, or goes shortly."""
    waiting_until = time.monotonic() + 10
    while time.monotonic() < waiting_until:
        with contextlib.suppress(ChildProcessError):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return True
        select.select([], [], [], 0.02)
    return False


def forked(work: Callable[[], None]) -> int:
    """The id of a process that does one thing."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def checked(root: Path) -> dict[str, Any]:
    """What the check of a store finds, in a process of its own."""
    found = root / "found"

    def check() -> None:
        signal.alarm(_CHECK_SECONDS_MAX)
        work = Check(root)
        try:
            work.all()
        except Exception as error:
            import traceback

            traceback.print_exc()
            work.complain(f"the check raised {type(error).__name__}: {error}")
        outcome = work.outcome
        found.write_text(json.dumps({"counts": outcome.counts, "complaints": outcome.complaints}))

    status = os.waitstatus_to_exitcode(os.waitpid(forked(check), 0)[1])
    if status:
        return {"counts": {}, "complaints": [f"checking died: {status}"]}
    result: dict[str, Any] = json.loads(found.read_text())
    return result


def main(kills: str, seconds: str, seed: str) -> None:
    logging.disable(logging.CRITICAL)
    import_once()
    root = Path(tempfile.mkdtemp(prefix="eventstore-many-")).resolve()
    band = Band(root, int(seed))
    os.environ["TMPDIR"] = tempfile.tempdir = str(root / "tmp")
    os.waitpid(forked(lambda: _create(root / "store")), 0)
    band.start_all()
    _strike(band, int(kills), float(seconds))
    band.end()
    result = checked(root)
    outcome = band.outcome
    for what, number in result["counts"].items():
        outcome.count(what, number)
    outcome.complaints += result["complaints"]
    if not outcome.complaints or not os.environ.get("EVENTSTORE_KEEP"):
        shutil.rmtree(root)
    print(json.dumps({"counts": outcome.counts, "complaints": outcome.complaints}))


def _create(path: Path) -> None:
    with open_with(path, tail_records_max=250, closing_records_min=1) as store:
        put_types(store)


def _strike(band: Band, kills: int, seconds: float) -> None:
    """Kill and stop as often as told, or let all work for a time."""
    ending = time.monotonic() + seconds
    while time.monotonic() < ending:
        turns = band.turns()
        if not turns:
            return
        band.outcome.count("turns", len(turns))
        band.look_for_dead()
    while band.outcome.counts.get("kills", 0) < kills:
        pause = band.rng.choice([0, 0, 0, 1, 1, 2, 4, 8, 30])
        if not band.wait_for(pause):
            return
        band.look_for_dead()
        if band.rng.random() < 0.15:
            if not band.stop():
                return
        else:
            band.kill()
            done = band.outcome.counts["kills"]
            if done % 50 == 0:
                print(f"{done} kills", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
