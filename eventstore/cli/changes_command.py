"""`eventstore changes` and `eventstore tail`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from itertools import islice
from pathlib import Path

import click

import eventstore
from eventstore.cli.changes_output import fields_as_json, message_as_json, shown_fields
from eventstore.cli.moments import parsed_moment
from eventstore.history import CommitChanges
from eventstore.log.record import KINDS


@click.command(
    "changes",
    epilog="""\b
Examples:
  eventstore changes my-store --since 2026-11-17T00:00+00:00
  eventstore changes my-store --since 1200 --until 1300 --kind artifact --type Model
  eventstore changes my-store --actor nightly --limit 0 --json > changes.jsonl
""",
)
@click.argument("directory", metavar="STORE", type=click.Path(path_type=Path))
@click.option("--since", metavar="MOMENT", help="A position or a time; only what was put later.")
@click.option("--until", metavar="MOMENT", help="A position or a time; only what was put by then.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS))
@click.option("--type", "types", multiple=True, help="Only nodes of this type, and the type.")
@click.option("--actor", "actors", multiple=True, help="Only what this actor put.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Commits; 0 for all.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON line a commit.")
def command(
    directory: Path,
    since: str | None,
    until: str | None,
    kinds: tuple[str, ...],
    types: tuple[str, ...],
    actors: tuple[str, ...],
    limit: int,
    as_json: bool,
) -> None:
    """Show what was put between two moments, commit by commit, the oldest first."""
    with eventstore.open(directory, read_only=True) as store:
        found = store.changes(
            _moment(since),
            _moment(until),
            kinds=kinds or None,
            types=types or None,
            actors=actors or None,
        )
        _show(islice(found, limit) if limit else found, as_json=as_json)
        following = next(found, None)
    if following is not None and not as_json:
        click.echo(f"There are more: say --limit 0, or --since {following.first_position - 1}.")


def _moment(text: str | None) -> int | datetime | None:
    return None if text is None else parsed_moment(text)


def _show(commits: Iterable[CommitChanges], *, as_json: bool) -> None:
    for commit in commits:
        if as_json:
            click.echo(json.dumps(commit_as_json(commit), ensure_ascii=False))
            continue
        said = f", because {commit.reason}" if commit.reason else ""
        moment = commit.recorded_at.isoformat(timespec="milliseconds")
        click.echo(f"commit {commit.number} at {moment} by {commit.actor}{said}")
        for change in commit.changes:
            word = "new" if change.is_new else "changed"
            click.echo(f"  {word} {change.kind.replace('_', ' ')} {change.id}")
            for line in shown_fields(change.fields).splitlines():
                click.echo(f"    {line}")


def commit_as_json(commit: CommitChanges) -> dict[str, object]:
    return {
        "commit": commit.number,
        "first_position": commit.first_position,
        "last_position": commit.last_position,
        "recorded_at": commit.recorded_at.isoformat(),
        "actor": commit.actor,
        "reason": commit.reason,
        "request_id": commit.request_id,
        "changes": [
            {
                "kind": change.kind,
                "id": change.id,
                "position": change.position,
                "is_new": change.is_new,
                "fields": fields_as_json(change.fields),
                "message": message_as_json(change.message),
            }
            for change in commit.changes
        ],
    }


@click.command(
    "tail",
    epilog="""\b
Examples:
  eventstore tail my-store
  eventstore tail my-store --after 0 --json | jq .actor
""",
)
@click.argument("directory", metavar="STORE", type=click.Path(path_type=Path))
@click.option("--after", type=int, help="Begin behind this position; at the end without it.")
@click.option("--commits", type=click.IntRange(min=1), help="Stop after so many commits.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON line a commit.")
def tail_command(directory: Path, after: int | None, commits: int | None, as_json: bool) -> None:
    """Show commits as they come, whoever puts them, until interrupted."""
    with eventstore.open(directory, read_only=True) as store:
        followed = islice(store.follow(after), commits)
        try:
            for commit in followed:
                start = commit.first_position - 1
                _show(store.changes(start or None, commit.last_position), as_json=as_json)
        except KeyboardInterrupt:
            click.echo(err=True)
