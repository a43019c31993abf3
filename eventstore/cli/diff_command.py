"""`eventstore diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from eventstore.answers import DifferenceAnswer
from eventstore.cli.commands import Choice, Kind, command, output_options, store_argument
from eventstore.cli.entities import (
    CHANGE_COLUMNS,
    change_rows,
    erasure_answers,
    field_answers,
    shown_fields,
    spoken,
)
from eventstore.cli.moments import Moment, said_back
from eventstore.cli.results import Grid, Output, note
from eventstore.cli.stores import opened_store
from eventstore.log.places import Place
from eventstore.wording import are, counted

if TYPE_CHECKING:
    from eventstore.history import EntityDifference, LineageDifference


_NODES: Final = 100


@command(
    "diff",
    examples=(
        "eventstore diff my-store yesterday",
        "eventstore diff my-store 1200 1300",
        "eventstore diff my-store 1200 --json",
        "eventstore diff my-store 2026-11-17 --lineage artifact 7",
        "eventstore diff my-store 1200 --lineage artifact 7 --direction upstream --hops 6",
    ),
)
@store_argument
@click.argument("first", metavar="MOMENT")
@click.argument("second", metavar="[MOMENT]", required=False)
@click.option(
    "--lineage",
    nargs=2,
    type=(Kind(("artifact", "execution")), int),
    metavar="KIND ID",
    help="Only in the lineage of this artifact or execution.",
)
@click.option(
    "--direction",
    metavar="WAY",
    type=Choice(("upstream", "downstream", "both")),
    help="With --lineage: upstream, downstream or both (as without it).",
)
@click.option(
    "--hops",
    type=click.IntRange(min=0),
    help="With --lineage: hops at most; any number without it.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    help=f"With --lineage: nodes of it, the nearest; 0 for all. [default: {_NODES}]",
)
@output_options
def diff_command(
    place: Place,
    first: Moment,
    second: Moment | None,
    lineage: tuple[str, int] | None,
    direction: str | None,
    hops: int | None,
    limit: int | None,
    output: Output,
) -> None:
    """Show what is new or different at a second moment (now), entity by entity.

    A moment is a position, a day (its end is meant), a time, or words such as yesterday.
    """
    if lineage is None:
        for name, given in (("direction", direction), ("hops", hops), ("limit", limit)):
            if given is not None:
                raise click.UsageError(f"--{name} goes with --lineage")
    left_out = ""
    with opened_store(place) as store:
        moments = first.upto(), None if second is None else second.upto()
        for moment in (first, second):
            if moment is not None:
                said = moment.text if moment.number is None else None
                position = store._position_of(moment.upto(), or_start=moment is first, said=said)
                if position:
                    said_back(store, moment, position, output)
        if lineage is None:
            found = store.diff(*moments)
        else:
            max_nodes = (_NODES if limit is None else limit) or None
            compared = store.lineage_diff(
                *lineage,
                *moments,
                direction=direction or "both",
                max_hops=hops,
                max_nodes=max_nodes,
            )
            found = _differences(compared)
            if compared.after.left_out:
                nodes = len(compared.after.nodes)
                left_out = (
                    f"{counted(nodes, 'node')} of the lineage {are(nodes)} compared; "
                    f"{compared.after.left_out} of the next hop and all after "
                    f"{'it' if compared.after.left_out == 1 else 'them'} are left out: "
                    "say --limit 0 for all."
                )
    output.grid(
        Grid(
            ("kind", "id", "change", "fields"),
            [
                (
                    spoken(entity.kind),
                    entity.id or None,
                    _word(entity),
                    shown_fields(entity.fields, output, entity.erasures),
                )
                for entity in found
            ],
            f"Differences in {place}",
        ),
        objects=lambda: map(_answer, found),
        csv=lambda: Grid(
            ("kind", "id", "is_new", *CHANGE_COLUMNS),
            [
                row
                for entity in found
                for row in change_rows(
                    (entity.kind, entity.id or None, entity.is_new), entity.fields, entity.erasures
                )
            ],
        ),
    )

    if left_out:
        note(left_out)


def _answer(entity: EntityDifference) -> DifferenceAnswer:
    return DifferenceAnswer(
        kind=entity.kind,
        id=entity.id,
        is_new=entity.is_new,
        fields=field_answers(entity.fields),
        before=entity.before,
        after=entity.after,
        erasures=erasure_answers(entity.erasures),
    )


def _word(entity: EntityDifference) -> str:
    if entity.is_new:
        return "new"
    return "changed" if entity.fields else "erased"


def _differences(found: LineageDifference) -> list[EntityDifference]:
    """What a lineage has gained, and what of it has changed, as differences of entities."""
    from eventstore.history import EntityDifference
    from eventstore.history.fields import field_changes

    new_nodes = [
        EntityDifference(
            node.kind,
            node.id,
            None,
            node.message,
            field_changes(node.kind, None, node.message),
            found.erasures.get(node.key, ()),
        )
        for node in found.new_nodes
    ]
    new_events = [
        # Events have no ids of their own in MLMD.
        EntityDifference("event", 0, None, edge.event, field_changes("event", None, edge.event))
        for edge in found.new_edges
    ]
    return [*found.changed, *new_nodes, *new_events]
