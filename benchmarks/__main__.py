"""Compare the store with ml-metadata 1.17.1: `python -m benchmarks [--size 20000] [--rounds 3]`.

Both sides keep their data on disk, with default settings, and take turns: in each round a process
of each puts, and another one reads. What is printed are medians over all rounds, and how many times
the peer's is ours. What housekeeping costs, in time and memory, is measured of ours alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.progress import track

from benchmarks.results import Result, chart, markdown, print_table

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = {"peer": ROOT / ".oracle" / "bin" / "python", "ours": Path(sys.executable)}
COLD = "new process: import, open, one get by id"


def main() -> None:
    """Fill both sides, measure in turns, print a table and Markdown."""
    arguments = _arguments()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="eventstore-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    sides = ["ours"] if arguments.alone else ["peer", "ours"]
    paths = {side: folder / f"{side}-{arguments.size}" for side in sides}
    try:
        for side, path in paths.items():
            if not path.exists():
                _work(side, "fill", path, arguments.size)
        times: dict[str, dict[str, list[float]]] = {side: {} for side in sides}
        for _ in track(range(arguments.rounds), description="Rounds"):
            for side, path in paths.items():
                for task in ("put", "read"):
                    for name, seconds in _work(side, task, path, arguments.size).items():
                        times[side].setdefault(name, []).extend(seconds)
                started = time.perf_counter()
                _work(side, "cold", path, arguments.size)
                times[side].setdefault(COLD, []).append(time.perf_counter() - started)
        whole = _work("ours", "whole", paths["ours"], arguments.size)
        if "peer" in paths:
            whole |= _work("ours", "import", paths["peer"], arguments.size)
        whole |= _housekeeping(folder, arguments.size, arguments.single)
        results = [*_compared(times), *_sizes(paths), *_alone(times["ours"], whole)]
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder)
    title = f"{arguments.size:,} artifacts, medians in ms"
    print_table(title, results)
    sys.stdout.write(markdown(results))
    if arguments.chart is not None:
        title = f"Times faster than ml-metadata, {arguments.size:,} artifacts"
        arguments.chart.write_text(chart(title, results))


def _arguments() -> Any:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--size", type=int, default=20_000, help="artifacts to begin with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--single", type=int, default=200_000, help="single puts to find the longest"
    )
    parser.add_argument("--folder", type=Path, help="keep what is filled here, and use it again")
    parser.add_argument("--chart", type=Path, help="an SVG file to draw the ratios into")
    parser.add_argument("--alone", action="store_true", help="without ml-metadata")
    return parser.parse_args()


def _work(side: str, task: str, path: Path | str, size: int) -> dict[str, list[float]]:
    command = [PYTHONS[side], ROOT / "benchmarks" / "worker.py", side, task, path, str(size)]
    done = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # The code beside this file, whatever is installed.
        env=os.environ | ({"PYTHONPATH": str(ROOT)} if side == "ours" else {}),
    )
    measured: dict[str, list[float]] = json.loads(done.stdout)
    return measured


def _housekeeping(folder: Path, size: int, single: int) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory(dir=folder) as emptied:
        stores = Path(emptied)
        measured = _work("ours", "single", stores / "single", single)
        for task in ("memory", "first-filter"):
            measured |= _work("ours", task, stores / "filled", size)
    return measured


def _compared(times: dict[str, dict[str, list[float]]]) -> list[Result]:
    found = []
    for name, seconds in times["ours"].items():
        ours = statistics.median(seconds) * 1e3
        if name in times.get("peer", {}):
            peer = statistics.median(times["peer"][name]) * 1e3
            found.append(Result(name, f"{peer:.3g}", f"{ours:.3g}", peer / ours))
        elif "peer" not in times:
            found.append(Result(name, "", f"{ours:.3g}", None))
    return found


def _sizes(paths: dict[str, Path]) -> list[Result]:
    ours = sum(file.stat().st_size for file in (paths["ours"] / "log").iterdir())
    name, shown = "data on disk (database / log)", f"{ours / 1e6:.1f} MB"
    if "peer" not in paths:
        return [Result(name, "", shown, None)]
    peer = paths["peer"].stat().st_size
    return [Result(name, f"{peer / 1e6:.1f} MB", shown, peer / ours)]


def _alone(times: dict[str, list[float]], whole: dict[str, list[float]]) -> list[Result]:
    """What MLMD has not: reads of the past by what they cost now, rates, and memory."""
    found = []
    for name, seconds in times.items():
        if name.endswith(", as of half of it"):
            now = statistics.median(times[name.removesuffix(", as of half of it")])
            then = statistics.median(seconds)
            shown = f"{then * 1e3:.3g} ({then / now:.2f} of now)"
            found.append(Result(name, "", shown, None))
    for name, (value,) in whole.items():
        shown = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        found.append(Result(name, "", shown, None))
    return found


if __name__ == "__main__":
    main()
