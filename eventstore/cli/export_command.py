"""`eventstore export`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
from msgspec.structs import replace

from eventstore.answers import ExportAnswer
from eventstore.cli.commands import (
    as_of_option,
    command,
    output_options_without,
    store_argument,
)
from eventstore.cli.moments import Moment, store_as_of
from eventstore.cli.paths import PathName
from eventstore.cli.progress import progress_bar
from eventstore.cli.results import Output
from eventstore.cli.stores import opened_store
from eventstore.log.places import Place


@command(
    "export",
    examples=(
        "eventstore export my-store records.jsonl",
        "eventstore export my-store - --as-of 2026-11-20 | gzip > records.jsonl.gz",
        "python standalone_verifier.py records records.jsonl 2026-11-20.checkpoint ana.pub",
    ),
)
@store_argument
@click.argument("file", metavar="[FILE]", required=False, type=PathName())
@as_of_option
@output_options_without("full")
def export_command(place: Place, file: Path | None, as_of: Moment | None, output: Output) -> None:
    """Write every record into FILE, a line of JSON each, for the stand-alone verifier.

    FORMAT.md has the members. Salts are written as well: with them contents can be proved. FILE may
    be - for standard output.
    """
    if file is not None:
        if output.says_where:
            raise click.UsageError("say FILE or --output, not both")
        output = replace(output, file=None if str(file) == "-" else file, says_where=True)
    if not output.says_where:
        raise click.UsageError("say FILE, or - for standard output")
    if output.form != "text" and output.file is None:
        raise click.UsageError(
            f"leave --{output.form} out: the records are lines of JSON by themselves; or name a "
            f"FILE, of which --{output.form} tells"
        )
    output.check()
    with opened_store(place) as opened:
        end = store_as_of(opened, as_of, output).log_position()

        def lines() -> Iterator[bytes]:
            for commit in opened.log.commits(0, end):
                for record in commit.records:
                    yield msgspec.json.encode(record) + b"\n"
                progress(commit.last_position, end)

        with progress_bar("Exporting") as progress:
            output.document(lines(), ExportAnswer(output.file_name, end))
