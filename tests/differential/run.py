"""Run programs for as long as one wants: `python -m tests.differential.run --programs 5000`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import track

from eventstore.store import Engine
from tests.builders import memory_store
from tests.differential.oracle import Oracle
from tests.differential.programs import Difference, run_again, run_program


def main() -> int:
    """Print coverage and the first difference, cut down; 1 when there is one."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential.run", description=__doc__)
    parser.add_argument("--programs", type=int, default=1_000)
    parser.add_argument("--calls", type=int, default=60, help="calls in a program")
    parser.add_argument("--seed", type=int, default=0, help="of the first program")
    arguments = parser.parse_args()
    console = Console()
    oracle = Oracle()
    counts: Counter[str] = Counter()
    seeds = range(arguments.seed, arguments.seed + arguments.programs)
    for seed in track(seeds, description="Programs", console=Console(stderr=True)):
        difference = with_fresh_stores(
            oracle,
            lambda ours, seed=seed: run_program(  # type: ignore[misc]
                seed, arguments.calls, oracle.call, ours, counts
            ),
        )
        if difference is not None:
            console.print(f"seed {seed}:", markup=False)
            console.print(str(minimised(oracle, difference)), markup=False, highlight=False)
            return 1
    rpcs = sorted(name for name in counts if not name.endswith(" ok"))
    for rpc in rpcs:
        console.print(f"{rpc}: {counts[rpc]} calls, {counts[f'{rpc} ok']} succeeded")
    calls = sum(counts[rpc] for rpc in rpcs)
    succeeded = sum(counts[f"{rpc} ok"] for rpc in rpcs)
    console.print(
        f"{arguments.programs} programs, {calls} calls of {len(rpcs)} RPCs, "
        f"{succeeded / calls:.0%} succeeded, no difference"
    )
    oracle.close()
    return 0


def with_fresh_stores(
    oracle: Oracle, run: Callable[[Callable[[str, Any], Any]], Difference | None]
) -> Difference | None:
    """Run something on the oracle's and our new, empty stores."""
    oracle.open(None)
    store = memory_store()
    try:
        engine: Engine = store._engine
        return run(engine.call)
    finally:
        store.close()


def minimised(oracle: Oracle, difference: Difference) -> Difference:
    """The difference with every call left out that it does not need."""
    number = 0
    while number < len(difference.program) - 1:
        shorter = difference.program[:number] + difference.program[number + 1 :]
        found = with_fresh_stores(
            oracle,
            lambda ours, shorter=shorter: run_again(shorter, oracle.call, ours),  # type: ignore[misc]
        )
        if found is not None and found.kind() == difference.kind():
            difference = found
        else:
            number += 1
    return difference


if __name__ == "__main__":
    sys.exit(main())
