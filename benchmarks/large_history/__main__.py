"""Make a large store: `python -m benchmarks.large_history DIRECTORY [--records 100_000_000]`.

What it holds is made up: pipelines and their runs, retried and failed executions, datasets that
many runs use and most never again, models that are evaluated and marked for deletion, by several
actors. The same arguments make the same files.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.large_history.making import make_store
from benchmarks.large_history.world import RECORDS_PER_BLOCK


def main() -> None:
    """Make the store, with a progress bar, and say how large it is and what it took."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.large_history",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directory", type=Path, help="where to; empty or not there")
    parser.add_argument("--records", type=int, default=100_000_000, help="at least 1,000")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--segment-records",
        type=int,
        default=RECORDS_PER_BLOCK,
        help=f"how many records a segment has, a multiple of {RECORDS_PER_BLOCK:,} (the default)",
    )
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    blocks, rest = divmod(arguments.segment_records, RECORDS_PER_BLOCK)
    if rest or not blocks:
        parser.error(f"--segment-records is no multiple of {RECORDS_PER_BLOCK:,}")
    started = time.perf_counter()
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[size]}"))
    console = Console()
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("", total=arguments.records, size="")

        def tell(done: int, size: int) -> None:
            shown = f"{size / 1e6:,.0f} MB, {size / done:.0f} bytes a record"
            progress.update(task, completed=done, size=shown)

        manifest = make_store(
            arguments.directory,
            arguments.records,
            seed=arguments.seed,
            blocks_per_segment=blocks,
            processes=arguments.processes,
            tell=tell,
        )
    took = time.perf_counter() - started
    size = sum(segment.file_bytes for segment in manifest.segments)
    commits = manifest.segments[-1].last_commit
    console.print(
        f"{arguments.records:,} records in {commits:,} commits and {len(manifest.segments):,} "
        f"segments: {size / 1e6:,.0f} MB, {took:,.0f} s, {took / arguments.records * 1e6:.1f} µs a "
        "record",
        highlight=False,
    )


if __name__ == "__main__":
    main()
