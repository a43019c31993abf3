"""`eventstore compact`."""

from __future__ import annotations

from contextlib import closing

import click

from eventstore.cli.commands import command, output_options_without, store_argument
from eventstore.cli.progress import progress_bar
from eventstore.cli.results import Grid, Output
from eventstore.log.compacting import TARGET_BYTES, TARGET_RECORDS, compact
from eventstore.log.places import Place
from eventstore.log.stores import open_log
from eventstore.wording import counted


@command(
    "compact",
    examples=(
        "eventstore compact my-store --dry-run",
        "eventstore compact my-store",
        "eventstore compact my-store --target-records 4000000",
    ),
)
@store_argument
@click.option(
    "--target-records",
    type=click.IntRange(min=1),
    default=TARGET_RECORDS,
    show_default=True,
    metavar="COUNT",
    help="How many records a merged file has at most.",
)
@click.option(
    "--target-bytes",
    type=click.IntRange(min=1),
    default=TARGET_BYTES,
    show_default=True,
    metavar="COUNT",
    help="How long the files are together that become one.",
)
@click.option("--dry-run", is_flag=True, help="Only show which files would be merged.")
@output_options_without("full", "local")
def compact_command(
    place: Place, target_records: int, target_bytes: int, dry_run: bool, output: Output
) -> None:
    """Merge small Parquet files of a store into large ones.

    Engines such as Spark and DuckDB read few large files faster than many small ones. Records,
    positions, proofs and what is answered stay as they are. Others may put and read meanwhile; what
    was interrupted goes on with the next call.
    """
    output.check()
    # The log alone: opening the store folds caches, which this neither needs nor changes.
    with closing(open_log(place, read_only=dry_run)) as log, progress_bar("Compacting") as progress:
        merged = compact(
            log,
            progress,
            target_records=target_records,
            target_bytes=target_bytes,
            dry_run=dry_run,
        )
    if output.form == "json":
        output.json_lines(merged)
        return
    rows = [
        (
            f"{m.first_number} to {m.number}",
            f"{m.first_position} to {m.last_position}",
            m.files,
            m.old_bytes,
            m.new_bytes,
        )
        for m in merged
    ]
    names = ("segments", "positions", "files", "bytes", "merged_bytes")
    if output.form == "csv":
        output.csv(Grid(names, rows))
        return
    if not merged:
        output.text(f"{place} has nothing to merge\n")
        return
    files = counted(sum(m.files for m in merged), "file")
    said = f"{'Would merge' if dry_run else 'Merged'} {files} of {place} into {len(merged)}"
    output.grids(Grid(names, rows, said))
