"""What a put, a get and a cold start cost as the log grows: `python -m benchmarks.growth`.

Prints a table and, with `--chart FILE`, draws the costs against the number of records, relative
to those in the smallest log. Flat lines are what is wanted.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import log10
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd

ROOT = Path(__file__).resolve().parents[1]
BATCH = 1_000
CALLS = 300
COLOURS = {"put": "#0b5fa5", "get": "#146c43", "get by name": "#8a5a00", "cold start": "#a61b1b"}
_COLD = """
import sys, eventstore
with eventstore.open(sys.argv[1]) as store:
    store.get_artifacts_by_id([1])
"""
_MEMORY = """
import random, resource, sys, eventstore
with eventstore.open(sys.argv[1]) as store:
    highest = int(sys.argv[2])
    for _ in range(10_000):
        store.get_artifacts_by_id([random.randrange(1, highest + 1)])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@dataclass(frozen=True)
class Mark:
    """Medians in ms at a number of records, and the memory of a process after 10,000 gets (MiB)."""

    records: int
    milliseconds: dict[str, float]
    memory: float


def main() -> None:
    """Grow one store and measure at every power of ten and half of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000, help="to grow to")
    parser.add_argument("--chart", type=Path, help="an SVG file to draw into")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="eventstore-growth-"))
    try:
        marks = _grown(folder / "store", arguments.records)
    finally:
        shutil.rmtree(folder)
    _print(marks)
    if arguments.chart is not None:
        arguments.chart.write_text(_chart(marks))


def _grown(directory: Path, records: int) -> list[Mark]:
    sizes = [n for power in range(4, 9) for n in (10**power, 3 * 10**power) if n <= records]
    marks = []
    store = eventstore.open(directory)
    type_id = store.put_artifact_type(
        mlmd.ArtifactType(name="DataSet", properties={"step": mlmd.INT})
    )
    number = 0
    with Progress() as progress:
        task = progress.add_task("growing", total=records)
        for size in sizes:
            while store.log_position() < size:
                store.put_artifacts([_artifact(type_id, number + n) for n in range(BATCH)])
                number += BATCH
                progress.update(task, completed=store.log_position())
            # Anew, so that nothing is still being merged in the background.
            store.close()
            store = eventstore.open(directory)
            marks.append(_mark(store, type_id, number))
            number += CALLS
            store.close()
            marks[-1] = Mark(
                marks[-1].records,
                marks[-1].milliseconds | {"cold start": _cold(directory)},
                float(_run(_MEMORY, directory, number)),
            )
            store = eventstore.open(directory)
    store.close()
    return marks


def _artifact(type_id: int, number: int) -> mlmd.Artifact:
    made = mlmd.Artifact(type_id=type_id, name=f"artifact-{number}", uri=f"s3://bucket/{number}")
    made.properties["step"].int_value = number % 1000
    return made


def _mark(store: eventstore.MetadataStore, type_id: int, number: int) -> Mark:
    records = store.log_position()

    def name(_: int) -> None:
        store.get_artifact_by_type_and_name("DataSet", f"artifact-{random.randrange(number)}")

    return Mark(
        records,
        {
            "put": _median(lambda n: store.put_artifacts([_artifact(type_id, number + n)])),
            "get": _median(lambda _: store.get_artifacts_by_id([random.randrange(1, number)])),
            "get by name": _median(name),
        },
        0.0,
    )


def _median(call: Callable[[int], object]) -> float:
    seconds = []
    for number in range(CALLS):
        started = time.perf_counter()
        call(number)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) * 1e3


def _cold(directory: Path) -> float:
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        _run(_COLD, directory)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) * 1e3


def _run(code: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    return done.stdout


def _print(marks: Sequence[Mark]) -> None:
    names = list(COLOURS)
    table = Table(title="Medians in ms as the log grows", title_justify="left")
    for column in ("records", *names, "memory after 10,000 gets, MiB"):
        table.add_column(column, justify="right")
    for mark in marks:
        costs = (f"{mark.milliseconds[name]:.3g}" for name in names)
        table.add_row(f"{mark.records:,}", *costs, f"{mark.memory:.0f}")
    Console(width=100).print(table)


def _chart(marks: Sequence[Mark]) -> str:
    width, height, left, bottom = 640, 300, 60, 260
    first, last = (log10(marks[index].records) for index in (0, -1))
    across = (width - left - 120) / max(last - first, 1e-9)

    def point(mark: Mark, name: str) -> tuple[float, float]:
        relative = mark.milliseconds[name] / marks[0].milliseconds[name]
        return left + (log10(mark.records) - first) * across, bottom - min(relative, 4) * 50

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        '<text x="8" y="20" font-size="14" font-weight="600">Cost as the log grows, relative to '
        "the smallest</text>",
    ]
    for times in range(5):
        y = bottom - times * 50
        parts.append(
            f'<line x1="{left}" y1="{y}" x2="{width - 120}" y2="{y}" stroke="#d9dee5"/>'
            f'<text x="{left - 8}" y="{y + 4}" text-anchor="end" fill="#5b6675">{times}x</text>'
        )
    for mark in marks:
        x, _ = point(mark, "put")
        parts.append(
            f'<text x="{x:g}" y="{bottom + 18}" text-anchor="middle" fill="#5b6675">'
            f"{mark.records / 1000:,.0f} k</text>"
        )
    for row, (name, colour) in enumerate(COLOURS.items()):
        line = " ".join(f"{x:g},{y:g}" for x, y in (point(mark, name) for mark in marks))
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{width - 110}" y="{60 + 20 * row}" fill="{colour}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    main()
