"""Change the code in one place at a time, and see whether a test fails.

    python -m tests.mutation --mutants 200 --seed 1
    python -m tests.mutation --of eventstore/audit --mutants 0       # every mutant of a folder

For each mutant only the tests that run the changed lines are run, the shortest first, until one
fails. Those that survive are printed, and so are those that only the clock ended: see if they hang.
`accepted.txt` beside this module lists survivors that change nothing that a user can see, each with
the reason, and they are left out of the score.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.mutation.coverage_map import CoverageMap, coverage_map
from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.worker import Outcome, Worker

ROOT = Path(__file__).parents[2]
ACCEPTED = Path(__file__).with_name("accepted.txt")

_CHECK_SECONDS = 900
"""How long a test of each file, one after the other, takes at most."""

FOLDERS = (
    "eventstore/log",
    "eventstore/store",
    "projections",
    "eventstore/sql",
    "eventstore/audit",
    "eventstore/history",
    "eventstore/lineage",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run mutants and print the score; 1 when one survived that is not accepted."""
    options = _options(arguments)
    mutants = _chosen(options.of or FOLDERS, options.mutants, options.seed)
    accepted = _accepted()
    for name in sorted(accepted - {mutant.name for mutant in _chosen(FOLDERS, 0, 0)}):
        print(f"accepted, and not there any more: {name}", flush=True)
    folder = Path(options.folder or tempfile.mkdtemp(prefix="eventstore-mutation-"))
    copies = [_copy(folder / f"copy-{number}") for number in range(options.workers)]
    covered = coverage_map(copies[0], folder, options.tests or ["tests"], options.workers)
    idle: SimpleQueue[Worker] = SimpleQueue()
    workers = [Worker(copy, folder / f"{copy.name}.log") for copy in copies]
    for worker in workers:
        worker.check(covered.one_of_each_file(), _CHECK_SECONDS)
        idle.put(worker)

    def judged(mutant: Mutant) -> Outcome:
        tests = _tests(covered, mutant, options.seconds)
        if not tests:
            return Outcome.UNTESTED
        worker = idle.get()
        try:
            return worker.judge(mutant, tests, options.seconds)
        finally:
            idle.put(worker)

    counts: Counter[str] = Counter()
    survivors: list[Mutant] = []
    started = time.monotonic()
    with ThreadPoolExecutor(options.workers) as executor:
        outcomes = executor.map(judged, mutants)
        for done, (mutant, outcome) in enumerate(zip(mutants, outcomes, strict=True), start=1):
            name = outcome.value
            if outcome in (Outcome.SURVIVED, Outcome.UNTESTED):
                if mutant.name in accepted:
                    name = "accepted"
                else:
                    survivors.append(mutant)
            if name not in (Outcome.KILLED.value, "accepted"):
                print(f"{name}: {mutant}", flush=True)
            counts[name] += 1
            if done % 20 == 0:
                elapsed = time.monotonic() - started
                print(f"{done} of {len(mutants)}, {elapsed:.0f} s: {dict(counts)}", flush=True)
    for worker in workers:
        worker.close()
    judged_in_all = sum(counts.values()) - counts["accepted"]
    killed = judged_in_all - len(survivors)
    if options.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{dict(counts)}")
    print(f"{killed} of {judged_in_all} mutants killed: {killed / max(judged_in_all, 1):.1%}")
    return 1 if survivors else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--mutants", type=int, default=200, help="so many, at random; 0: all")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    parser.add_argument("--of", action="append", help="a module or folder; may be repeated")
    parser.add_argument("--tests", action="append", help="run these alone; may be repeated")
    parser.add_argument("--workers", type=int, default=2, help="side by side")
    parser.add_argument("--seconds", type=float, default=120, help="at most for one mutant")
    parser.add_argument("--folder", help="keep here what tests run which lines, for the next time")
    return parser.parse_args(arguments)


def _chosen(folders: Sequence[str], count: int, seed: int) -> list[Mutant]:
    paths: list[Path] = []
    for folder in folders:
        place = ROOT / folder
        paths += sorted(place.rglob("*.py")) if place.is_dir() else [place]
    mutants = [
        mutant
        for path in paths
        for mutant in mutants_of(path.relative_to(ROOT), path.read_text(encoding="utf-8"))
    ]
    if count and count < len(mutants):
        mutants = random.Random(seed).sample(mutants, count)
    return mutants


def _tests(covered: CoverageMap, mutant: Mutant, seconds: float) -> list[str]:
    """The tests worth running, as many as fit the time; those of the file for lines of import."""
    tests = covered.tests_of(mutant.path, mutant.line, mutant.last_line)
    if mutant.is_imported or not tests:
        tests = covered.tests_of_file(mutant.path)
    fitting, total = [], 0.0
    for test in tests:
        total += covered.seconds.get(test, 0.0)
        if total > seconds * 0.7 and fitting:
            break
        fitting.append(test)
    return fitting


def _accepted() -> set[str]:
    if not ACCEPTED.exists():
        return set()
    lines = ACCEPTED.read_text(encoding="utf-8").splitlines()
    return {line.split("  #")[0].strip() for line in lines if line and not line.startswith("#")}


def _copy(folder: Path) -> Path:
    """The project as it is now once more, to be changed."""
    shutil.rmtree(folder, ignore_errors=True)
    left_out = shutil.ignore_patterns(
        *(".git", ".venv", ".protoc", ".oracle", ".oldest", ".tfx", "build"),
        *("__pycache__", ".*_cache", ".hypothesis"),
    )
    shutil.copytree(ROOT, folder, symlinks=True, ignore=left_out)
    (folder / "build").mkdir()
    if (ROOT / ".oracle").exists():
        (folder / ".oracle").symlink_to((ROOT / ".oracle").resolve())
    return folder


if __name__ == "__main__":
    sys.exit(main())
