"""Every operation of a story fails, stops the process, or is torn; then all promises are checked.

Run as a process on the layer: it imports everything once and forks for every run. Each line that it
prints is one run as JSON.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import itertools
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import msgspec

from tests.faults import layer
from tests.faults.layer import Action, Kind
from tests.faults.part import Outcome, Report
from tests.faults.story import CHAPTERS, Chapter, Life, aftermath, copied
from tests.shares import some_of

_IMPORTED = (
    "pyarrow.compute",
    "pyarrow.dataset",
    "pyarrow.pandas_compat",
    "pyarrow.parquet",
    "eventstore.copies.copying",
    "eventstore.log.verification",
    "eventstore.metadata_store.downgrading",
    "eventstore.metadata_store.metadata_store",
    "eventstore.projections.filter.compiler",
    "eventstore.projections.lineage",
    "eventstore.projections.planning",
    "eventstore.projections.run_building",
    "eventstore.projections.run_patching",
    "eventstore.projections.scrubbing",
    "eventstore.projections.table_copying",
    "eventstore.projections.tables",
    "eventstore.retention.erasing",
    "eventstore.retention.reports",
    "eventstore.sql",
    "eventstore.store.rpcs",
    "sqlglot.dialects.bigquery",
)

NEVER = 1 << 40
"""Where no operation is struck."""

SECONDS_MAX = 90
"""No run takes longer, unless it hangs."""

WAYS = {
    "fails": (Action.FAIL_ONCE, errno.EIO),
    "fails-on": (Action.FAIL_ON, errno.EIO),
    "full": (Action.FULL, errno.ENOSPC),
    "stops": (Action.STOP, 0),
    "torn": (Action.TEAR, 0),
}


_WORDS = {
    "fails": "fail",
    "fails-on": "fail with all that follow",
    "full": "find the disk full",
    "stops": "stop the process",
    "torn": "stop it half-way",
}


class Run(msgspec.Struct):
    """One run: which operation was struck, and what was wrong after it."""

    chapter: str
    way: str
    number: int
    kind: str
    path: str
    complaints: list[str]

    def title(self) -> str:
        return f"{self.chapter}, operation {self.number} {self.way} ({self.kind} {self.path})"


def part(report: Report) -> Outcome:
    """Every operation of every chapter, in every way, as many at once as there are cores."""
    outcome = Outcome()
    if reason := layer.why_not():
        report(f"left out: {reason}")
        return outcome
    tried = [(way, chapter.name) for way in WAYS for chapter in CHAPTERS]

    def all_runs(way_and_chapter: tuple[str, str]) -> list[Run]:
        way, chapter = way_and_chapter
        return [*runs([chapter], [way])]

    with ThreadPoolExecutor(os.cpu_count()) as processes:
        for (way, chapter), found in zip(tried, processes.map(all_runs, tried), strict=True):
            for run in found:
                outcome.complaints += [f"{run.title()}: {line}" for line in run.complaints]
            outcome.count(f"operations that {_WORDS[way]}", len(found))
            report(f"{chapter}: {len(found)} operations that {_WORDS[way]}")
    return outcome


def runs(chapters: list[str], ways: list[str], *, share: int = 1) -> Iterator[Run]:
    """The runs of every chapter in every way, in a process on the layer.

    Of `share` operations of a kind one is struck, by chance, and one of each kind at least.
    """
    arguments = [",".join(chapters), ",".join(ways), str(share)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.operations", *arguments],
        stdout=subprocess.PIPE,
        env=layer.environment(),
        cwd=layer.REPOSITORY,
    )
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            yield msgspec.json.decode(line, type=Run)
    if process.wait():
        raise RuntimeError(f"the process on the layer died with status {process.returncode}")


def in_fork(work: Callable[[], None]) -> int:
    """Run in a process of its own; its exit status, negative when a signal ended it."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)
    status = 1
    try:
        # Not caught by anything: a run that hangs is ended by it.
        signal.alarm(SECONDS_MAX)
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def import_once() -> None:
    """Import what every fork would import otherwise; Arrow looks for pandas at its first value."""
    for name in (*_IMPORTED, *(["pandas"] if find_spec("pandas") else [])):
        importlib.import_module(name)


def main(chapters: str, ways: str, share: str) -> None:
    logging.disable(logging.CRITICAL)
    import_once()
    faults = layer.Layer()
    with tempfile.TemporaryDirectory(prefix="eventstore-faults-") as scratch:
        folder = Path(scratch).resolve()
        for chapter in CHAPTERS:
            if chapter.name not in chapters.split(","):
                continue
            prepared = prepare(chapter, folder)
            assert _struck(faults, chapter, prepared, "stops", NEVER, folder) is None
            kinds = faults.state.kinds[: faults.state.count]
            operations = [(way, at) for way in ways.split(",") for at in range(len(kinds))]
            struck = {
                operation
                for kind in set(kinds)
                for operation in some_of([o for o in operations if kinds[o[1]] == kind], int(share))
            }
            for way in ways.split(","):
                for at in itertools.count():
                    if at < len(kinds):
                        if (way, at) not in struck:
                            continue
                    elif int(share) > 1:
                        break
                    # A run may have more operations than the first one had.
                    run = _struck(faults, chapter, prepared, way, at, folder)
                    if run is None:
                        break
                    sys.stdout.buffer.write(msgspec.json.encode(run) + b"\n")
                    sys.stdout.flush()


def prepare(chapter: Chapter, folder: Path) -> Path | None:
    """What a chapter begins with."""
    if chapter.prepare is None:
        return None
    prepared = folder / f"{chapter.name}-prepared" / "store"
    prepared.parent.mkdir()
    work = chapter.prepare
    if in_fork(lambda: work(prepared)):
        raise RuntimeError(f"the chapter {chapter.name} cannot be prepared")
    return prepared


def _struck(
    faults: layer.Layer, chapter: Chapter, prepared: Path | None, way: str, at: int, folder: Path
) -> Run | None:
    """One run, None when the chapter has no such operation."""
    root, told = folder / "run", folder / "told"
    copied(prepared, root)
    told.write_bytes(b"")
    action, error_number = WAYS[way]

    def act() -> None:
        descriptor = os.open(told, os.O_WRONLY | os.O_APPEND)

        def tell(**line: object) -> None:
            os.write(descriptor, json.dumps(line).encode() + b"\n")

        life = Life(root, tell=lambda number: tell(acknowledged=number))
        life.numbers += chapter.puts
        faults.begin(root)
        faults.arm(at, action, error_number)
        chapter.act(life)
        faults.disarm()
        if life.complaints:
            tell(complaints=life.complaints)

    status = in_fork(act)
    state = faults.state
    kind = state.struck_kind
    path = state.struck_path.decode().removeprefix(f"{root}/")
    complaints: list[str] = []
    acknowledged = set(chapter.puts)
    for line in told.read_text().splitlines():
        said = json.loads(line)
        complaints += said.get("complaints", [])
        if "acknowledged" in said:
            acknowledged.add(said["acknowledged"])
    if not state.is_struck:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(root)
        if status or complaints:
            raise RuntimeError(f"{chapter.name} fails without a fault: {status} {complaints}")
        return None
    if status not in (0, layer.STOPPED):
        complaints.append("it hung" if status == -signal.SIGALRM else f"it died: {status}")

    def check() -> None:
        life = Life(root)
        life.numbers += range(1, 9)
        aftermath(life, acknowledged)
        told.write_text(json.dumps(life.complaints))

    told.write_text("null")
    status = in_fork(check)
    found = json.loads(told.read_text())
    if status or found is None:
        complaints.append(f"checking {'hung' if status == -signal.SIGALRM else 'died'}: {status}")
    else:
        complaints += found
    shutil.rmtree(root)
    return Run(chapter.name, way, at, Kind(kind).name.lower(), path, complaints)


if __name__ == "__main__":
    main(*sys.argv[1:])
