"""Raw requests on both sides: `python -m tests.differential.requests --programs 1000`."""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter

from rich.console import Console
from rich.progress import track

from tests.differential.answers import Step, is_same
from tests.differential.clients import OurStore
from tests.differential.minimising import minimised
from tests.differential.oracle import Oracle, OracleDiedError
from tests.differential.programs import Difference, Run
from tests.differential.raw_requests import RawGenerator
from tests.differential.run import coverage


def run_raw_program(
    seed: int, length: int, oracle: Oracle, ours: OurStore, counts: Counter[str]
) -> Difference | None:
    """Generate and run one program of raw requests, among well-formed ones, on empty stores.

    Where a request kills ml-metadata, it has to be refused here, and the program ends.
    """
    generator = RawGenerator(random.Random(seed))
    run = Run(oracle, ours)
    for number in range(length):
        is_raw = number >= 5 and generator.chance(0.7)
        rpc, request = generator.next_raw_call() if is_raw else generator.next_call()
        step = Step(rpc, request, is_raw=is_raw)
        try:
            expected, found = run.answers(step)
        except OracleDiedError:
            oracle.revive()
            counts["deaths"] += 1
            return run.not_refused(step)
        counts[rpc] += 1
        if not isinstance(expected, type):
            counts[f"{rpc} ok"] += 1
            generator.learn(rpc, request, expected)
        if not is_same(step, expected, found):
            return Difference(run.program, run.given_out, step, expected, found)
    return run.difference_at_the_end()


def main() -> int:
    """Print coverage and the first difference, cut down; 1 when there is one."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.differential.requests", description=__doc__
    )
    parser.add_argument("--programs", type=int, default=1_000)
    parser.add_argument("--calls", type=int, default=60, help="calls in a program")
    parser.add_argument("--seed", type=int, default=0, help="of the first program")
    parser.add_argument("--all", action="store_true", help="go on after a difference")
    arguments = parser.parse_args()
    console = Console()
    oracle, differences = Oracle(), 0
    counts: Counter[str] = Counter()
    seeds = range(arguments.seed, arguments.seed + arguments.programs)
    for seed in track(seeds, description="Programs", console=Console(stderr=True)):
        ours = OurStore()
        difference = run_raw_program(seed, arguments.calls, oracle, ours, counts)
        if difference is not None:
            differences += 1
            console.print(f"seed {seed}:", markup=False)
            smallest = minimised(oracle, ours, difference)
            console.print(str(smallest), markup=False, highlight=False)
            if not arguments.all:
                return 1
        ours.close()
    deaths = counts.pop("deaths", 0)
    console.print(coverage(counts))
    console.print(
        f"{arguments.programs} programs, {differences or 'no'} difference"
        f"{'s' if differences > 1 else ''}; ml-metadata died {deaths} times"
    )
    return min(differences, 1)


if __name__ == "__main__":
    sys.exit(main())
