"""`eventstore sql`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from msgspec.structs import replace

from eventstore.cli.commands import (
    Choice,
    as_of_option,
    command,
    output_options,
    store_argument,
)
from eventstore.cli.help import ErrorInLines
from eventstore.cli.moments import Moment, store_as_of
from eventstore.cli.paths import PathName
from eventstore.cli.results import Grid, Output, note
from eventstore.cli.stores import opened_store
from eventstore.errors import InvalidArgumentError
from eventstore.log.os_errors import translating
from eventstore.log.places import Place
from eventstore.shown_text import shown_lines
from eventstore.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN_ROWS_MAX: Final = 1_000


@command(
    "sql",
    examples=(
        'eventstore sql my-store "SELECT type, count(*) FROM artifacts GROUP BY type"',
        'eventstore sql my-store "FROM artifact_versions WHERE id = 7" --json',
        'eventstore sql my-store "FROM events" --format parquet --output events.parquet',
        "eventstore sql my-store --file report.sql --csv --output report.csv",
        "echo 'FROM commits' | eventstore sql my-store - --as-of yesterday",
    ),
)
@store_argument
@click.argument("query", metavar="[QUERY]", required=False)
@click.option(
    "--file",
    "query_file",
    metavar="FILE",
    type=PathName(exists=True, dir_okay=False, allow_dash=True),
    help="Read the query from a file.",
)
@as_of_option
@click.option(
    "--format",
    "output_format",
    metavar="FORM",
    type=Choice(["table", "json", "csv", "parquet"]),
    help="table, json (one line per row), csv, or parquet, which needs --output.",
)
@output_options
def sql_command(
    place: Place,
    query: str | None,
    query_file: Path | None,
    as_of: Moment | None,
    output_format: str | None,
    output: Output,
) -> None:
    """Run one SQL query over views of the store.

    They are types, artifacts, executions, contexts, properties, events, links, records, commits and
    erasures, and type_versions, artifact_versions, execution_versions, context_versions,
    property_versions.
    `DESCRIBE artifacts` shows a view's columns. QUERY may be - for standard input, which is also
    read when there is neither a query nor a file.
    """
    if output_format is not None and output.form not in ("text", output_format):
        raise click.UsageError(f"--{output.form} and --format {output_format} exclude each other")
    if output_format == "parquet" and not output.says_where:
        raise click.UsageError("--format parquet needs --output")
    if output_format in ("json", "csv"):
        output = replace(output, form=output_format)
    text = _query(query, query_file)
    with opened_store(place) as opened:
        store = store_as_of(opened, as_of, output)
        try:
            result = store.sql(text)
        except InvalidArgumentError as error:
            raise ErrorInLines(error.message) from None
    if output_format == "parquet":
        import pyarrow.parquet as parquet

        with output.opened() as written:
            parquet.write_table(result.arrow(), written.stream)
        return
    table = result.arrow()
    if output.form == "text" and _is_explained(text):
        # A plan is drawn in lines, and none of them is what somebody has put.
        output.text("".join(f"{shown_lines(plan)}\n" for *_, plan in result.rows()))
        return
    rows_max = None if output.form != "text" or output.width() is None else _SHOWN_ROWS_MAX
    output.grid(
        Grid(
            _distinct(result.columns),
            _rows(table if rows_max is None else table.slice(0, rows_max)),
            counted(len(result), "row"),
            is_named_by_query=True,
        )
    )
    if rows_max is not None and len(result) > rows_max:
        note(f"The first {rows_max} of {len(result)} rows are shown: say --csv for all.")


def _is_explained(text: str) -> bool:
    import duckdb

    (statement,) = duckdb.extract_statements(text)
    return statement.type == duckdb.StatementType.EXPLAIN


def _query(query: str | None, file: Path | None) -> str:
    if query not in (None, "-") and file is not None:
        raise click.UsageError("say a query or --file, not both")
    if query is not None and query != "-":
        return query
    if file is not None and str(file) != "-":
        with translating("reading", file):
            return _text(file.read_bytes(), str(file))
    if query is None and file is None and sys.stdin.isatty():
        raise click.UsageError("say a query, --file, or - to read it from standard input")
    return _text(sys.stdin.buffer.read(), "standard input")


def _text(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise click.UsageError(f"{name} is no text in UTF-8") from None


def _distinct(names: list[str]) -> list[str]:
    """The columns' names, numbered where a query has one twice."""
    found: list[str] = []
    for name in names:
        free, number = name, 1
        while free in found:
            free, number = f"{name}_{number}", number + 1
        found.append(free)
    return found


def _rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    for batch in table.to_batches(max_chunksize=10_000):
        yield from zip(*(_values(column) for column in batch.columns), strict=True)


def _values(column: pa.Array) -> list[Any]:
    """The values as Python's; times as text where Python's calendar ends."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        zone = column.type.tz
        column = column.cast(pa.timestamp("us", zone), safe=False)
    try:
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError):
        values = column.cast(pa.string()).to_pylist()
    return values
