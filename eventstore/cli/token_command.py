"""`eventstore token`: makes a token for a client of a server."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

import click

from eventstore.answers import TokenAnswer
from eventstore.cli.commands import command, output_options_without
from eventstore.cli.moments import Moment
from eventstore.cli.paths import PathName
from eventstore.cli.results import Output, note, refuse_inside_of_store
from eventstore.log.os_errors import translating


@command(
    "token",
    examples=(
        "eventstore token nightly --grant write --file tokens",
        "eventstore token ana@example.com --grant team-a=audit --grant team-b=read",
        "eventstore token trainer --grant team-a=write --until 2027-01-31 --file tokens",
        "eventstore serve my-store --token-file tokens",
    ),
)
@click.argument("actor")
@click.option(
    "--grant",
    "grants",
    metavar="[STORE=]ROLE",
    required=True,
    multiple=True,
    help="What it may do: read, write, audit or admin; * as STORE is every one.",
)
@click.option(
    "--until", metavar="TIME", help="The time when it ends, or the last day on which it is good."
)
@click.option("--file", type=PathName(dir_okay=False), help="The token file, which gets its line.")
# Whatever has the token should be readable by one user alone: that is for the shell to say.
@output_options_without("full", "local", "output", "force")
def token_command(
    actor: str, grants: tuple[str, ...], until: Moment | None, file: Path | None, output: Output
) -> None:
    """Make a token, whose holder puts as ACTOR, and show it once.

    A token file has its hash, from which nobody gets it back. Without --file the line for such a
    file is shown as well. To take a token back, remove its line: servers notice.
    """
    from eventstore.server.token_file import line_of, new_token

    if until is not None and until.end is None:
        raise click.UsageError(f"--until {until.text} is no time: write 2027-01-31T18:00Z")
    if until is not None and until.end is not None and until.end <= datetime.now(timezone.utc):
        raise click.UsageError(f"--until {until.text} is over: the token would never be good")
    output.check()
    token = new_token()
    line = line_of(token, actor, grants, None if until is None else until.end)
    if file is not None:
        _append(file, line)
    text = f"{token}\n" if file is not None else f"{token}\n{line}\n"
    output.text_or(text, TokenAnswer(actor, token, line))
    if file is None:
        note("The first line is the token, shown only now; the second is for the token file.")
    else:
        note(f"This is the token, shown only now; {file} has its hash.")


def _append(file: Path, line: str) -> None:
    """Add a line at the end, by one write. A new file is readable by its owner alone."""
    refuse_inside_of_store(file)
    with translating("writing", file):
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with open(descriptor, "r+b", buffering=0) as appended:
            size = appended.seek(0, os.SEEK_END)
            appended.seek(max(size - 1, 0))
            starts = b"" if appended.read(1) in (b"", b"\n") else b"\n"
            appended.write(starts + line.encode() + b"\n")
            os.fsync(descriptor)
