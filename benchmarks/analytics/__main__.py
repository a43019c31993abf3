"""Ten questions over the segments of stores: `python -m benchmarks.analytics STORE...`.

Each engine reads the sealed segments as they are, in a process of its own, and their answers have
to be equal. Prints what each question takes: seconds, the most memory, and nanoseconds a record.
`--results` keeps that in a file beside what it has of stores of other sizes, of which `--chart`
draws how the cost grows. Spark is found by PYTHONPATH: `PYTHONPATH=.spark`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
from rich.console import Console

from benchmarks.analytics.engines import ENGINES
from benchmarks.analytics.questions import QUESTIONS
from benchmarks.analytics.showing import Answer, chart, markdown, table
from eventstore.log.manifest import read_manifest

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Ask, compare, print a table and Markdown."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.analytics",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("stores", nargs="*", type=Path, metavar="STORE")
    parser.add_argument("--engine", choices=[*ENGINES], action="append", help="all by default")
    parser.add_argument("--results", type=Path, help="a JSON file to keep what is measured in")
    parser.add_argument("--chart", type=Path, help="an SVG file to draw the growth into")
    arguments = parser.parse_args()
    answers: list[Answer] = []
    if arguments.results is not None and arguments.results.exists():
        answers = msgspec.json.decode(arguments.results.read_bytes(), type=list[Answer])
    for store in arguments.stores:
        for engine in arguments.engine or [*ENGINES]:
            for found in _asked(store, engine):
                answers = _with(answers, found)
                if arguments.results is not None:
                    kept = msgspec.json.format(msgspec.json.encode(answers), indent=1)
                    arguments.results.write_bytes(kept + b"\n")
    # In their order, and without what an older version has asked.
    answers = [one for question in QUESTIONS for one in answers if one.what == question.what]
    Console(width=120).print(table(answers))
    sys.stdout.write(markdown(answers))
    if arguments.chart is not None:
        arguments.chart.write_text(chart(answers))


def sealed_files(directory: Path) -> tuple[list[str], int]:
    """The sealed segments of a store, without opening it, which would fold it; their records."""
    segments = [segment for segment in read_manifest(directory).segments if segment.sealed]
    return [str(directory / "log" / s.file) for s in segments], segments[-1].last_position


def _with(answers: list[Answer], found: Answer) -> list[Answer]:
    """The answers with another one, in place of an older one of the same engine.

    Raises ValueError when another engine has answered otherwise.
    """
    alike = [one for one in answers if (one.what, one.records) == (found.what, found.records)]
    for one in alike:
        if one.engine == found.engine:
            answers.remove(one)
        elif one.rows_sha256 != found.rows_sha256:
            raise ValueError(f"{found.engine} answers otherwise than {one.engine}: {found.what}")
    return [*answers, found]


def _asked(directory: Path, engine: str) -> Iterator[Answer]:
    """What an engine takes for each question."""
    files, records = sealed_files(directory)
    command = [sys.executable, "-m", "benchmarks.analytics.engines", engine, str(records)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n".join(files))
        process.stdin.close()
        for line in process.stdout:
            found = msgspec.json.decode(line, type=Answer)
            said = f"{engine}, {records:,} records, {found.seconds:.1f} s: {found.what}"
            Console(stderr=True, width=120).print(said, highlight=False)
            yield found
    if process.returncode:
        raise RuntimeError(f"{engine} has ended with {process.returncode}")


if __name__ == "__main__":
    main()
