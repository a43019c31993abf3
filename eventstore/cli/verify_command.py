"""`eventstore verify`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from eventstore.cli.main import EXIT_DAMAGED
from eventstore.cli.output import print_table, progress_bar, standard_output
from eventstore.log.verification import verify_directory


@click.command(
    "verify",
    epilog="""\b
Examples:
  eventstore verify my-store
  eventstore verify my-store --json
""",
)
@click.argument("directory", metavar="STORE", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
def command(directory: Path, as_json: bool) -> None:
    """Check every byte, checksum and hash of a store; exit with 3 when something is wrong."""
    with progress_bar("Verifying") as progress:
        report = verify_directory(directory, progress)
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
