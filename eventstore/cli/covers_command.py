"""`eventstore hold covers` and `eventstore retention covers`: nodes that a hold or a rule is of."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import click

from eventstore.cli.commands import (
    as_of_option,
    command,
    limit_option,
    output_options,
    store_argument,
)
from eventstore.cli.moments import Moment, store_as_of
from eventstore.cli.results import Grid, Output, note
from eventstore.cli.stores import opened_store
from eventstore.errors import UnimplementedError
from eventstore.log.places import Place

if TYPE_CHECKING:
    from eventstore.http_api.rules import CoveredNode
    from eventstore.metadata_store.source import Source

_PAGE = 500


@command(
    "covers",
    examples=(
        "eventstore hold covers my-store 1",
        "eventstore hold covers my-store 1 --limit 0 --json",
    ),
)
@store_argument
@click.argument("number", type=int)
@limit_option("Nodes; 0 for all.")
@as_of_option
@output_options
def hold_covers_command(
    place: Place, number: int, limit: int, as_of: Moment | None, output: Output
) -> None:
    """List the nodes that a hold covers: what it is about, and what is upstream of that."""
    _show(place, "hold", number, limit, as_of, output)


@command("covers", examples=("eventstore retention covers my-store 1",))
@store_argument
@click.argument("number", type=int)
@limit_option("Nodes; 0 for all.")
@as_of_option
@output_options
def rule_covers_command(
    place: Place, number: int, limit: int, as_of: Moment | None, output: Output
) -> None:
    """List the nodes that a retention rule is about."""
    _show(place, "rule", number, limit, as_of, output)


def _show(
    place: Place, by: str, number: int, limit: int, as_of: Moment | None, output: Output
) -> None:
    from eventstore.http_api.rules import COVERED_MAX

    with opened_store(place) as opened:
        store = store_as_of(opened, as_of, output)
        if not store._source.is_here:
            raise UnimplementedError(
                f"what a {by} covers is found where the store is, and this one is behind a server: "
                "run it on a machine that opens the store itself, or ask the server's HTTP API"
            )
        found = [*islice(_nodes(store._source, by, number), limit + 1 if limit else None)]
    shown = found[:limit] if limit else found
    output.grid(
        Grid(
            ("kind", "id", "type", "name", "state", "upstream"),
            [
                (
                    one.node.kind,
                    one.node.id,
                    one.node.type,
                    one.node.name,
                    one.node.state,
                    one.is_upstream,
                )
                for one in shown
            ],
            f"What {by} {number} of {place} covers",
        ),
        objects=lambda: shown,
    )
    if not limit and len(found) == COVERED_MAX:
        note(f"No more than {COVERED_MAX:,} are looked for.")
    if len(found) > len(shown):
        note(f"There are more than these {len(shown):,}: say --limit 0 for all.")


def _nodes(source: Source, by: str, number: int) -> Iterator[CoveredNode]:
    from eventstore.http_api.rules import covered

    after: int | None = 0
    while after is not None:
        nodes, after = covered(source, by, number, after=after, limit=_PAGE)
        yield from nodes
