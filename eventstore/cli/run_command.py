"""`eventstore run`: start a program for which this project is `ml_metadata`."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path

import click

import eventstore
from eventstore.cli.help import Command
from eventstore.shown_text import shown_text

_FOLDER = Path(eventstore.__file__).parent / "startup"
_CANNOT_RUN, _NOT_FOUND = 126, 127


@click.command(
    "run",
    cls=Command,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    examples=(
        "eventstore run -- python pipeline.py --epochs 3",
        "eventstore run -- pytest tests",
        'PYTHONPATH="$(eventstore run --path)" python pipeline.py',
    ),
    epilog="The program's exit code is this command's; 126 if it cannot be run, 127 if it is not "
    "found. Python started with -E or -I reads no environment variables, and so is left as it is.",
)
@click.option(
    "--path", "shows_path", is_flag=True, help="Print what to put first in PYTHONPATH instead."
)
@click.argument("program", nargs=-1, type=click.UNPROCESSED, metavar="-- PROGRAM [ARGUMENT ...]")
def run_command(program: tuple[str, ...], shows_path: bool) -> None:
    """Run a program unedited: its `import ml_metadata` reaches this project.

    So does that of every Python process that it starts, as long as mlmd-eventstore is installed
    there. Nothing else about the program changes; a path that it gives to MLMD for its SQLite file
    becomes a store's directory.
    """
    if shows_path:
        click.echo(_FOLDER)
        return
    if not program:
        raise click.UsageError("name the program to run: eventstore run -- python pipeline.py")
    if program[0].startswith("-"):
        # Click passes on what it does not know, since it cannot tell whose option it is.
        raise click.NoSuchOption(program[0])
    found = shutil.which(program[0])
    if found is None and os.path.dirname(program[0]) and os.path.exists(program[0]):
        words = os.strerror(errno.EISDIR if os.path.isdir(program[0]) else errno.EACCES)
        click.echo(f"eventstore: {shown_text(program[0])} cannot be run: {words}", err=True)
        sys.exit(_CANNOT_RUN)
    if found is None:
        click.echo(f"eventstore: there is no program {program[0]!r} on the path", err=True)
        sys.exit(_NOT_FOUND)
    path = os.environ.get("PYTHONPATH")
    folders = [str(_FOLDER), *([path] if path else [])]
    try:
        os.execve(  # noqa: S606
            found, program, {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
        )
    except OSError as error:
        click.echo(f"eventstore: {shown_text(found)} cannot be run: {error.strerror}", err=True)
        sys.exit(_CANNOT_RUN)
