"""`eventstore hold`: legal holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from eventstore.answers import ScopeAnswer
from eventstore.cli.commands import (
    as_of_option,
    command,
    output_options_without,
    store_argument,
)
from eventstore.cli.covers_command import hold_covers_command
from eventstore.cli.help import CommandGroup
from eventstore.cli.moments import Moment, store_as_of
from eventstore.cli.results import Grid, Output
from eventstore.cli.scope_options import (
    actor_option,
    basis_option,
    scope_in_words,
    scope_options,
    ticket_option,
)
from eventstore.cli.stores import opened_store, store_to_change
from eventstore.log.places import Place
from eventstore.wording import counted

if TYPE_CHECKING:
    from eventstore.retention.holds import HoldAnswer

_COLUMNS = (
    "number",
    "stage",
    "scope",
    "basis",
    "ticket",
    "placed_at",
    "placed_by",
    "release_proposed_at",
    "release_proposed_by",
    "released_at",
    "released_by",
    "release_ticket",
)


@click.group("hold", cls=CommandGroup)
def hold_command() -> None:
    """Keep what a court wants, whatever else asks for its erasure.

    A hold covers what its options find, now and as new records come, all that is upstream of it,
    its links and types. It outranks locks, requests for erasure and expiry, and ends by a record.
    """


@command(
    "place",
    examples=(
        "eventstore hold place my-store --entity artifact:7 --basis CASE-2026-11",
        "eventstore hold place my-store --context 3 --basis CASE-2026-11 --needs-approval",
        """eventstore hold place my-store --filter "type = 'Model'" --basis CASE-1 --dry-run""",
    ),
)
@store_argument
@scope_options
@basis_option
@ticket_option(required=False)
@click.option("--needs-approval", is_flag=True, help="To release it takes a second person.")
@actor_option
@click.option("--dry-run", is_flag=True, help="Only count the nodes that are in scope now.")
@output_options_without("full", "local")
def place_command(
    place: Place,
    basis: str,
    ticket: str,
    needs_approval: bool,
    actor: str | None,
    dry_run: bool,
    output: Output,
    **scope: Any,
) -> None:
    """Place a hold. Options that narrow it down have to fit together; without any it is of all."""
    from eventstore.retention.holds import hold

    output.check()
    if dry_run:
        show_scope(place, scope, basis, ticket, output)
        return
    with store_to_change(place, actor) as store:
        number = store.place_hold(
            **scope, basis=basis, ticket=ticket, needs_approval=needs_approval
        )
        placed = hold(store._engine.log, store._engine.snapshot(), number)
    output.said(f"Hold {number} is in force on {place}", placed)


@command(
    "release",
    examples=(
        "eventstore hold release my-store 1 --ticket CASE-2026-11-END",
        "eventstore hold release my-store 1 --ticket CASE-2026-11-END --actor bo",
    ),
)
@store_argument
@click.argument("number", type=int)
@ticket_option(required=True)
@actor_option
@click.option("--dry-run", is_flag=True, help="Only say how it stands.")
@output_options_without("full", "local")
def release_command(
    place: Place, number: int, ticket: str, actor: str | None, dry_run: bool, output: Output
) -> None:
    """End a hold, or propose its end where a second person has to agree, who runs this again."""
    from eventstore.retention.holds import hold

    output.check()
    if dry_run:
        with opened_store(place) as store:
            found = hold(store._engine.log, store._engine.snapshot(), number)
        output.said(f"{_in_words(found)}{_demand(found)}; nothing was recorded", found)
        return
    with store_to_change(place, actor) as store:
        found = store.release_hold(number, ticket=ticket)
    output.said(_in_words(found), found)


@command(
    "list",
    examples=("eventstore hold list my-store", "eventstore hold list my-store --as-of 2026-11-20"),
)
@store_argument
@as_of_option
@output_options_without()
def list_command(place: Place, as_of: Moment | None, output: Output) -> None:
    """List all holds, those that were released, too: who placed and released them, and when."""
    with opened_store(place) as store:
        found = store_as_of(store, as_of, output).holds()
    rows = [
        (
            h.number,
            h.stage,
            scope_in_words(h.scope),
            h.basis,
            h.ticket,
            h.placed_at,
            h.placed_by,
            h.release_proposed_at,
            h.release_proposed_by,
            h.released_at,
            h.released_by,
            h.release_ticket,
        )
        for h in found
    ]
    output.grid(Grid(_COLUMNS, rows, f"Holds of {place}"), objects=lambda: found)


def show_scope(
    place: Place, scope: dict[str, Any], basis: str, ticket: str, output: Output
) -> None:
    """Count what options find now; what would be refused is refused."""
    from eventstore.retention.codes import check_code
    from eventstore.retention.scope_check import count_nodes
    from eventstore.retention.scopes import new_scope

    check_code("basis", basis, is_required=True)
    check_code("ticket", ticket)
    asked = new_scope(**scope)
    with opened_store(place) as store:
        counts = count_nodes(store._engine.log, store._engine.snapshot(), asked)
    words = ", ".join(counted(count, kind) for kind, count in counts.items())
    output.said(
        f"{scope_in_words(asked)}: {words} now; nothing was recorded", ScopeAnswer(asked, counts)
    )


def _in_words(found: HoldAnswer) -> str:
    if found.stage == "placed":
        return f"Hold {found.number} is in force"
    if found.stage == "released":
        return f"Hold {found.number} is released"
    return f"The release of hold {found.number} is proposed: somebody else has to approve it"


def _demand(found: HoldAnswer) -> str:
    if found.stage != "placed" or not found.needs_approval:
        return ""
    return (
        f"; its release takes a second person, by its record at position {found.placed_at_position}"
    )


for _command in (place_command, release_command, list_command, hold_covers_command):
    hold_command.add_command(_command)
