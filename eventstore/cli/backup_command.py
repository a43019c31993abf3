"""`eventstore backup` and `eventstore restore`."""

from __future__ import annotations

from pathlib import Path

import click

from eventstore.answers import CopyAnswer, DestroyedKeysAnswer
from eventstore.cli.commands import command, output_options_without, store_argument
from eventstore.cli.paths import PathName, file_option
from eventstore.cli.progress import progress_bar
from eventstore.cli.results import Grid, Output, note
from eventstore.cli.stores import opened_store
from eventstore.log import VerifyReport
from eventstore.log.kinds import RETENTION_KINDS
from eventstore.wording import counted


@command(
    "backup",
    examples=(
        "eventstore backup my-store /backup/my-store-2026-11-20",
        "eventstore verify /backup/my-store-2026-11-20",
        "eventstore backup my-store encrypted --encrypt my-store.keys",
    ),
)
@store_argument
@click.argument("target", metavar="TARGET", type=PathName())
@click.option(
    "--encrypt",
    "keys",
    metavar="KEYS",
    type=PathName(),
    help="Encrypt each record with a key of its own, and keep the keys in this file.",
)
@output_options_without("full", "local")
def backup_command(directory: Path, target: Path, keys: Path | None, output: Output) -> None:
    """Copy a store, also while others write to it, and verify the copy.

    TARGET must not exist, or be an empty directory. It appears when the copy is whole: all that was
    put before this began, synced to disk and checked, every hash of it. The store is only read.

    A plain `cp -r` of a store that is written to takes its files at different moments: the copy may
    be refused when it is opened, or lack what was put last.

    With --encrypt, TARGET has no content and no names in the clear. KEYS, which is made if need be,
    has the keys of all encrypted backups of this store: keep it apart from them, and do not lose
    it.
    """
    if keys is not None:
        with opened_store(directory) as store, progress_bar("Encrypting") as progress:
            report = store.backup(target, progress, keys=keys)
        _say(output, f"Backed up {directory} to {target}, encrypted", report, target)
        return
    from eventstore.log.backup import copy_store

    with progress_bar("Backing up") as progress:
        report = copy_store(directory, target, progress)
    _say(output, f"Backed up {directory} to {target}", report, target)


@command(
    "restore",
    examples=(
        "eventstore restore /backup/my-store-2026-11-20 my-store",
        "eventstore restore /backup/my-store-2026-11-20 my-store --erasures my-store.erasures",
        "eventstore restore encrypted my-store --keys my-store.keys --erasures my-store.erasures",
    ),
)
@click.argument("backup", metavar="BACKUP", type=PathName())
@click.argument("directory", metavar="STORE", type=PathName())
@file_option("--keys", "keys", "The keys of an encrypted backup.")
@file_option(
    "--erasures",
    "erasures",
    "What was erased of the store, as `eventstore erasures` writes it: it is erased again.",
)
@output_options_without("full", "local")
def restore_command(
    backup: Path, directory: Path, keys: Path | None, erasures: Path | None, output: Output
) -> None:
    """Make a store of a backup, and verify it.

    STORE must not exist, or be an empty directory: nothing is overwritten. It appears when it is
    whole, synced to disk and checked, and what --erasures names is erased. BACKUP is only read. An
    encrypted one takes --keys and --erasures, an empty file where nothing was ever erased.
    """
    from eventstore.copies.restoring import restore

    with progress_bar("Restoring") as progress:
        report = restore(backup, directory, keys=keys, erasures=erasures, progress=progress)
    _say(output, f"Restored {backup} to {directory}", report, directory)
    if erasures is None and _is_of_retention(directory):
        note(
            "What was erased since the backup was made is there again: say --erasures with the "
            "register, if there is one."
        )


@command(
    "erasures",
    examples=(
        "eventstore erasures my-store --output my-store.erasures --force",
        "eventstore erasures my-store --json | jq .basis",
    ),
)
@store_argument
@output_options_without("full", "local")
def erasures_command(directory: Path, output: Output) -> None:
    """Write the register of erasures: what `restore` erases again. Keep it apart from the store.

    It names positions, codes and tickets, and nothing of what was erased. Write it after each
    erasure; a backup that is restored without it brings back what was erased since.
    """
    from eventstore.copies.register import register_text, registered_erasures

    with opened_store(directory) as store:
        found = registered_erasures(store.log, store._engine.snapshot())
    if output.form == "csv":
        spans = [
            (e.number, e.position, e.recorded_at, e.basis, e.ticket, span.first, span.last)
            for e in found
            for span in e.ranges
        ]
        columns = ("number", "position", "recorded_at", "basis", "ticket", "first", "last")
        output.csv(Grid(columns, spans))
        return
    output.text(register_text(found))


@command("destroy-keys", examples=("eventstore destroy-keys my-store my-store.keys",))
@store_argument
@click.argument("keys", metavar="KEYS", type=PathName())
@output_options_without("full", "local")
def destroy_keys_command(directory: Path, keys: Path, output: Output) -> None:
    """Destroy the keys of all that is erased, so that no encrypted backup gives it back.

    Do so after each erasure, on every copy of KEYS: what one still has, a backup still gives.
    """
    with opened_store(directory) as store:
        destroyed = store.destroy_keys(keys)
    output.said(
        f"Destroyed {counted(destroyed, 'key')} in {keys}",
        DestroyedKeysAnswer(str(keys), destroyed),
    )


def _is_of_retention(directory: Path) -> bool:
    """Whether a store has rules, holds or erasures."""
    with opened_store(directory) as store:
        index = store._engine.snapshot().index
        return any(index.highest_id(kind.sequence) for kind in RETENTION_KINDS)


def _say(output: Output, done: str, report: VerifyReport, path: Path) -> None:
    output.said(
        f"{done}: {counted(report.records, 'record')} in {counted(report.commits, 'commit')}, "
        f"head {report.tree_head}",
        CopyAnswer(str(path), report.records, report.commits, report.tree_head),
    )
