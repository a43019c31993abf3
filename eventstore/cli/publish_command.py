"""`eventstore publish`: in an Iceberg table, or as tiles for any web server."""

from __future__ import annotations

from pathlib import Path

import click

from eventstore.answers import PublishAnswer
from eventstore.cli.commands import command, output_options_without, store_argument
from eventstore.cli.help import CommandGroup
from eventstore.cli.paths import PathName, file_option
from eventstore.cli.progress import progress_bar
from eventstore.cli.results import Output, refuse_inside_of_store
from eventstore.cli.stores import opened_store
from eventstore.cli.trust import checkpoint_of, trust_of, trust_options
from eventstore.iceberg import TABLE
from eventstore.log.places import Place
from eventstore.wording import are, counted


class _PublishGroup(CommandGroup):
    """One that takes `publish STORE CATALOG` for `publish iceberg STORE CATALOG`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["iceberg", *args]
        return super().resolve_command(ctx, args)


@click.group("publish", cls=_PublishGroup)
def publish_command() -> None:
    """Let others read a store's records or proofs without the store.

    `publish STORE CATALOG` is `publish iceberg STORE CATALOG`.
    """


@command(
    "iceberg",
    examples=(
        "eventstore publish my-store sqlite:///catalog.db --warehouse tables",
        "eventstore publish iceberg my-store sqlite:///catalog.db --warehouse tables --seal",
        "eventstore publish my-store https://catalog.example.com --table audit.records",
    ),
)
@store_argument
@click.argument("catalog")
@click.option(
    "--table",
    default=TABLE,
    show_default=True,
    metavar="NAMESPACE.NAME",
    help="The table, which is made at the first time.",
)
@click.option(
    "--warehouse",
    metavar="PLACE",
    help="Where a new table keeps its metadata: a folder or URL. Some catalogs say so themselves.",
)
@click.option(
    "--property",
    "properties",
    multiple=True,
    metavar="NAME=VALUE",
    help="A property of pyiceberg's for the catalog, such as s3.region; can be repeated.",
)
@click.option("--seal", is_flag=True, help="Seal what was put so far, and publish that, too.")
@click.option("--dry-run", is_flag=True, help="Only say what would be published.")
@output_options_without("full", "local")
def iceberg_command(
    place: Place,
    catalog: str,
    table: str,
    warehouse: str | None,
    properties: tuple[str, ...],
    seal: bool,
    dry_run: bool,
    output: Output,
) -> None:
    """Name a store's sealed files in an Iceberg table, as they are.

    CATALOG is the URL of a catalog, as of a REST catalog or sqlite:///FILE, or its name in
    pyiceberg's configuration, where credentials belong. A run makes one snapshot, which says up to
    which position it has records, or none where nothing is new. One that was interrupted is
    completed by the next.
    """
    from eventstore.iceberg import catalog_at, publish

    output.check()
    named = dict(_name_and_value(text) for text in properties)
    opened = catalog_at(catalog, warehouse=warehouse, properties=named)
    store = place if isinstance(place, Path) else place.revealed()
    with progress_bar("Publishing") as progress:
        done = publish(store, opened, table=table, seal=seal, dry_run=dry_run, progress=progress)
    has = "would have" if dry_run else "has"
    waiting = done.unsealed_records
    if not done.files:
        said = f"nothing of {place} is sealed yet, so that {table} is not made: publish with --seal"
    else:
        said = (
            f"{table} {has} the records of {place} up to position {done.position}, "
            f"{done.position - done.position_before} of them new: "
            f"{counted(done.files_added, 'file')} added, {done.files_removed} removed"
        )
        if waiting:
            said += (
                f"; {counted(waiting, 'record')} after them {are(waiting)} not sealed yet: "
                "publish with --seal to have them"
            )
    output.said(said, done)


def _name_and_value(text: str) -> tuple[str, str]:
    name, is_given, value = text.partition("=")
    if not is_given or not name:
        raise click.UsageError("--property takes NAME=VALUE")
    return name, value


@command(
    "tiles",
    examples=(
        "eventstore publish tiles my-store www --checkpoint new.checkpoint --key ana.pub",
        "eventstore publish tiles my-store www --checkpoint cosigned --policy policy.txt",
        "eventstore audit www --policy policy.txt",
    ),
)
@store_argument
@click.argument("folder", metavar="DIR", type=PathName(file_okay=False))
@file_option("--checkpoint", "checkpoint_file", "The signed checkpoint to publish.", required=True)
@trust_options
@output_options_without("full", "local")
def tiles_command(
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


for _command in (iceberg_command, tiles_command):
    publish_command.add_command(_command)
