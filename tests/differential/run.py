"""Run programs for as long as one wants: `python -m tests.differential.run --programs 5000`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.differential.clients import Client, OurStore
from tests.differential.minimising import minimised
from tests.differential.oracle import Oracle
from tests.differential.programs import run_program
from tests.server.serving import ServedStore


def main() -> int:
    """Print coverage and the first difference, cut down; 1 when there is one."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential.run", description=__doc__)
    parser.add_argument("--programs", type=int, default=1_000)
    parser.add_argument("--calls", type=int, default=60, help="calls in a program")
    parser.add_argument("--seed", type=int, default=0, help="of the first program")
    parser.add_argument(
        "--oracle-itself",
        action="store_true",
        help="hold ml-metadata against itself: any difference is this harness's own",
    )
    parser.add_argument(
        "--server", action="store_true", help="reach our stores through a client and a server"
    )
    arguments = parser.parse_args()
    console = Console()
    oracle = Oracle()
    other = Oracle() if arguments.oracle_itself else None
    counts: Counter[str] = Counter()
    seeds = range(arguments.seed, arguments.seed + arguments.programs)
    for seed in track(seeds, description="Programs", console=Console(stderr=True)):
        ours: Client = other or store_for(seed, served=arguments.server)
        difference = run_program(seed, arguments.calls, oracle, ours, counts)
        if difference is not None:
            console.print(f"seed {seed}:", markup=False)
            smallest = minimised(oracle, ours, difference)
            console.print(str(smallest), markup=False, highlight=False)
            return 1
        if isinstance(ours, OurStore):
            ours.close()
    console.print(coverage(counts))
    console.print(f"{arguments.programs} programs, no difference")
    return 0


def store_for(seed: int, *, served: bool = False) -> OurStore:
    """Every third program runs in a directory, which is slower, the others in memory."""
    in_directory = seed % 3 == 0
    return ServedStore(in_directory=in_directory) if served else OurStore(in_directory=in_directory)


def coverage(counts: Counter[str]) -> Table:
    """The calls of each RPC and the share of them that succeeded."""
    table = Table("RPC", "calls", "succeeded", header_style="bold")
    rpcs = sorted(name for name in counts if not name.endswith(" ok"))
    for rpc in rpcs:
        table.add_row(rpc, str(counts[rpc]), f"{counts[f'{rpc} ok'] / counts[rpc]:.0%}")
    calls = sum(counts[rpc] for rpc in rpcs)
    succeeded = sum(counts[f"{rpc} ok"] for rpc in rpcs)
    table.add_row("all", str(calls), f"{succeeded / max(calls, 1):.0%}", style="bold")
    return table


if __name__ == "__main__":
    sys.exit(main())
