"""`eventstore import`."""

from __future__ import annotations

from pathlib import Path

import click

from eventstore.cli.commands import command, output_options_without
from eventstore.cli.entities import spoken
from eventstore.cli.paths import PathName, PathOrAddress
from eventstore.cli.progress import progress_bar
from eventstore.cli.results import Grid, Output, note
from eventstore.cli.stores import save_projections
from eventstore.metadata_store.opening import operating_system_user


@command(
    "import",
    examples=(
        "eventstore import metadata.sqlite my-store",
        "MYSQL_PWD=… eventstore import mysql://reader@db.example.com/metadb /srv/metadata",
        "eventstore import postgresql://reader@db.example.com/metadb /srv/metadata",
    ),
)
@click.argument("source", metavar="DATABASE", type=PathOrAddress())
@click.argument("directory", metavar="STORE", type=PathName())
@output_options_without("full", "local")
def import_command(source: str, directory: Path, output: Output) -> None:
    """Make a store of an MLMD database.

    DATABASE is an SQLite file, or a URL: mysql://user:password@host:port/database or
    postgresql://…, of MLMD schema version 0 to 10. It is only read, as it is at one moment. Whoever
    may list processes sees a password in a URL: without one, MYSQL_PWD, PGPASSWORD and ~/.pgpass
    are asked. STORE must not exist or be an empty directory; it appears when the import is
    complete.
    """
    from eventstore.importing import import_mlmd_database

    output.check()
    with progress_bar("Importing") as progress:
        report = import_mlmd_database(
            source, directory, progress=progress, actor=operating_system_user()
        )
    with progress_bar("Indexing") as progress:
        save_projections(directory, progress)
    output.grid(
        Grid(
            ("records", "count"),
            [
                *((spoken(kind), count) for kind, count in report.records.items()),
                ("all", report.position),
            ],
            f"Imported {report.source} (MLMD schema {report.schema_version}) into {directory}",
        ),
        objects=lambda: [report],
        csv=lambda: Grid(("kind", "count"), tuple(report.records.items())),
    )
    for warning in report.warnings:
        note(f"Note: {warning}")
