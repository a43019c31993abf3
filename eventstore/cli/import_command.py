"""`eventstore import`."""

from __future__ import annotations

from pathlib import Path

import click

from eventstore.cli.commands import command, output_options_without
from eventstore.cli.entities import spoken
from eventstore.cli.paths import PathName
from eventstore.cli.progress import progress_bar
from eventstore.cli.results import Grid, Output, note
from eventstore.cli.stores import save_projections
from eventstore.metadata_store.opening import operating_system_user


@command(
    "import",
    examples=(
        "eventstore import metadata.sqlite my-store",
        "eventstore import /backup/mlmd.db /srv/metadata",
    ),
)
@click.argument("source", metavar="FILE", type=PathName())
@click.argument("directory", metavar="STORE", type=PathName())
@output_options_without("full", "local")
def import_command(source: Path, directory: Path, output: Output) -> None:
    """Make a store of an MLMD SQLite database.

    FILE is a database of MLMD schema version 6 to 10; it is only read. STORE must not exist or be
    an empty directory; it appears when the import is complete.
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
            f"Imported {source} (MLMD schema {report.schema_version}) into {directory}",
        ),
        objects=lambda: [report],
        csv=lambda: Grid(("kind", "count"), tuple(report.records.items())),
    )
    for warning in report.warnings:
        note(f"Note: {warning}")
