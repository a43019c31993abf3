"""`eventstore sql`."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click

import eventstore
from eventstore.cli.moments import as_of_option, parsed_moment
from eventstore.cli.output import print_table, standard_output

_SHOWN_ROWS_MAX = 1000


@click.command(
    "sql",
    epilog="""\b
Examples:
  eventstore sql my-store "SELECT type, count(*) FROM artifacts GROUP BY type"
  eventstore sql my-store "SELECT * FROM artifact_versions WHERE id = 7" --format json
  eventstore sql my-store "FROM events" --format parquet --output events.parquet
  eventstore sql my-store "FROM executions WHERE state = 'FAILED'" --as-of 2026-11-20T08:00+00:00
""",
)
@click.argument("directory", metavar="STORE", type=click.Path(path_type=Path))
@click.argument("query")
@as_of_option
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "csv", "parquet"]),
    default="table",
    show_default=True,
    help="json is a line a row; parquet needs --output.",
)
@click.option("--output", type=click.Path(path_type=Path), help="A file to write to.")
def command(
    directory: Path, query: str, as_of: str | None, output_format: str, output: Path | None
) -> None:
    """Run one SQL query over views of the store.

    They are types, artifacts, executions, contexts, properties, events, links, records and commits,
    and type_versions, artifact_versions, execution_versions, context_versions, property_versions.
    `DESCRIBE artifacts` shows a view's columns.
    """
    if output_format == "parquet" and output is None:
        raise click.UsageError("--format parquet needs --output")
    if output_format == "table" and output is not None:
        raise click.UsageError("--output needs --format json, csv or parquet")
    moment = None if as_of is None else parsed_moment(as_of)
    with eventstore.open(directory, read_only=True) as store:
        result = store.sql(query, as_of=moment)
    if output_format == "table":
        print_table(
            f"{len(result)} rows",
            result.columns,
            result.rows()[:_SHOWN_ROWS_MAX],
            console=standard_output(),
        )
        if len(result) > _SHOWN_ROWS_MAX:
            click.echo(f"The first {_SHOWN_ROWS_MAX} are shown; say --format csv for all.")
        return
    if output_format == "parquet":
        import pyarrow.parquet as parquet

        parquet.write_table(result.arrow(), output)
        return
    with open(output, "wb") if output is not None else sys.stdout.buffer as written:
        if output_format == "csv":
            import pyarrow.csv as csv

            csv.write_csv(result.arrow(), written)
            return
        for row in result:
            line = dict(zip(result.columns, row, strict=True))
            written.write(json.dumps(line, default=_plain, ensure_ascii=False).encode() + b"\n")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else str(value)
