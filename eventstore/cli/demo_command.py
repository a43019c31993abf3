"""`eventstore demo`."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import click

from eventstore.cli.output import standard_output
from eventstore.demo import run_demo


@click.command(
    "demo",
    epilog="""\b
Examples:
  eventstore demo
  eventstore demo my-first-store
""",
)
@click.argument("directory", metavar="[STORE]", required=False, type=click.Path(path_type=Path))
def command(directory: Path | None) -> None:
    """Record a pipeline, find a dataset bad, and ask what was known when.

    STORE must not exist or be an empty directory; without it the demo makes a temporary one.
    """
    if directory is None:
        directory = Path(tempfile.mkdtemp(prefix="eventstore-demo-"))
    elif directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise click.UsageError(f"{directory} is not empty: name a new directory")
    console = standard_output()
    run_demo(directory, console)
    console.print("\nThe store is yours to explore. Try:")
    program = _program()
    for example in (
        f"{program} info {directory}",
        f"{program} log {directory} --kind artifact --id 1",
        f"{program} log {directory} --limit 0 --json",
        f"{program} verify {directory}",
    ):
        console.print(f"  {example}", soft_wrap=True, highlight=False)


def _program() -> str:
    """How to call this command from here: by name, or by path when it is not on the PATH."""
    called = Path(sys.argv[0])
    if called.name != "eventstore":
        return "python -m eventstore"
    return "eventstore" if shutil.which("eventstore") else os.path.relpath(called)
