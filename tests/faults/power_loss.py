"""The power fails at any moment of a story; then all promises are checked.

Run as a process on the layer. Each chapter is lived once and written down; each line that is
printed is one state of the disk as JSON.
"""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from tests.faults import layer
from tests.faults.disk_model import Disk, Event, Keep, read_trace
from tests.faults.layer import Kind
from tests.faults.operations import import_once, in_fork, prepare
from tests.faults.part import Outcome, Report
from tests.faults.story import CHAPTERS, Chapter, Life, aftermath, copied
from tests.shares import some_of

STATES = 2_000
"""How many states a run of the part has at least."""

_SYNCED_ONLY = "nothing unsynced"
_KEPT = {
    _SYNCED_ONLY: Keep.NOTHING,
    "all of it": Keep.ALL,
    "names alone": Keep.NAMES,
    "data alone": Keep.DATA,
    "half of it": Keep(0.5, 0.5),
    "most of it": Keep(0.9, 0.9),
    "little of it": Keep(0.1, 0.1),
}


class State(msgspec.Struct):
    """One state of the disk: after how many operations, what was kept, what was wrong then."""

    chapter: str
    after: int
    kept: str
    last: str
    complaints: list[str]

    def title(self) -> str:
        return f"{self.chapter}, power lost after operation {self.after} ({self.last}): {self.kept}"


def part(report: Report) -> Outcome:
    """Every state in which nothing unsynced is left, and as many others as make up the number."""
    outcome = Outcome()
    if reason := layer.why_not():
        report(f"left out: {reason}")
        return outcome
    each = STATES // len(CHAPTERS) + 1
    names = [chapter.name for chapter in CHAPTERS]
    with ThreadPoolExecutor(os.cpu_count()) as processes:
        left = processes.map(lambda name: [*states([name], each)], names)
        for name, found in zip(names, left, strict=True):
            for state in found:
                outcome.complaints += [f"{state.title()}: {line}" for line in state.complaints]
            outcome.count("states after a loss of power", len(found))
            report(f"{name}: {len(found)} states after a loss of power")
    return outcome


def states(chapters: list[str], at_least: int = 0, *, share: int = 1) -> Iterator[State]:
    """What is left of the chapters, after one of `share` syncs, in a process on the layer."""
    arguments = [",".join(chapters), str(at_least), str(share)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.power_loss", *arguments],
        stdout=subprocess.PIPE,
        env=layer.environment(),
        cwd=layer.REPOSITORY,
    )
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            yield msgspec.json.decode(line, type=State)
    if process.wait():
        raise RuntimeError(f"the process on the layer died with status {process.returncode}")


def main(chapters: str, at_least: str, share: str) -> None:
    import_once()
    logging.disable(logging.CRITICAL)
    faults = layer.Layer()
    with tempfile.TemporaryDirectory(prefix="eventstore-faults-") as scratch:
        folder = Path(scratch).resolve()
        for chapter in CHAPTERS:
            if chapter.name not in chapters.split(","):
                continue
            prepared = prepare(chapter, folder)
            disk, events = _lived(faults, chapter, prepared, folder)
            for state in _after_losses(chapter, disk, events, folder, int(at_least), int(share)):
                sys.stdout.buffer.write(msgspec.json.encode(state) + b"\n")
                sys.stdout.flush()


def _lived(
    faults: layer.Layer, chapter: Chapter, prepared: Path | None, folder: Path
) -> tuple[Disk, list[Event]]:
    """What a chapter began with, and what it did."""
    root, trace = folder / "run", folder / "trace"
    copied(prepared, root)
    before = Disk(root)

    def act() -> None:
        faults.begin(root, os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
        life = Life(root, tell=faults.mark)
        life.numbers += chapter.puts
        chapter.act(life)
        assert not life.complaints, life.complaints
        assert not life.refused, life.refused

    if in_fork(act):
        raise RuntimeError(f"{chapter.name} fails without a fault")
    shutil.rmtree(root)
    return before, list(read_trace(trace.read_bytes(), root))


def _after_losses(
    chapter: Chapter,
    disk: Disk,
    events: list[Event],
    folder: Path,
    at_least: int,
    share: int,
) -> Iterator[State]:
    chance = random.Random(chapter.name)
    chosen: dict[int, list[str]] = {}
    # Only then is there more on the disk, or more that was promised.
    kinds = Kind.SYNC, Kind.MARK
    durable = [after for after, event in enumerate(events, start=1) if event.kind in kinds]
    for after in some_of(durable, share):
        chosen[after] = [_SYNCED_ONLY]
    for _ in range(at_least - len(chosen)):
        chosen.setdefault(chance.randint(1, len(events)), []).append(chance.choice([*_KEPT]))
    acknowledged = set(chapter.puts)
    for after, event in enumerate(events, start=1):
        disk.happen(event)
        if event.kind is Kind.MARK:
            acknowledged.add(event.offset)
        for kept in chosen.get(after, ()):
            root = folder / "left"
            root.mkdir()
            disk.lay_out(root, _KEPT[kept], chance)
            complaints = _checked(root, acknowledged, folder / "told")
            shutil.rmtree(root)
            last = " ".join([event.kind.name.lower(), "/".join(event.path)]).strip()
            yield State(chapter.name, after, kept, last, complaints)


def _checked(root: Path, acknowledged: set[int], told: Path) -> list[str]:
    def check() -> None:
        life = Life(root)
        life.numbers += range(1, 9)
        aftermath(life, set(acknowledged))
        told.write_text(json.dumps(life.complaints))

    told.write_text("null")
    status = in_fork(check)
    found = json.loads(told.read_text())
    if status or found is None:
        return [f"checking {'hung' if status == -signal.SIGALRM else 'died'}: {status}"]
    complaints: list[str] = found
    return complaints


if __name__ == "__main__":
    main(*sys.argv[1:])
