"""`eventstore retention`: how long records are kept, and what has expired."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from eventstore.answers import DueAnswer, PinnedNode, RuleAnswer
from eventstore.cli.commands import (
    as_of_option,
    command,
    output_options_without,
    store_argument,
)
from eventstore.cli.covers_command import rule_covers_command
from eventstore.cli.help import CommandGroup
from eventstore.cli.hold_command import show_scope
from eventstore.cli.moments import Moment, store_as_of
from eventstore.cli.progress import progress_bar
from eventstore.cli.results import Grid, Output, note
from eventstore.cli.scope_options import (
    Span,
    actor_option,
    basis_option,
    scope_in_words,
    scope_options,
    ticket_option,
)
from eventstore.cli.stores import opened_store, store_to_change
from eventstore.log.places import Place
from eventstore.wording import duration

_COLUMNS = ("number", "keep_at_least", "keep_at_most", "scope", "says", "basis", "ticket")


@click.group("retention", cls=CommandGroup)
def retention_command() -> None:
    """Keep records at least, and at most, as long as rules say."""


@command(
    "rule",
    examples=(
        "eventstore retention rule my-store --kind artifact --keep-at-least 10y --basis AI-ACT-18",
        "eventstore retention rule my-store --context 3 --keep-at-most 90d --basis POLICY-7",
        "eventstore retention rule my-store --needs-approval --basis FOUR-EYES",
    ),
)
@store_argument
@scope_options
@click.option("--keep-at-least", type=Span(), help="Nothing younger can be erased: 10y, 90d, 12h.")
@click.option("--keep-at-most", type=Span(), help="A version expires so long after the next one.")
@click.option(
    "--includes-current", is_flag=True, help="Current versions expire, too, when they are so old."
)
@click.option("--needs-approval", is_flag=True, help="To erase these takes a second person.")
@basis_option
@ticket_option(required=False)
@click.option("--number", type=int, help="The rule whose place this one takes.")
@actor_option
@click.option("--dry-run", is_flag=True, help="Only count the nodes that are in scope now.")
@output_options_without("full", "local")
def rule_command(
    place: Place,
    keep_at_least: timedelta | None,
    keep_at_most: timedelta | None,
    includes_current: bool,
    needs_approval: bool,
    basis: str,
    ticket: str,
    number: int | None,
    actor: str | None,
    dry_run: bool,
    output: Output,
    **scope: Any,
) -> None:
    """Record a rule. What it locks stays locked, even if it is replaced or withdrawn."""
    from eventstore.retention.rules import check_replacement, rule

    output.check()
    _check_spans(keep_at_least, keep_at_most, includes_current, needs_approval)
    if dry_run:
        if number is not None:
            with opened_store(place) as store:
                check_replacement(store._engine.snapshot(), number, keep_at_least, needs_approval)
        show_scope(place, scope, basis, ticket, output)
        return
    with store_to_change(place, actor) as store:
        recorded = store.set_retention_rule(
            **scope,
            keep_at_least=keep_at_least,
            keep_at_most=keep_at_most,
            includes_current=includes_current,
            needs_approval=needs_approval,
            basis=basis,
            ticket=ticket,
            number=number,
        )
        answer = rule(store._engine.log, store._engine.snapshot(), recorded)
    output.said(f"Retention rule {recorded} is in force on {place}", answer)


def _check_spans(
    keep_at_least: timedelta | None,
    keep_at_most: timedelta | None,
    includes_current: bool,
    needs_approval: bool,
) -> None:
    if includes_current and keep_at_most is None:
        raise click.UsageError("--includes-current goes with --keep-at-most")
    if keep_at_least is None and keep_at_most is None and not needs_approval:
        raise click.UsageError("say --keep-at-least, --keep-at-most or --needs-approval")
    if keep_at_least is not None and keep_at_most is not None and keep_at_most < keep_at_least:
        least, most = (duration(int(s.total_seconds())) for s in (keep_at_least, keep_at_most))
        raise click.UsageError(f"--keep-at-most ({most}) is shorter than --keep-at-least ({least})")


@command(
    "withdraw",
    examples=("eventstore retention withdraw my-store 2 --ticket POLICY-7-END",),
)
@store_argument
@click.argument("number", type=int)
@ticket_option(required=True)
@actor_option
@click.option("--dry-run", is_flag=True, help="Only show the rule.")
@output_options_without("full", "local")
def withdraw_command(
    place: Place, number: int, ticket: str, actor: str | None, dry_run: bool, output: Output
) -> None:
    """End a rule: nothing expires by it any more, and what comes later is not locked by it."""
    from eventstore.retention.rules import rule

    output.check()
    if dry_run:
        with opened_store(place) as store:
            found = rule(store._engine.log, store._engine.snapshot(), number)
        said = f"Retention rule {number} of {scope_in_words(found.scope)} {_says(found)}"
        output.said(f"{said}; nothing was recorded", found)
        return
    with store_to_change(place, actor) as store:
        found = store.withdraw_retention_rule(number, ticket=ticket)
    output.said(f"Retention rule {number} is withdrawn; what it has locked stays locked", found)


@command(
    "list",
    examples=("eventstore retention list my-store", "eventstore retention list my-store --json"),
)
@store_argument
@as_of_option
@output_options_without()
def list_command(place: Place, as_of: Moment | None, output: Output) -> None:
    """List all rules, those that were withdrawn, too."""
    with opened_store(place) as store:
        found = store_as_of(store, as_of, output).retention_rules()
    rows = [
        (
            r.number,
            _span(r.keep_at_least_seconds),
            _span(r.keep_at_most_seconds),
            scope_in_words(r.scope),
            _says(r),
            r.basis,
            r.ticket,
        )
        for r in found
    ]
    output.grid(Grid(_COLUMNS, rows, f"Retention rules of {place}"), objects=lambda: found)


@command(
    "apply",
    examples=(
        "eventstore retention apply my-store --dry-run",
        "eventstore retention apply my-store --json",
    ),
)
@store_argument
@actor_option
@click.option("--dry-run", is_flag=True, help="Only list what has expired, and what keeps it.")
@output_options_without("full", "local")
def apply_command(place: Place, actor: str | None, dry_run: bool, output: Output) -> None:
    """Erase what has expired by the rules: an erasure for each. A timer may do so every night.

    What is held or locked stays, and so does a current version of which something else was made.
    """
    output.check()
    if dry_run:
        with opened_store(place) as store:
            _show_expired(store.expired(), place, output)
        return
    with store_to_change(place, actor) as store, progress_bar("Erasing") as progress:
        reports = store.apply_retention(progress)
        kept = [] if reports else [store.expired()]
    output.grid(
        Grid(
            ("number", "stage", "basis", "versions"),
            [(r.number, r.stage, r.basis, len(r.versions)) for r in reports],
            f"Erasures of {place}",
        ),
        objects=lambda: reports or kept,
    )
    if not reports:
        note("Nothing has expired.")
    for report in reports:
        if report.stage == "proposed":
            approving = f"eventstore erase {place} --approve {report.number} --yes"
            note(f"Erasure {report.number} takes a second person: {approving}")


def _show_expired(found: DueAnswer, place: Place, output: Output) -> None:
    rows = [
        *(("goes", d.kind, d.id, d.position, f"retention rule {d.rule}") for d in found.due),
        *(("stays", r.kind, r.id, r.position, str(r)) for r in found.refused),
        *(("stays", p.kind, p.id, None, _pinned_by(p)) for p in found.pinned),
    ]
    columns = ("what", "kind", "id", "position", "because")
    output.grid(Grid(columns, rows, f"Expired in {place}"), objects=lambda: [found])
    note("Nothing was erased." if rows else "Nothing has expired.")


def _pinned_by(pinned: PinnedNode) -> str:
    return f"{pinned.by_kind} {pinned.by_id} was made of it"


def _says(rule: RuleAnswer) -> str:
    said = ["is withdrawn" if rule.is_withdrawn else "is in force"]
    if rule.includes_current:
        said.append("includes current versions")
    if rule.needs_approval:
        said.append("asks for a second person")
    return ", ".join(said)


def _span(seconds: int | None) -> str | None:
    return None if seconds is None else duration(seconds)


for _command in (rule_command, withdraw_command, list_command, rule_covers_command, apply_command):
    retention_command.add_command(_command)
