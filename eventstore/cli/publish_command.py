"""`eventstore publish`."""

from __future__ import annotations

from pathlib import Path

import click

from eventstore.answers import PublishAnswer
from eventstore.cli.commands import Choice, command, output_options_without, store_argument
from eventstore.cli.paths import PathName, file_option
from eventstore.cli.progress import progress_bar
from eventstore.cli.results import Output, refuse_inside_of_store
from eventstore.cli.stores import opened_store
from eventstore.cli.trust import checkpoint_of, trust_of, trust_options
from eventstore.log.places import Place
from eventstore.wording import counted


@command(
    "publish",
    examples=(
        "eventstore publish tiles my-store www --checkpoint new.checkpoint --key ana.pub",
        "eventstore publish tiles my-store www --checkpoint cosigned --policy policy.txt",
        "eventstore audit www --policy policy.txt",
    ),
)
@click.argument("what", metavar="tiles", type=Choice(("tiles",)))
@store_argument
@click.argument("folder", metavar="DIR", type=PathName(file_okay=False))
@file_option("--checkpoint", "checkpoint_file", "The signed checkpoint to publish.", required=True)
@trust_options
@output_options_without("full", "local")
def publish_command(
    what: str,  # noqa: ARG001
    place: Place,
    folder: Path,
    checkpoint_file: Path,
    key_file: Path | None,
    policy_file: Path | None,
    rotation_files: tuple[Path, ...],
    output: Output,
) -> None:
    """Write a checkpoint, its tree and its entries into DIR, for any web server or bucket.

    The files are C2SP `tlog-tiles`. Entries have no content, but commitments to it. A second run
    adds what is new; one that was interrupted goes on. The checkpoint is written last.
    """
    from eventstore.audit.tiles import CHECKPOINT_NAME

    output.check()
    refuse_inside_of_store(folder / CHECKPOINT_NAME)
    checkpoint = checkpoint_of(checkpoint_file, trust_of(key_file, policy_file, rotation_files))
    with opened_store(place) as store, progress_bar("Publishing") as progress:
        done = store.publish_tiles(folder, checkpoint, progress)
    output.said(
        f"{folder} has {counted(done.records, 'record')} of {place}, "
        f"{done.records - done.records_before} of them new: "
        f"{counted(done.files_written, 'file')} written",
        PublishAnswer(str(folder), done.records, done.records_before, done.files_written),
    )
