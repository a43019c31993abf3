"""`eventstore backup` and `eventstore restore`, and what belongs to them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eventstore.answers import CopyAnswer, DestroyedKeysAnswer, RestoreAnswer
from eventstore.cli.commands import command, output_options_without, store_argument
from eventstore.cli.paths import PathName, file_option
from eventstore.cli.progress import progress_bar
from eventstore.cli.results import Grid, Output, note
from eventstore.cli.scope_options import actor_option
from eventstore.cli.stores import opened_store
from eventstore.log import VerifyReport
from eventstore.log.kinds import RETENTION_KINDS
from eventstore.log.places import Place
from eventstore.log.stores import back_up
from eventstore.wording import counted

if TYPE_CHECKING:
    from eventstore.copies.register import RegisteredErasure, RegisteredRelease
    from eventstore.copies.repeating import Repeated


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
def backup_command(place: Place, target: Path, keys: Path | None, output: Output) -> None:
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
        with opened_store(place) as store, progress_bar("Encrypting") as progress:
            report = store.backup(target, progress, keys=keys)
        _say(output, f"Backed up {place} to {target}, encrypted", report, target)
        return
    with progress_bar("Backing up") as progress:
        report = back_up(place, target, progress)
    _say(output, f"Backed up {place} to {target}", report, target)


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
@actor_option
@output_options_without("full", "local")
def restore_command(
    backup: Path,
    directory: Path,
    keys: Path | None,
    erasures: Path | None,
    actor: str | None,
    output: Output,
) -> None:
    """Make a store of a backup, and verify it.

    STORE must not exist, or be an empty directory: nothing is overwritten. It appears when it is
    whole, synced to disk and checked, and what --erasures names is erased. BACKUP is only read. An
    encrypted one takes --keys and --erasures, an empty file where nothing was ever erased.
    """
    from eventstore.metadata_store.file_methods import restore

    with progress_bar("Restoring") as progress:
        report = restore(backup, directory, progress, keys=keys, erasures=erasures, actor=actor)
    repeated = report.repeated
    output.said(
        _done(f"Restored {backup} to {directory}", report),
        RestoreAnswer(
            *(str(directory), report.records, report.commits, report.tree_head),
            erasures_repeated=repeated.erasures,
            releases_repeated=repeated.releases,
            elsewhere=repeated.elsewhere,
            kept=repeated.kept,
            not_redacted=repeated.not_redacted,
        ),
    )
    for line in told_of(report.repeated):
        note(line)
    if erasures is None and is_of_retention(directory):
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
def erasures_command(place: Place, output: Output) -> None:
    """Write the register of erasures: what `restore` erases again. Keep it apart from the store.

    It names positions, hashes, codes, tickets and names of properties, and nothing of what was
    erased. Write it after each erasure; a backup that is restored without it brings back what was
    erased since. As CSV it is for reading: `restore` takes the lines of JSON.
    """
    if output.form != "csv":
        with opened_store(place) as store:
            output.text(store.register_of_erasures())
        return
    from eventstore.copies.register import registered

    with opened_store(place) as store:
        found = registered(store.log, store._engine.snapshot())
    output.csv(Grid(_REGISTER_COLUMNS, (row for line in found for row in _register_rows(line))))


@command("destroy-keys", examples=("eventstore destroy-keys my-store my-store.keys",))
@store_argument
@click.argument("keys", metavar="KEYS", type=PathName())
@output_options_without("full", "local")
def destroy_keys_command(place: Place, keys: Path, output: Output) -> None:
    """Destroy the keys of all that is erased, so that no encrypted backup gives it back.

    Do so after each erasure, on every copy of KEYS: what one still has, a backup still gives.
    """
    with opened_store(place) as store:
        destroyed = store.destroy_keys(keys)
    output.said(
        f"Destroyed {counted(destroyed, 'key')} in {keys}",
        DestroyedKeysAnswer(str(keys), destroyed),
    )


def is_of_retention(place: Place) -> bool:
    """Whether a store has rules, holds or erasures."""
    with opened_store(place) as store:
        index = store._engine.snapshot().index
        return any(index.highest_id(kind.sequence) for kind in RETENTION_KINDS)


_REGISTER_COLUMNS = (
    *("what", "store_id", "number", "position", "leaf", "recorded_at", "basis", "ticket"),
    *("rule_position", "first", "last", "content", "who", "redacted", "leaves"),
    *("replaced_by", "replacement_leaf"),
)


def _register_rows(line: RegisteredErasure | RegisteredRelease) -> Iterator[tuple[object, ...]]:
    """A line of the register as rows: one for each span of records, or each that was redacted."""
    from eventstore.copies.register import LEAF_BYTES, RegisteredRelease

    named = (str(line.store_id), line.number, line.record.position, _base64(line.record.leaf))
    if isinstance(line, RegisteredRelease):
        placed = line.placed.position, line.placed.position, None, None, None
        yield (
            *("release", *named, line.recorded_at, None, line.ticket, None, *placed),
            *(_base64(line.placed.leaf), None, None),
        )
        return
    rule = None if line.rule is None else line.rule.position
    begins = ("erasure", *named, line.recorded_at, line.basis, line.ticket, rule)
    for part in line.parts:
        taken = (part.content, part.who, "; ".join(part.redacted) or None)
        if part.redacted:
            for (at, leaf), (by, other) in zip(part.records(), part.replacements(), strict=True):
                yield *begins, at, at, *taken, _base64(leaf), by, _base64(other)
            continue
        start = 0
        for first, last in part.spans:
            end = start + (last - first + 1) * LEAF_BYTES
            yield *begins, first, last, *taken, _base64(part.leaves[start:end]), None, None
            start = end


def _base64(leaves: bytes) -> str:
    return b64encode(leaves).decode()


def told_of(repeated: Repeated) -> Iterator[str]:
    """What is to be known of what a register named, a line for each."""
    if repeated.erasures or repeated.releases:
        yield (
            f"Recorded again: {counted(repeated.erasures, 'erasure')} and "
            f"{counted(repeated.releases, 'release')} of holds."
        )
    if repeated.elsewhere:
        yield (
            f"Passed over: {counted(repeated.elsewhere, 'record')} of the register, since another "
            "history of this store has other records at their positions."
        )
    if repeated.kept:
        yield (
            f"Not erased: {counted(repeated.kept, 'record')} of the register, held or locked in "
            "what was restored. Erase them once that has ended."
        )
    if repeated.not_redacted:
        yield (
            f"Erased whole instead of redacted: {counted(repeated.not_redacted, 'record')}, whose "
            "content or newest version is gone."
        )


def _done(done: str, report: VerifyReport) -> str:
    return (
        f"{done}: {counted(report.records, 'record')} in {counted(report.commits, 'commit')}, "
        f"head {report.tree_head}"
    )


def _say(output: Output, done: str, report: VerifyReport, path: Path) -> None:
    output.said(
        _done(done, report),
        CopyAnswer(str(path), report.records, report.commits, report.tree_head),
    )
