"""`eventstore copy`."""

from __future__ import annotations

from pathlib import Path

import click

from eventstore.answers import RestoreAnswer
from eventstore.cli.backup_command import is_of_retention, told_of
from eventstore.cli.commands import command, output_options_without
from eventstore.cli.paths import PlaceName, file_option
from eventstore.cli.progress import progress_bar
from eventstore.cli.results import Output, note
from eventstore.cli.scope_options import actor_option
from eventstore.log.places import Place
from eventstore.wording import counted


class CopiedAnswer(RestoreAnswer, frozen=True):
    """A copy at a path or URL, which has `copied` records more of its source than before."""

    copied: int


@command(
    "copy",
    examples=(
        "eventstore copy my-store /backup/copy-of-my-store",
        "eventstore copy my-store postgresql://recorder@db.example.com/metadata",
        "eventstore copy mysql://reader@db.example.com/metadata my-copy --erasures my.erasures",
    ),
)
@click.argument("source", metavar="SOURCE", type=PlaceName())
@click.argument("target", metavar="TARGET", type=PlaceName())
@file_option(
    "--erasures",
    "erasures",
    "What was erased since SOURCE was made, if it is a backup, as `eventstore erasures` writes it: "
    "it is erased in TARGET.",
)
@actor_option
@output_options_without("full", "local")
def copy_command(
    source: Place, target: Place, erasures: Path | None, actor: str | None, output: Output
) -> None:
    """Copy a store to another path or URL, or what it has more than the copy there.

    The copy has the same records, heads and proofs, and the same id. Each commit is verified before
    it is appended; SOURCE is only read. The copy ends where SOURCE was as this began. What is
    erased is not copied, and is destroyed in TARGET.

    A TARGET that has what SOURCE begins with is continued, as after a copy that was broken off;
    anything else is refused and left as it is. A copy can be put to. Once both are, they are two
    histories: no copy goes on then, and checkpoints of the one do not hold for the other.

    SOURCE may be a backup that is older than an erasure: --erasures keeps what was erased from
    coming back.
    """
    from eventstore.copies.copying import copy_store
    from eventstore.metadata_store.file_methods import who_repeats

    with progress_bar("Copying") as progress:
        report = copy_store(source, target, progress, erasures=erasures, actor=who_repeats(actor))
    repeated = report.repeated
    output.said(
        f"Copied {source} to {target}: {counted(report.copied, 'record')} more, "
        f"{counted(report.records, 'record')} in {counted(report.commits, 'commit')} by now, head "
        f"{report.tree_head}",
        CopiedAnswer(
            *(str(target), report.records, report.commits, report.tree_head),
            erasures_repeated=repeated.erasures,
            releases_repeated=repeated.releases,
            elsewhere=repeated.elsewhere,
            kept=repeated.kept,
            not_redacted=repeated.not_redacted,
            copied=report.copied,
        ),
    )
    for line in told_of(repeated):
        note(line)
    if erasures is None and report.copied == report.records and is_of_retention(target):
        note(
            "If this was a backup, what was erased since it was made is there again: say "
            "--erasures with the register, if there is one."
        )
