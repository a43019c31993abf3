"""`eventstore verify`."""

from __future__ import annotations

import base64
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from eventstore.answers import SignedHeadAnswer, VerifyAnswer
from eventstore.cli.commands import command, moment_option, output_options, store_argument
from eventstore.cli.exit_codes import EXIT_CACHE_DISAGREES, EXIT_DAMAGED
from eventstore.cli.moments import EXAMPLES, Moment
from eventstore.cli.paths import file_option
from eventstore.cli.progress import progress_bar
from eventstore.cli.results import Grid, Output, Paragraph, note
from eventstore.cli.stores import opened_store, positions_between
from eventstore.cli.trust import (
    checkpoint_of,
    cosigned_words,
    rotations_of,
    trust_of,
    trust_options,
)
from eventstore.errors import DataLossError
from eventstore.log import Finding, VerifyReport
from eventstore.log.places import Place
from eventstore.log.stores import open_log, store_id_of, verify_store
from eventstore.times import moment_of
from eventstore.wording import counted

if TYPE_CHECKING:
    from eventstore.audit import Checkpoint


@command(
    "verify",
    examples=(
        "eventstore verify my-store",
        "eventstore verify my-store --json",
        "eventstore verify my-store --checkpoint 2026-11-20.checkpoint --key ana.pub",
        "eventstore verify my-store --since yesterday",
    ),
)
@store_argument
@file_option(
    "--checkpoint", "checkpoint_files", "A signed checkpoint that must hold, too.", multiple=True
)
@trust_options
@moment_option("--since", f"Check only segments with records put since: {EXAMPLES}.")
@moment_option("--until", "Check only segments with records put by then.")
@click.option("--no-caches", is_flag=True, help="Check the log alone, not what is folded from it.")
@output_options
def verify_command(
    place: Place,
    checkpoint_files: tuple[Path, ...],
    key_file: Path | None,
    policy_file: Path | None,
    rotation_files: tuple[Path, ...],
    since: Moment | None,
    until: Moment | None,
    no_caches: bool,
    output: Output,
) -> None:
    """Check every byte, checksum and hash of a store; exit with 3 when something is wrong.

    What was folded from the log to answer reads is folded again and compared; exit with 4 when that
    does not agree with the log, which is sound: `eventstore rebuild` makes it anew.
    With --since, what comes before it is believed.
    """
    from eventstore.audit.compared_caches import DISAGREES, with_caches
    from eventstore.retention.checking import GUARDS, with_guards

    checkpoints = _checkpoints(place, checkpoint_files, key_file, policy_file, rotation_files)
    # What a key signed last must hold even where an older one of its checkpoints is shown.
    rotations = rotations_of(rotation_files) if checkpoints else []
    damage = None
    try:
        after, upto = _range(place, since, until)
    except DataLossError as error:
        # It cannot be told where the range lies: damage is looked for everywhere.
        damage, after, upto = error, 0, None
    with progress_bar("Verifying") as progress:
        report = verify_store(
            place,
            progress,
            after=after,
            upto=upto,
            signed_heads=[
                *(held.of_store(held.store_id) for held in checkpoints),
                *(rotation.of_store(rotation.last.store_id) for rotation in rotations),
            ],
        )
    if damage is not None and report.ok:
        report = msgspec.structs.replace(report, ok=False, findings=[Finding(damage.message)])
    if since is not None or until is not None or not report.ok:
        report = report.without(GUARDS, "the caches")
    else:
        log = open_log(place, read_only=True)
        with contextlib.closing(log), progress_bar("Comparing caches") as progress:
            report = with_guards(report, log)
            report = (
                report.without("the caches") if no_caches else with_caches(report, log, progress)
            )
    if output.form == "json":
        output.json(_answer(report, checkpoints))
    elif output.form == "text" and report.ok:
        sentence = (
            f"{place} is sound: {counted(report.records, 'record')} in "
            f"{counted(report.commits, 'commit')}, "
            f"tree head {report.tree_head} ({_root(report.tree_head)})"
        )
        output.paragraphs([Paragraph(sentence), *_held(checkpoints, output)])
    else:
        output.grid(_findings(place, report))
    for words in report.not_checked:
        note(f"not checked: {words}")
    if report.findings:
        note(f"{place} is damaged: {counted(len(report.findings), 'finding')}")
        if any(finding.commit is not None for finding in report.findings):
            note(
                "The log itself is damaged: leave its files where they are, restore the store from "
                "a backup, and verify that with --checkpoint."
            )
        sys.exit(EXIT_DAMAGED)
    if report.cache_findings:
        note(f"{DISAGREES}run `eventstore rebuild {place}`")
        sys.exit(EXIT_CACHE_DISAGREES)


def _findings(place: Place, report: VerifyReport) -> Grid:
    return Grid(
        ("commit", "position", "file", "what"),
        [
            (finding.commit, finding.position, finding.file, finding.what)
            for finding in (*report.findings, *report.cache_findings)
        ],
        f"{place} is damaged" if report.findings else f"caches of {place}",
    )


def _answer(report: VerifyReport, checkpoints: list[Checkpoint]) -> VerifyAnswer:
    return VerifyAnswer(
        ok=report.ok,
        position=report.position,
        commits=report.commits,
        records=report.records,
        tree_head=report.tree_head,
        findings=report.findings,
        not_checked=report.not_checked,
        signed_heads=[
            SignedHeadAnswer(
                size=signed.size,
                head=signed.head,
                commit=signed.commit,
                recorded_at=moment_of(signed.recorded_at),
                signed=signed.signed,
                root=_root(signed.head),
                signer=held.signer,
                signed_at=held.signed_at,
                witnesses=list(held.witnesses),
            )
            for signed, held in zip(report.signed_heads, checkpoints, strict=False)
        ],
        cache_findings=report.cache_findings,
        root=_root(report.tree_head),
    )


def _held(checkpoints: list[Checkpoint], output: Output) -> Iterator[Paragraph]:
    for held in checkpoints:
        yield Paragraph(
            f"the checkpoint that {held.signer} signed on {output.moment(held.signed_at)} holds: "
            f"{counted(held.size, 'record')}, root {base64.b64encode(held.root).decode()}"
            f"{cosigned_words(held)}"
        )


def _root(head: str) -> str:
    """A tree head as checkpoints have it."""
    return base64.b64encode(bytes.fromhex(head)).decode()


def _checkpoints(
    place: Place,
    checkpoint_files: tuple[Path, ...],
    key_file: Path | None,
    policy_file: Path | None,
    rotation_files: tuple[Path, ...],
) -> list[Checkpoint]:
    if not checkpoint_files:
        if (key_file, policy_file, rotation_files) != (None, None, ()):
            raise click.UsageError("say --checkpoint, too: a key or policy checks nothing else")
        return []
    trust = trust_of(key_file, policy_file, rotation_files)
    store_id = store_id_of(place)
    checkpoints = [checkpoint_of(file, trust) for file in checkpoint_files]
    for checkpoint in checkpoints:
        checkpoint.of_store(store_id)
    return checkpoints


def _range(place: Place, since: Moment | None, until: Moment | None) -> tuple[int, int | None]:
    """The positions between two moments, for which alone the store is opened."""
    if since is None and until is None:
        return 0, None
    with opened_store(place) as store:
        after, upto = positions_between(store, since, until)
        return after, None if until is None else upto
