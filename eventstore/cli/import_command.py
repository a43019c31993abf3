"""`eventstore import`."""

from __future__ import annotations

from pathlib import Path

import click

from eventstore.cli.output import print_table, progress_bar, standard_output
from eventstore.importing import import_mlmd_database
from eventstore.metadata_store.opening import operating_system_user


@click.command(
    "import",
    epilog="""\b
Examples:
  eventstore import metadata.sqlite my-store
  eventstore import /backup/mlmd.db /srv/metadata
""",
)
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@click.argument("directory", metavar="STORE", type=click.Path(path_type=Path))
def command(source: Path, directory: Path) -> None:
    """Make a store of an MLMD SQLite database.

    FILE is a database of MLMD schema version 6 to 10; it is only read. STORE must not exist or be
    an empty directory; it appears when the import is complete.
    """
    with progress_bar("Importing") as progress:
        report = import_mlmd_database(
            source, directory, progress=progress, actor=operating_system_user()
        )
    console = standard_output()
    print_table(
        f"Imported {source} (MLMD schema {report.schema_version}) into {directory}",
        ("records", "count"),
        [
            *((kind.replace("_", " "), count) for kind, count in report.records.items()),
            ("all", report.position),
        ],
        console=console,
    )
    for warning in report.warnings:
        console.print(f"Note: {warning}")
