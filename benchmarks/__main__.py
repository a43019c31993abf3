"""Compare the store with ml-metadata 1.17.1: `python -m benchmarks [--size 20000] [--rounds 3]`.

Both sides keep their data on disk, with default settings, and take turns: one process of each a
round. What is printed are medians over all rounds, and how many times the peer's is ours.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = {"peer": ROOT / ".oracle" / "bin" / "python", "ours": Path(sys.executable)}
COLD = "new process: import, open, one get by id"


def main() -> None:
    """Fill both sides, measure in turns, print a table and Markdown."""
    arguments = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="eventstore-bench-"))
    paths = {"peer": folder / "peer.db", "ours": folder / "ours"}
    try:
        for side, path in paths.items():
            _work(side, "fill", path, arguments.size)
        times: dict[str, dict[str, list[float]]] = {"peer": {}, "ours": {}}
        for _ in track(range(arguments.rounds), description="Rounds"):
            for side, path in paths.items():
                for name, seconds in _work(side, "measure", path, arguments.size).items():
                    times[side].setdefault(name, []).extend(seconds)
                started = time.perf_counter()
                _work(side, "cold", path, arguments.size)
                times[side].setdefault(COLD, []).append(time.perf_counter() - started)
        sizes = {
            "peer": paths["peer"].stat().st_size,
            "ours": sum(file.stat().st_size for file in (paths["ours"] / "log").iterdir()),
        }
        _print(times, sizes, arguments.size)
    finally:
        shutil.rmtree(folder)


def _arguments() -> Any:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--size", type=int, default=20_000, help="artifacts to begin with")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def _work(side: str, task: str, path: Path, size: int) -> dict[str, list[float]]:
    command = [PYTHONS[side], ROOT / "benchmarks" / "worker.py", side, task, path, str(size)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    measured: dict[str, list[float]] = json.loads(done.stdout)
    return measured


def _print(times: dict[str, dict[str, list[float]]], sizes: dict[str, int], artifacts: int) -> None:
    rows = [
        (name, statistics.median(seconds) * 1e3, statistics.median(times["ours"][name]) * 1e3)
        for name, seconds in times["peer"].items()
    ]
    table = Table(title=f"{artifacts:,} artifacts, medians in ms", title_justify="left")
    for column in ("operation", "ml-metadata", "eventstore", "times faster"):
        table.add_column(column, justify="left" if column == "operation" else "right")
    markdown = ["| operation | ml-metadata | eventstore | times faster |", "|---|---|---|---|"]
    for name, peer, ours in rows:
        cells = (name, f"{peer:.3g}", f"{ours:.3g}", f"{peer / ours:.1f}")
        table.add_row(*cells)
        markdown.append("| " + " | ".join(cells) + " |")
    smaller = sizes["peer"] / sizes["ours"]
    cells = (
        "data on disk (database / log)",
        f"{sizes['peer'] / 1e6:.1f} MB",
        f"{sizes['ours'] / 1e6:.1f} MB",
        f"{smaller:.1f} smaller",
    )
    table.add_row(*cells)
    markdown.append("| " + " | ".join(cells) + " |")
    Console(width=100).print(table)
    sys.stdout.write("\n".join(markdown) + "\n")


if __name__ == "__main__":
    main()
