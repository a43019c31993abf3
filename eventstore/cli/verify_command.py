"""`eventstore verify`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

import eventstore
from eventstore.cli.main import EXIT_DAMAGED
from eventstore.cli.moments import parsed_moment
from eventstore.cli.output import print_table, progress_bar, standard_output
from eventstore.log import SignedHead
from eventstore.log.manifest import read_manifest
from eventstore.log.verification import verify_directory


@click.command(
    "verify",
    epilog="""\b
Examples:
  eventstore verify my-store
  eventstore verify my-store --json
  eventstore verify my-store --checkpoint 2026-11-20.checkpoint --key ana.pub
  eventstore verify my-store --since 2026-11-17T00:00+00:00
""",
)
@click.argument("directory", metavar="STORE", type=click.Path(path_type=Path))
@click.option(
    "--checkpoint",
    "checkpoint_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A signed checkpoint that must hold, too.",
)
@click.option(
    "--key",
    "key_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The verifier key of the checkpoints' signer.",
)
@click.option("--since", metavar="MOMENT", help="Check only segments with records put later.")
@click.option("--until", metavar="MOMENT", help="Check only segments with records put by then.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
def command(
    directory: Path,
    checkpoint_files: tuple[Path, ...],
    key_file: Path | None,
    since: str | None,
    until: str | None,
    as_json: bool,
) -> None:
    """Check every byte, checksum and hash of a store; exit with 3 when something is wrong.

    A moment is a position or a time (ISO 8601, zoned). What comes before it is then believed.
    """
    signed_heads = _signed_heads(directory, checkpoint_files, key_file)
    after, upto = _range(directory, since, until)
    with progress_bar("Verifying") as progress:
        report = verify_directory(
            directory, progress, after=after, upto=upto, signed_heads=signed_heads
        )
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
    elif report.ok:
        click.echo(
            f"{directory} is sound: {report.records} records in {report.commits} commits, "
            f"tree head {report.tree_head}"
        )
    else:
        print_table(
            f"{directory} is damaged",
            ("commit", "position", "file", "what"),
            [
                (finding.commit, finding.position, finding.file, finding.what)
                for finding in report.findings
            ],
            console=standard_output(),
        )
    if not report.ok:
        sys.exit(EXIT_DAMAGED)


def _signed_heads(
    directory: Path, checkpoint_files: tuple[Path, ...], key_file: Path | None
) -> list[SignedHead]:
    if not checkpoint_files:
        return []
    if key_file is None:
        raise click.UsageError("--checkpoint needs --key, the verifier key of who signed it")
    from eventstore.audit import Checkpoint, VerifierKey

    key = VerifierKey.parse(key_file.read_text())
    store_id = read_manifest(directory).store_id
    return [Checkpoint.parse(file.read_text(), key).of_store(store_id) for file in checkpoint_files]


def _range(directory: Path, since: str | None, until: str | None) -> tuple[int, int | None]:
    """The positions between two moments, for which alone the store is opened."""
    if since is None and until is None:
        return 0, None
    with eventstore.open(directory, read_only=True) as store:
        after = 0 if since is None else store.as_of(parsed_moment(since)).log_position()
        upto = None if until is None else store.as_of(parsed_moment(until)).log_position()
    return after, upto
