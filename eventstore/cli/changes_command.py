"""`eventstore changes` and `eventstore tail`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import click
from msgspec import UNSET
from msgspec.structs import replace

from eventstore.answers import ChangeAnswer, CommitAnswer
from eventstore.cli.commands import (
    NODE_KINDS,
    Kind,
    command,
    limit_option,
    moment_option,
    output_options,
    store_argument,
)
from eventstore.cli.entities import (
    CHANGE_COLUMNS,
    change_rows,
    codes_of,
    erasure_answers,
    field_answers,
    shown_fields,
    spoken,
)
from eventstore.cli.moments import EXAMPLES, Moment
from eventstore.cli.results import Grid, Output, Paragraph, note
from eventstore.cli.stores import (
    opened_store,
    positions_between,
    require_type,
    windows,
)
from eventstore.log.places import Place
from eventstore.log.record import KIND_NAMES
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.wording import counted

if TYPE_CHECKING:
    from eventstore.history import CommitChanges


_COLUMNS = ("commit", "recorded_at", "actor", "reason", "request_id", "kind", "id", "position")
_CODES = ("basis", "ticket")
"""Of rules, holds and erasures, whatever of them has changed."""


@command(
    "changes",
    examples=(
        "eventstore changes my-store --since yesterday",
        "eventstore changes my-store --since 1200 --until 1300 --kind artifact --type Model",
        "eventstore changes my-store --actor nightly --limit 0 --reverse --json",
    ),
)
@store_argument
@moment_option("--since", f"Only what was put since: {EXAMPLES}.")
@moment_option("--until", "Only what was put by then.")
@click.option(
    "--kind",
    "kinds",
    metavar="KIND",
    multiple=True,
    type=Kind(KIND_NAMES),
    help="Only this kind.",
)
@click.option("--type", "types", multiple=True, help="Only nodes of this type, and the type.")
@click.option("--actor", "actors", multiple=True, help="Only what this actor put.")
@limit_option("Commits; 0 for all.")
@click.option("--reverse", is_flag=True, help="The oldest commit first.")
@output_options
def changes_command(
    place: Place,
    since: Moment | None,
    until: Moment | None,
    kinds: tuple[str, ...],
    types: tuple[str, ...],
    actors: tuple[str, ...],
    limit: int,
    reverse: bool,
    output: Output,
) -> None:
    """Show what was put between two moments, commit by commit, the newest first.

    --since with a position means after it, with a day from its start. A position inside a commit
    stands for the end of the one before, so that commits are shown whole. KIND is as for
    `eventstore history`, or retention_rule, hold or erasure: these have numbers as their ids.
    """
    with opened_store(place) as store:
        for name in types:
            require_type(store, NODE_KINDS, name)
        after, upto = positions_between(store, since, until)

        def between(start: int, end: int) -> Iterator[CommitChanges]:
            if start >= end:
                return iter(())
            return store.changes(
                start or None,
                end,
                kinds=kinds or None,
                types=types or None,
                actors=actors or None,
            )

        found = between(after, upto) if reverse else _newest_first(store, after, upto, between)
        _show(islice(found, min(limit, sys.maxsize)) if limit else found, output)
        following = next(found, None)
    if following is not None:
        other = (
            f"--since {following.first_position - 1}"
            if reverse
            else f"--until {following.last_position}"
        )
        these = "this" if limit == 1 else "these"
        note(f"There are more than {these} {counted(limit, 'commit')}: say --limit 0, or {other}.")


def _newest_first(
    store: MetadataStore,
    after: int,
    upto: int,
    between: Callable[[int, int], Iterator[CommitChanges]],
) -> Iterator[CommitChanges]:
    for start, end in windows(after, upto):
        # Whole commits: one belongs to the part that it ends in.
        first, last = (store._position_of(at, or_start=True) for at in (start, end))
        commits = list(between(max(after, first), last))
        yield from reversed(commits)


def _show(commits: Iterable[CommitChanges], output: Output) -> None:
    if output.form == "json":
        output.json_lines(map(_answer, commits))
    elif output.form == "csv":
        output.csv(
            Grid(
                (*_COLUMNS, "is_new", *CHANGE_COLUMNS, *_CODES),
                (
                    (*row, *(getattr(change.message, code, None) or None for code in _CODES))
                    for commit in commits
                    for change in commit.changes
                    for row in change_rows(
                        (
                            commit.number,
                            commit.recorded_at,
                            commit.actor,
                            commit.reason,
                            commit.request_id,
                            change.kind,
                            change.id,
                            change.position,
                            change.is_new,
                        ),
                        change.fields,
                        change.erasures,
                    )
                ),
            )
        )
    else:
        output.paragraphs(
            paragraph for commit in commits for paragraph in _paragraphs(commit, output)
        )


def _paragraphs(commit: CommitChanges, output: Output) -> Iterator[Paragraph]:
    actor = f" by {commit.actor}" if commit.actor is not None else ""
    said = f", because {commit.reason}" if commit.reason else ""
    yield Paragraph(f"commit {commit.number} at {output.moment(commit.recorded_at)}{actor}{said}")
    for change in commit.changes:
        word = "new" if change.is_new else "changed"
        codes = codes_of(change.kind, change.message)
        yield Paragraph(
            f"  {word} {spoken(change.kind)} {change.id}{codes and f': {codes}'}",
            shown_fields(change.fields, output, change.erasures, change.replaces).lines,
        )


def _answer(commit: CommitChanges) -> CommitAnswer:
    return CommitAnswer(
        commit=commit.number,
        first_position=commit.first_position,
        last_position=commit.last_position,
        recorded_at=commit.recorded_at,
        actor=commit.actor,
        reason=commit.reason,
        request_id=commit.request_id,
        changes=[
            ChangeAnswer(
                kind=change.kind,
                id=change.id,
                position=change.position,
                is_new=change.is_new,
                fields=field_answers(change.fields),
                message=change.message,
                erasures=erasure_answers(change.erasures),
                replaces=UNSET if change.replaces is None else change.replaces,
            )
            for change in commit.changes
        ],
    )


@command(
    "tail",
    examples=("eventstore tail my-store", "eventstore tail my-store --after 0 --json | jq .actor"),
)
@store_argument
@click.option("--after", type=int, help="Begin after this position; at the end without it.")
@click.option("--commits", type=click.IntRange(min=1), help="Stop after so many commits.")
@output_options
def tail_command(place: Place, after: int | None, commits: int | None, output: Output) -> None:
    """Show commits as they come, whoever puts them, until interrupted.

    A file of --output is there from the start, and has each commit as soon as it came.
    """
    output = replace(output, grows=True)
    with opened_store(place) as store:

        def found() -> Iterator[CommitChanges]:
            for commit in islice(store.follow(after), commits and min(commits, sys.maxsize)):
                start = commit.first_position - 1
                yield from store.changes(start or None, commit.last_position)

        _show(found(), output)
