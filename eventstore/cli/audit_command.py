"""`eventstore audit`."""

from __future__ import annotations

from pathlib import Path

import click

from eventstore.answers import AuditAnswer
from eventstore.cli.commands import command, output_options_without
from eventstore.cli.paths import PathName, PathOrAddress
from eventstore.cli.progress import progress_bar
from eventstore.cli.results import Output, note, refuse_inside_of_store, write_durably
from eventstore.cli.trust import checkpoint_of, cosigned_words, trust_of, trust_options
from eventstore.errors import DataLossError
from eventstore.log import Finding
from eventstore.wording import counted


@command(
    "audit",
    examples=(
        "eventstore audit www --key ana.pub",
        "eventstore audit https://audit.example.com/my-store --policy policy.txt --last last",
    ),
)
@click.argument("source", metavar="DIR|URL", type=PathOrAddress())
@trust_options
@click.option(
    "--last",
    "last_file",
    metavar="FILE",
    type=PathName(dir_okay=False),
    help="Where the last checkpoint that was checked is kept: only what came since is looked at.",
)
@output_options_without("full")
def audit_command(
    source: str,
    key_file: Path | None,
    policy_file: Path | None,
    rotation_files: tuple[Path, ...],
    last_file: Path | None,
    output: Output,
) -> None:
    """Check what `eventstore publish` has written, without the store; exit with 3 if it is wrong.

    From a folder or a web server: the checkpoint by a key or policy, every entry and every hash.
    With --last: that history goes on from the checkpoint in FILE, and the entries since; then FILE
    has the newer one.
    """
    from eventstore.audit.tile_check import check_tiles
    from eventstore.audit.tile_source import opened_source

    output.check()
    trust = trust_of(key_file, policy_file, rotation_files)
    older = None
    if last_file is not None:
        refuse_inside_of_store(last_file)
        if last_file.exists():
            older = checkpoint_of(last_file, trust)
        else:
            note("nothing was checked before: all of history is looked at")
    published = opened_source(source)
    try:
        with progress_bar("Checking") as progress:
            found = check_tiles(published, trust, older, progress)
    except DataLossError as error:
        if output.form != "text":
            output.said("", AuditAnswer(ok=False, source=source, findings=[Finding(str(error))]))
        raise
    checkpoint = found.checkpoint
    if last_file is not None:
        write_durably(last_file, checkpoint.text)
    since = ""
    if older is not None:
        since = (
            f", and begin with the {older.size} signed on {output.moment(older.signed_at)}; "
            f"entries were looked at from position {found.first_position} on"
        )
    output.said(
        f"The {counted(checkpoint.size, 'record')} that are published are those that "
        f"{checkpoint.signer} signed on {output.moment(checkpoint.signed_at)}"
        f"{cosigned_words(checkpoint)}{since}.",
        AuditAnswer(
            ok=True,
            source=source,
            size=checkpoint.size,
            signer=checkpoint.signer,
            signed_at=checkpoint.signed_at,
            witnesses=list(checkpoint.witnesses),
            first_position=found.first_position,
            older_size=None if older is None else older.size,
            checkpoint=checkpoint.text,
        ),
    )
