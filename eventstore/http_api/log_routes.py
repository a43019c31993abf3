"""The addresses of the log: commits, records, activity, changes and differences."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final

import msgspec

from eventstore.errors import InvalidArgumentError
from eventstore.http_api.commits import (
    BUCKETS_MAX,
    Activity,
    ActorCount,
    CommitSummary,
    activity,
    actors,
    commits,
)
from eventstore.http_api.cursors import cursor_after, cursor_text
from eventstore.http_api.differences import DifferenceRow, differences
from eventstore.http_api.entities import VersionRow
from eventstore.http_api.node_routes import Id, Limit
from eventstore.http_api.records import (
    RecordDetail,
    changes_of,
    commit_detail,
    record,
    record_for,
    rows_for,
)
from eventstore.http_api.request_moment import time_of
from eventstore.http_api.routes import Asked, Route

CHANGES_SHOWN: Final = 100
"""So many changes of each commit are told in a list of commits."""

_MICROSECOND: Final = timedelta(microseconds=1)


class CommitsQuery(msgspec.Struct, frozen=True):
    """Which commits: by an actor, with a reason, of kinds and types, from one time to another."""

    actor: str | None = None
    with_reason: bool = False
    kind: list[str] = []
    type: list[str] = []
    since: str | None = None
    before: str | None = None
    cursor: str | None = None
    limit: Limit = 50


class CommitsAnswer(msgspec.Struct, frozen=True):
    """Commits, the newest first."""

    commits: list[CommitSummary]
    next: str | None


class CommitQuery(msgspec.Struct, frozen=True):
    """A commit by its number, and a page of its changes."""

    number: Id
    cursor: str | None = None
    limit: Limit = 100


class CommitAnswer(msgspec.Struct, frozen=True):
    """A commit and a page of what it did, in the order of its records.

    `tree_head` is in hexadecimal. `older` and `newer` are the numbers of the commits beside it.
    """

    commit: CommitSummary
    tree_head: str
    changes: list[VersionRow]
    older: int | None
    newer: int | None
    next: str | None


class ActivityQuery(msgspec.Struct, frozen=True):
    """From one time to before another, in so many buckets at most."""

    since: str | None = None
    before: str | None = None
    buckets: Annotated[int, msgspec.Meta(ge=1, le=BUCKETS_MAX)] = BUCKETS_MAX


class ActorsQuery(msgspec.Struct, frozen=True):
    """Since a time, or from the beginning."""

    since: str | None = None


class ActorsAnswer(msgspec.Struct, frozen=True):
    """Who has made how many commits, the most active first."""

    actors: list[ActorCount]


class RecordQuery(msgspec.Struct, frozen=True):
    """A record by its position."""

    position: Id


class ChangesQuery(msgspec.Struct, frozen=True):
    """Which commits: by an actor, that put something of kinds and types."""

    actor: str | None = None
    kind: list[str] = []
    type: list[str] = []
    cursor: str | None = None
    limit: Limit = 50


class CommitChanges(msgspec.Struct, frozen=True):
    """A commit, and all that it did; where there is more, `/commits/{number}` has it in pages."""

    commit: CommitSummary
    changes: list[VersionRow]
    has_more: bool


class ChangesAnswer(msgspec.Struct, frozen=True):
    """Commits between the moments with what they did, the newest first."""

    changes: list[CommitChanges]
    next: str | None


class DiffQuery(msgspec.Struct, frozen=True):
    """Of a kind, or of all."""

    kind: str | None = None
    cursor: str | None = None
    limit: Limit = 50


class DiffAnswer(msgspec.Struct, frozen=True):
    """What is new or different at `until`, by kind and id.

    `touched` is how many entities of each kind were put between the moments.
    """

    touched: dict[str, int]
    differences: list[DifferenceRow]
    next: str | None


def commits_answer(asked: Asked, query: CommitsQuery) -> CommitsAnswer:
    """The newest commits."""
    before = time_of(asked.source, query.before, is_start=True)
    found = commits(
        asked.source,
        before=cursor_after(query.cursor, query, int),
        actor=query.actor,
        with_reason=query.with_reason,
        kinds=query.kind,
        types=query.type,
        since=time_of(asked.source, query.since, is_start=True),
        until=None if before is None else before - _MICROSECOND,
        limit=query.limit + 1,
    )
    page = found[: query.limit]
    last = page[-1].commit if len(found) > len(page) else None
    return CommitsAnswer(page, cursor_text(asked.moments.at.position, query, last))


def commit_answer(asked: Asked, query: CommitQuery) -> CommitAnswer:
    """One commit and what it changed."""
    after = cursor_after(query.cursor, query, int) or 0
    found = commit_detail(asked.source, query.number, after=after, limit=query.limit)
    following = cursor_text(asked.moments.at.position, query, found.after)
    return CommitAnswer(
        found.summary,
        found.tree_head,
        rows_for(found.changes, asked.roles),
        found.older,
        found.newer,
        following,
    )


def activity_answer(asked: Asked, query: ActivityQuery) -> Activity:
    """How many commits there were over time, and by whom."""
    return activity(
        asked.source,
        since=time_of(asked.source, query.since, is_start=True),
        before=time_of(asked.source, query.before, is_start=True),
        buckets=query.buckets,
    )


def actors_answer(asked: Asked, query: ActorsQuery) -> ActorsAnswer:
    """Who has made commits."""
    return ActorsAnswer(
        actors(asked.source, since=time_of(asked.source, query.since, is_start=True))
    )


def record_answer(asked: Asked, query: RecordQuery) -> RecordDetail:
    """One record of the log."""
    return record_for(record(asked.source, query.position), asked.roles)


def changes_answer(asked: Asked, query: ChangesQuery) -> ChangesAnswer:
    """What was put after `at` and up to `until`, commit by commit, the newest first."""
    if asked.moments.until is None:
        raise InvalidArgumentError("changes lie between two moments: give at= and until=")
    source = asked.source_at(asked.moments.until.position)
    found = commits(
        source,
        before=cursor_after(query.cursor, query, int),
        after=asked.moments.at.position,
        actor=query.actor,
        kinds=query.kind,
        types=query.type,
        limit=query.limit + 1,
    )
    page = found[: query.limit]
    told = changes_of(source, page, CHANGES_SHOWN)
    changes = [
        CommitChanges(
            one,
            rows_for(told[one.commit], asked.roles),
            has_more=one.last_position - one.first_position >= CHANGES_SHOWN,
        )
        for one in page
    ]
    last = page[-1].commit if len(found) > len(page) else None
    return ChangesAnswer(changes, cursor_text(asked.moments.at.position, query, last))


def diff_answer(asked: Asked, query: DiffQuery) -> DiffAnswer:
    """What differs between the moments `at` and `until`, entity by entity."""
    if asked.moments.until is None:
        raise InvalidArgumentError("two moments differ: give at= and until=, such as until=now")
    second = asked.moments.until.position
    found = differences(
        asked.source_at(second),
        asked.moments.at.position,
        kind=query.kind,
        after=cursor_after(query.cursor, query, tuple[str, int]),
        limit=query.limit,
    )
    following = cursor_text(asked.moments.at.position, query, found.after)
    return DiffAnswer(found.touched, found.differences, following)


ROUTES: Final = (
    Route("/commits", commits_answer),
    Route("/commits/{number}", commit_answer),
    Route("/activity", activity_answer),
    Route("/actors", actors_answer),
    Route("/records/{position}", record_answer),
    Route("/changes", changes_answer),
    Route("/diff", diff_answer),
)
