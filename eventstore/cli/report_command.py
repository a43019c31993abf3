"""`eventstore report`."""

from __future__ import annotations

from pathlib import Path

import click

from eventstore.answers import ReportAnswer
from eventstore.cli.commands import (
    as_of_option,
    command,
    kind_argument,
    limit_option,
    output_options_without,
    store_argument,
)
from eventstore.cli.moments import Moment, store_as_of
from eventstore.cli.paths import file_option
from eventstore.cli.progress import progress_bar
from eventstore.cli.results import Output
from eventstore.cli.stores import opened_store
from eventstore.cli.trust import checkpoint_of, trust_of, trust_options
from eventstore.log.places import Place


@command(
    "report",
    examples=(
        "eventstore report my-store artifact 7 --output churn.html",
        "eventstore report my-store artifact 7 --output churn.html --as-of 2026-11-20",
        "eventstore report my-store artifact 7 --output - --checkpoint signed --key ana.pub",
    ),
)
@store_argument
@kind_argument(("artifact", "execution"))
@click.argument("node_id", metavar="ID", type=int)
@as_of_option
@file_option(
    "--checkpoint", "checkpoint_file", "A signed checkpoint, against which the versions are proved."
)
@trust_options
@click.option(
    "--verify/--no-verify", default=True, show_default=True, help="Check the whole store first."
)
@limit_option("Nodes of the lineage: origins, ways to them, the nearest; 0 for all.")
@output_options_without("full")
def report_command(
    place: Place,
    kind: str,
    node_id: int,
    as_of: Moment | None,
    checkpoint_file: Path | None,
    key_file: Path | None,
    policy_file: Path | None,
    rotation_files: tuple[Path, ...],
    verify: bool,
    limit: int,
    output: Output,
) -> None:
    """Write an audit report on an artifact or execution, as one HTML file.

    What was known, what has changed since, its lineage drawn, who put each version, when and why,
    and what pins this history. KIND is artifact or execution; the HTML goes into the file that
    --output names.
    """
    if (checkpoint_file is None) != (key_file is None and policy_file is None):
        raise click.UsageError("--checkpoint and --key or --policy go together")
    if not output.says_where:
        raise click.UsageError("say where the report goes: --output FILE, or - for standard output")
    output.check()
    checkpoint = None
    if checkpoint_file is not None:
        checkpoint = checkpoint_of(checkpoint_file, trust_of(key_file, policy_file, rotation_files))
    with opened_store(place) as opened:
        store = store_as_of(opened, as_of, output)
        verification = None
        if verify:
            from eventstore.retention.checking import with_guards

            signed = [] if checkpoint is None else [checkpoint.of_store(opened.log.store_id)]
            with progress_bar("Verifying") as progress:
                verification = opened.log.verify(progress, signed_heads=signed)
            verification = with_guards(verification, opened.log)
            verification = verification.without("the caches, from which this report was made")
        html = store.report(
            kind,
            node_id,
            verification=verification,
            checkpoint=checkpoint,
            limit=limit or None,
        )
    page = html.encode()
    output.document([page], ReportAnswer(output.file_name, len(page)))
