"""`eventstore backup` and `eventstore restore`."""

from __future__ import annotations

from pathlib import Path

import click

from eventstore.answers import CopyAnswer
from eventstore.cli.commands import command, output_options_without, store_argument
from eventstore.cli.paths import PathName
from eventstore.cli.progress import progress_bar
from eventstore.cli.results import Output
from eventstore.log import VerifyReport
from eventstore.wording import counted


@command(
    "backup",
    examples=(
        "eventstore backup my-store /backup/my-store-2026-11-20",
        "eventstore verify /backup/my-store-2026-11-20",
    ),
)
@store_argument
@click.argument("target", metavar="TARGET", type=PathName())
@output_options_without("full", "local")
def backup_command(directory: Path, target: Path, output: Output) -> None:
    """Copy a store, also while others write to it, and verify the copy.

    TARGET must not exist, or be an empty directory. It appears when the copy is whole: all that was
    put before this began, synced to disk and checked, every hash of it. The store is only read.

    A plain `cp -r` of a store that is written to takes its files at different moments: the copy may
    be refused when it is opened, or lack what was put last.
    """
    from eventstore.log.backup import copy_store

    with progress_bar("Backing up") as progress:
        report = copy_store(directory, target, progress)
    _say(output, f"Backed up {directory} to {target}", report, target)


@command("restore", examples=("eventstore restore /backup/my-store-2026-11-20 my-store",))
@click.argument("backup", metavar="BACKUP", type=PathName())
@click.argument("directory", metavar="STORE", type=PathName())
@output_options_without("full", "local")
def restore_command(backup: Path, directory: Path, output: Output) -> None:
    """Make a store of a backup, and verify it.

    STORE must not exist, or be an empty directory: nothing is overwritten. It appears when it is
    whole, synced to disk and checked. BACKUP is only read.
    """
    from eventstore.log.backup import copy_store

    with progress_bar("Restoring") as progress:
        report = copy_store(backup, directory, progress)
    _say(output, f"Restored {backup} to {directory}", report, directory)


def _say(output: Output, done: str, report: VerifyReport, path: Path) -> None:
    output.said(
        f"{done}: {counted(report.records, 'record')} in {counted(report.commits, 'commit')}, "
        f"head {report.tree_head}",
        CopyAnswer(str(path), report.records, report.commits, report.tree_head),
    )
