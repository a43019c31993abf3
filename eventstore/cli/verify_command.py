"""`eventstore verify`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import click

from eventstore.cli.checkpoint_command import text_of
from eventstore.cli.commands import command, moment_option, output_options, store_argument
from eventstore.cli.main import EXIT_DAMAGED
from eventstore.cli.moments import EXAMPLES, Moment
from eventstore.cli.progress import progress_bar
from eventstore.cli.results import Output, Paragraph, Table, note
from eventstore.cli.stores import opened_store, position_before, position_upto
from eventstore.log import DirectoryLog, SignedHead, VerifyReport
from eventstore.log.manifest import read_manifest
from eventstore.log.verification import verify_directory
from eventstore.projections.verification import with_caches


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
@click.option(
    "--checkpoint",
    "checkpoint_files",
    metavar="FILE",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A signed checkpoint that must hold, too.",
)
@click.option(
    "--key",
    "key_file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The verifier key of the checkpoints' signer.",
)
@moment_option("--since", f"Check only segments with records put since: {EXAMPLES}.")
@moment_option("--until", "Check only segments with records put by then.")
@click.option("--no-caches", is_flag=True, help="Check the log alone, not what is folded from it.")
@output_options
def verify_command(
    directory: Path,
    checkpoint_files: tuple[Path, ...],
    key_file: Path | None,
    since: Moment | None,
    until: Moment | None,
    no_caches: bool,
    output: Output,
) -> None:
    """Check every byte, checksum and hash of a store; exit with 3 when something is wrong.

    What was folded from the log to answer reads is folded again and compared.
    With --since, what comes before it is believed.
    """
    signed_heads = _signed_heads(directory, checkpoint_files, key_file)
    after, upto = _range(directory, since, until)
    with progress_bar("Verifying") as progress:
        report = verify_directory(
            directory, progress, after=after, upto=upto, signed_heads=signed_heads
        )
    if since is not None or until is not None or no_caches or not report.ok:
        report = report.without("the caches")
    else:
        log = DirectoryLog.open(directory, read_only=True)
        with contextlib.closing(log), progress_bar("Comparing caches") as progress:
            report = with_caches(report, log, progress)
    if output.form == "json":
        output.json(report)
    elif output.form == "text" and report.ok:
        sentence = (
            f"{directory} is sound: {report.records} records in {report.commits} commits, "
            f"tree head {report.tree_head}"
        )
        output.paragraphs([Paragraph(sentence)])
    else:
        output.table(_findings(directory, report))
    for words in report.not_checked:
        note(f"not checked: {words}")
    if not report.ok:
        note(f"{directory} is damaged: {len(report.findings)} findings")
        sys.exit(EXIT_DAMAGED)


def _findings(directory: Path, report: VerifyReport) -> Table:
    return Table(
        ("commit", "position", "file", "what"),
        [
            (finding.commit, finding.position, finding.file, finding.what)
            for finding in report.findings
        ],
        f"{directory} is damaged",
    )


def _signed_heads(
    directory: Path, checkpoint_files: tuple[Path, ...], key_file: Path | None
) -> list[SignedHead]:
    if not checkpoint_files:
        return []
    if key_file is None:
        raise click.UsageError("--checkpoint needs --key, the verifier key of who signed it")
    from eventstore.audit import Checkpoint, VerifierKey

    key = VerifierKey.parse(text_of(key_file))
    store_id = read_manifest(directory).store_id
    return [Checkpoint.parse(text_of(file), key).of_store(store_id) for file in checkpoint_files]


def _range(directory: Path, since: Moment | None, until: Moment | None) -> tuple[int, int | None]:
    """The positions between two moments, for which alone the store is opened."""
    if since is None and until is None:
        return 0, None
    with opened_store(directory) as store:
        after = position_before(store, since)
        return after, None if until is None else position_upto(store, until)
