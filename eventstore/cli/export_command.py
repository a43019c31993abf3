"""`eventstore export`."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

import eventstore
from eventstore.cli.moments import as_of_option, store_as_of
from eventstore.cli.output import progress_bar


@click.command(
    "export",
    epilog="""\b
Examples:
  eventstore export my-store records.jsonl
  eventstore export my-store records.jsonl --as-of 2026-11-20T08:00+00:00
  python standalone_verifier.py records records.jsonl 2026-11-20.checkpoint ana.pub
""",
)
@click.argument("directory", metavar="STORE", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@as_of_option
def command(directory: Path, file: Path, as_of: str | None) -> None:
    """Write every record into FILE, a line of JSON each, for the stand-alone verifier.

    FORMAT.md has the members. Salts are written as well: with them contents can be proved.
    """
    with eventstore.open(directory, read_only=True) as opened:
        end = store_as_of(opened, as_of).log_position()
        try:
            with open(file, "xb") as written, progress_bar("Exporting") as progress:
                for commit in opened.log.commits(0, end):
                    for record in commit.records:
                        written.write(msgspec.json.encode(record) + b"\n")
                    progress(commit.last_position, end)
        except FileExistsError:
            raise eventstore.errors.AlreadyExistsError(
                f"{file} exists: choose another file"
            ) from None
    click.echo(f"{end} records in {file}")
