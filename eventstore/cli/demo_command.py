"""`eventstore demo`."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import click

from eventstore.answers import DemoAnswer
from eventstore.cli.commands import command, output_options_without
from eventstore.cli.paths import PathName
from eventstore.cli.results import Grid, Output
from eventstore.log.os_errors import translating


@command("demo", examples=("eventstore demo", "eventstore demo my-first-store"))
@click.argument("directory", metavar="[STORE]", required=False, type=PathName())
@output_options_without("full")
def demo_command(directory: Path | None, output: Output) -> None:
    """Record a pipeline, find a dataset bad, and ask what was known when.

    STORE must not exist or be an empty directory; without it the demo makes a temporary one.
    """
    if directory is None:
        directory = Path(tempfile.mkdtemp(prefix="eventstore-demo-"))
    else:
        with translating("opening", directory):
            if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
                raise click.UsageError(f"{directory} is not empty: name a new directory")
    from eventstore.demo import run_demo

    told = list(run_demo(directory))
    program = _program()
    place = shlex.quote(str(directory))
    examples = [
        f"{program} info {place}",
        f"{program} log {place} --kind artifact --id 1",
        f"{program} lineage {place} artifact 5",
        f"{program} verify {place}",
    ]
    if output.form == "json":
        output.json(DemoAnswer(str(directory), told, examples))
    elif output.form == "csv":
        output.csv(
            Grid(
                ("about", "name", "value"),
                [
                    row
                    for part in told
                    for row in (
                        *((part.heading, None, line) for line in part.lines),
                        *((part.heading, *row) for row in part.rows),
                    )
                ],
            )
        )
    else:
        grids = [
            Grid(("", ""), part.rows, part.heading)
            if part.rows
            else Grid(("",), [(line,) for line in part.lines], part.heading)
            for part in told
        ]
        tries = Grid(("",), [(example,) for example in examples], "The store is yours. Try:")
        output.grids(*grids, tries)


def _program() -> str:
    """How to call this command from here: by name, or by path when it is not on the PATH."""
    called = Path(sys.argv[0])
    if called.name != "eventstore":
        return "python -m eventstore"
    return "eventstore" if shutil.which("eventstore") else os.path.relpath(called)
