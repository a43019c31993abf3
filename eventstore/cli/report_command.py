"""`eventstore report`."""

from __future__ import annotations

from pathlib import Path

import click

import eventstore
from eventstore.cli.moments import as_of_option, store_as_of
from eventstore.cli.output import progress_bar
from eventstore.errors import AlreadyExistsError


@click.command(
    "report",
    epilog="""\b
Examples:
  eventstore report my-store artifact 7 --output churn.html
  eventstore report my-store artifact 7 --output churn.html --as-of 2026-11-20T08:00+00:00
  eventstore report my-store artifact 7 --output churn.html --checkpoint signed --key ana.pub
""",
)
@click.argument("directory", metavar="STORE", type=click.Path(path_type=Path))
@click.argument("kind", type=click.Choice(["artifact", "execution"]))
@click.argument("node_id", metavar="ID", type=int)
@click.option(
    "--output", required=True, type=click.Path(path_type=Path), help="The HTML file to write."
)
@as_of_option
@click.option(
    "--checkpoint",
    "checkpoint_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A signed checkpoint, against which the versions are proved.",
)
@click.option(
    "--key",
    "key_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The verifier key of the checkpoint's signer.",
)
@click.option(
    "--verify/--no-verify", default=True, show_default=True, help="Check the whole store first."
)
def command(
    directory: Path,
    kind: str,
    node_id: int,
    output: Path,
    as_of: str | None,
    checkpoint_file: Path | None,
    key_file: Path | None,
    verify: bool,
) -> None:
    """Write an audit report on a model, as one HTML file.

    What was known, what has changed since, its lineage drawn, who put each version, when and why,
    and what pins this history.
    """
    if (checkpoint_file is None) != (key_file is None):
        raise click.UsageError("--checkpoint and --key go together")
    checkpoint = None
    if checkpoint_file is not None and key_file is not None:
        from eventstore.audit import Checkpoint, VerifierKey

        key = VerifierKey.parse(key_file.read_text())
        checkpoint = Checkpoint.parse(checkpoint_file.read_text(), key)
    with eventstore.open(directory, read_only=True) as opened:
        store = store_as_of(opened, as_of)
        verification = None
        if verify:
            signed = [] if checkpoint is None else [checkpoint.of_store(opened.log.store_id)]
            with progress_bar("Verifying") as progress:
                verification = opened.log.verify(progress, signed_heads=signed)
        html = store.report(kind, node_id, verification=verification, checkpoint=checkpoint)
    try:
        with open(output, "x", encoding="utf-8") as written:
            written.write(html)
    except FileExistsError:
        raise AlreadyExistsError(f"{output} exists: choose another file") from None
    click.echo(f"{output}: {len(html) // 1024 + 1} KiB")
