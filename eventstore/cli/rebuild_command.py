"""`eventstore rebuild`."""

from __future__ import annotations

from pathlib import Path

import click

import eventstore
from eventstore.cli.output import progress_bar
from eventstore.log.manifest import read_manifest


@click.command(
    "rebuild",
    epilog="""\b
Examples:
  eventstore rebuild my-store
""",
)
@click.argument("directory", metavar="STORE", type=click.Path(path_type=Path))
def command(directory: Path) -> None:
    """Fold the projections of a store anew from its log.

    Nothing of the store is changed but these caches. They are folded again by themselves when they
    are missing or stale; this is for a disk that has damaged them.
    """
    # Opening to write would make a store where there is none.
    read_manifest(directory)
    with eventstore.open(directory) as store, progress_bar("Rebuilding") as progress:
        store.rebuild(progress)
        position = store.log_position()
    click.echo(f"Folded the {position} records of {directory} anew")
