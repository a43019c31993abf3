"""`eventstore info`."""

from __future__ import annotations

import json
from pathlib import Path

import click

import eventstore
from eventstore.cli.output import (
    print_table,
    shown_bytes,
    shown_moment,
    standard_output,
)


@click.command(
    "info",
    epilog="""\b
Examples:
  eventstore info my-store
  eventstore info my-store --json
""",
)
@click.argument("directory", metavar="STORE", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def command(directory: Path, as_json: bool) -> None:
    """Show a store's position, what it holds, and the files that it consists of."""
    with eventstore.open(directory, read_only=True) as store:
        information = store.info()
    if as_json:
        click.echo(json.dumps(information))
        return
    console = standard_output()
    newest = information["recorded_at"]
    print_table(
        f"Store {directory}",
        ("", ""),
        [
            ("store id", information["store_id"]),
            ("position", information["position"]),
            ("commits", information["commits"]),
            ("newest record", shown_moment(newest) if newest is not None else "none"),
            ("log", shown_bytes(information["log_bytes"])),
            ("projections (a cache)", shown_bytes(information["projections_bytes"])),
        ],
        console=console,
    )
    print_table(
        "Now in it",
        ("kind", "count"),
        [(kind.replace("_", " "), count) for kind, count in information["counts"].items()],
        console=console,
    )
    print_table(
        "Segments",
        ("number", "state", "positions", "size", "file"),
        [
            (
                segment["number"],
                segment["state"],
                f"{segment['first_position']} to {segment['last_position']}"
                if segment["last_position"] >= segment["first_position"]
                else "none yet",
                shown_bytes(segment["bytes"]),
                segment["file"],
            )
            for segment in information["segments"]
        ],
        console=console,
    )
