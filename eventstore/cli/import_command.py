"""`eventstore import`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from eventstore.cli.commands import command, output_options_without
from eventstore.cli.entities import spoken
from eventstore.cli.paths import PathName, PathOrAddress
from eventstore.cli.progress import progress_bar
from eventstore.cli.results import Grid, Output, Paragraph, note
from eventstore.cli.stores import save_projections
from eventstore.errors import InvalidArgumentError
from eventstore.log.stores import is_store
from eventstore.metadata_store.opening import operating_system_user
from eventstore.wording import counted

if TYPE_CHECKING:
    from eventstore.importing import Followed, ImportReport


@command(
    "import",
    examples=(
        "eventstore import metadata.sqlite my-store",
        "MYSQL_PWD=… eventstore import mysql://reader@db.example.com/metadb /srv/metadata",
        "eventstore import --follow postgresql://reader@db.example.com/metadb /srv/metadata",
    ),
)
@click.argument("source", metavar="DATABASE", type=PathOrAddress())
@click.argument("directory", metavar="STORE", type=PathName())
@click.option("--follow", is_flag=True, help="Go on, and append what changes in the database.")
@click.option(
    "--interval",
    metavar="SECONDS",
    type=click.FloatRange(min=0.01, max=86_400),
    help="How often --follow looks; 10 without it.",
)
@output_options_without("full", "local")
def import_command(
    source: str, directory: Path, follow: bool, interval: float | None, output: Output
) -> None:
    """Make a store of an MLMD database, and keep it at what that says.

    DATABASE is an SQLite file, or a URL: mysql://user:password@host:port/database or
    postgresql://…, of MLMD schema version 0 to 10. It is only read, as it is at one moment. Whoever
    may list processes sees a password in a URL: without one, MYSQL_PWD, PGPASSWORD and ~/.pgpass
    are asked. STORE must not exist or be an empty directory; it appears when the import is
    complete.

    With --follow each change that MLMD makes from then on is appended as it is seen, until a signal
    ends it. The same command goes on with a store that has been imported before.
    """
    output.check()
    if interval is not None and not follow:
        raise InvalidArgumentError("--interval says how often --follow looks: give both")
    if not follow:
        _show(_imported(source, directory, copies=False), directory, output)
        return
    if not is_store(directory):
        report = _imported(source, directory, copies=True)
        note(f"{_title(report, directory)}: {counted(report.position, 'record')}")
        _note_warnings(report)
    with _signals_as_event() as stop:
        _follow(source, directory, interval or 10.0, stop, output)


def _imported(source: str, directory: Path, *, copies: bool) -> ImportReport:
    from eventstore.importing import import_mlmd_database

    with progress_bar("Importing") as progress:
        report = import_mlmd_database(
            source, directory, copies=copies, progress=progress, actor=operating_system_user()
        )
    with progress_bar("Indexing") as progress:
        save_projections(directory, progress)
    return report


def _show(report: ImportReport, directory: Path, output: Output) -> None:
    output.grid(
        Grid(
            ("records", "count"),
            [
                *((spoken(kind), count) for kind, count in report.records.items()),
                ("all", report.position),
            ],
            _title(report, directory),
        ),
        objects=lambda: [report],
        csv=lambda: Grid(("kind", "count"), tuple(report.records.items())),
    )
    _note_warnings(report)


def _title(report: ImportReport, directory: Path) -> str:
    return f"Imported {report.source} (MLMD schema {report.schema_version}) into {directory}"


def _note_warnings(report: ImportReport) -> None:
    for warning in report.warnings:
        note(f"Note: {warning}")


def _follow(
    source: str, directory: Path, interval: float, stop: threading.Event, output: Output
) -> None:
    from eventstore.importing import follow_mlmd_database

    output = replace(output, grows=True)
    looks = follow_mlmd_database(
        source,
        directory,
        interval_seconds=interval,
        stop=stop,
        notice=lambda sentence: note(f"Note: {sentence}"),
        actor=operating_system_user(),
    )
    if output.form == "json":
        output.json_lines(looks)
    elif output.form == "csv":
        columns = ("recorded_at", "position", "records", "gone")
        rows = (
            (look.recorded_at, look.position, sum(look.records.values()), look.gone)
            for look in looks
        )
        output.csv(Grid(columns, rows))
    else:
        output.paragraphs(Paragraph(_line(look, output)) for look in looks)


def _line(look: Followed, output: Output) -> str:
    said = [counted(number, spoken(kind)) for kind, number in look.records.items()]
    if look.gone:
        said.append(f"{look.gone} gone")
    return f"position {look.position} at {output.moment(look.recorded_at)}: {', '.join(said)}"


@contextmanager
def _signals_as_event() -> Iterator[threading.Event]:
    """Set by the first signal that asks to end; a second one ends at once."""
    stop = threading.Event()

    def ended(number: int, frame: object) -> None:  # noqa: ARG001
        stop.set()
        for each, handler in before.items():
            signal.signal(each, handler)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    # One that is ignored stays so.
    caught = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    before = {number: before[number] for number in caught}
    for number in caught:
        signal.signal(number, ended)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
