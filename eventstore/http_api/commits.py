"""Commits: the newest of them, one of them, and how many there were over time, by whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec

from eventstore.errors import InvalidArgumentError, NotFoundError
from eventstore.http_api.commit_selection import CommitSelection
from eventstore.http_api.problems import NotYetError
from eventstore.log import records_at
from eventstore.log.erased import Spans
from eventstore.log.record import KIND_NAMES
from eventstore.metadata_store.source import Source
from eventstore.projections.commit_list import CommitList
from eventstore.times import Microseconds, microseconds_of, moment_of
from eventstore.wording import quoted

if TYPE_CHECKING:
    import pyarrow as pa

BUCKETS_MAX: Final = 200
ACTORS_SHOWN: Final = 5

_SECOND: Final = 1_000_000
_WIDTHS: Final = tuple(
    seconds * _SECOND
    for seconds in (
        *(1, 5, 15, 60, 5 * 60, 15 * 60, 3_600, 3 * 3_600, 6 * 3_600, 12 * 3_600),
        *(86_400, 2 * 86_400, 7 * 86_400, 28 * 86_400, 364 * 86_400, 3_640 * 86_400),
    )
)
"""How long a bucket may be, in µs: the shortest is taken of which so many are enough."""

_COLUMNS: Final = ("position", "commit", "kind", "previous", "actor", "reason", "request_id")


class KindCount(msgspec.Struct, frozen=True):
    """How many entities of a kind a commit made, and of how many it put another version."""

    kind: str
    new: int
    changed: int


class CommitSummary(msgspec.Struct, frozen=True):
    """A commit: who made it, why, on which request, and how much it put."""

    commit: int
    first_position: int
    last_position: int
    recorded_at: datetime
    actor: str | None
    reason: str | None
    request_id: str | None
    counts: list[KindCount]


class Bucket(msgspec.Struct, frozen=True):
    """The commits from `start` on, for as long as a bucket is: there is at least one.

    `by` counts them for each of the actors that are named, and then for all others.
    """

    start: datetime
    commits: int
    first_position: int
    last_position: int
    by: list[int]


class Activity(msgspec.Struct, frozen=True):
    """Commits over time, whatever the moment. `start` and `end` are those of the whole strip.

    `first` and `last` are the times of the first and last commit of the store; None without any.
    `actors` are the most active ones in the buckets.
    """

    first: datetime | None
    last: datetime | None
    start: datetime | None
    end: datetime | None
    bucket_seconds: int
    actors: list[str | None]
    buckets: list[Bucket]
    commits: int


class ActorCount(msgspec.Struct, frozen=True):
    """How many commits somebody made."""

    actor: str | None
    commits: int


def activity(
    source: Source,
    *,
    since: datetime | None = None,
    before: datetime | None = None,
    buckets: int = BUCKETS_MAX,
) -> Activity:
    """How many commits there were over time, from one time to before another, in buckets.

    Those without commits are left out. Raises InvalidArgumentError for times in the wrong order and
    a number of buckets that is not from 1 to 200.
    """
    if not 1 <= buckets <= BUCKETS_MAX:
        raise InvalidArgumentError(f"buckets is {buckets}: use 1 to {BUCKETS_MAX}")
    if since is not None and before is not None and since >= before:
        raise InvalidArgumentError("since is not before the end: swap the times")
    known = source.projections.commits(source.position())
    count = known.count(source.position())
    if not count:
        return Activity(None, None, since, before, 1, [], [], 0)
    first, last = known.recorded_at[0], known.recorded_at[count - 1]
    start = first if since is None else microseconds_of(since)
    end = last + 1 if before is None else microseconds_of(before)
    width = next((w for w in _WIDTHS if -(-end // w) - start // w <= buckets), _WIDTHS[-1])
    start -= start % width
    numbers = known.between(start, end)
    numbers = range(numbers.start, min(numbers.stop, count + 1))
    counted = known.per_bucket(numbers, start, width)
    most = sum(counted.values(), Counter[str | None]()).most_common(ACTORS_SHOWN)
    actors = [actor for actor, _ in most]
    found, number = [], numbers.start
    for place in sorted(counted):
        by = counted[place]
        following = number + by.total()
        named = [by[actor] for actor in actors]
        positions = known.positions(number)[0], known.positions(following - 1)[1]
        found.append(
            Bucket(
                _moment(start + place * width),
                by.total(),
                *positions,
                [*named, by.total() - sum(named)],
            )
        )
        number = following
    return Activity(
        first=_moment(first),
        last=_moment(last),
        start=_moment(start),
        end=_moment(end),
        bucket_seconds=width // _SECOND,
        actors=actors,
        buckets=found,
        commits=len(numbers),
    )


def actors(source: Source, *, since: datetime | None = None) -> list[ActorCount]:
    """Who has made commits as of the moment, or since a time: the most active first."""
    position = source.position()
    known = source.projections.commits(position)
    start = 0 if since is None else microseconds_of(since)
    numbers = known.between(start, 2**62)
    numbers = range(numbers.start, max(numbers.start, known.count(position) + 1))
    found = sorted(known.per_actor(numbers).items(), key=lambda one: (-one[1], one[0] or ""))
    return [ActorCount(*one) for one in found]


def commits(
    source: Source,
    *,
    before: int | None = None,
    after: int = 0,
    actor: str | None = None,
    with_reason: bool = False,
    kinds: Sequence[str] = (),
    types: Sequence[str] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 50,
) -> list[CommitSummary]:
    """The newest commits as of the moment, or of those before the one of a number.

    They come after a position. Of these, those by an actor, with a reason, that put something of
    one of the kinds or to a node or type of a name, recorded from one time up to another. Raises
    InvalidArgumentError for another kind.
    """
    for kind in kinds:
        if kind not in KIND_NAMES:
            raise InvalidArgumentError(
                f"{quoted(kind)} is no kind of record: use one of {', '.join(KIND_NAMES)}"
            )
    position = source.position()
    known = source.projections.commits(position)
    last = known.count(position)
    if before is not None:
        last = min(last, before - 1)
    first = 0 if since is None else microseconds_of(since)
    end = 2**62 if until is None else microseconds_of(until) + 1
    within = known.between(first, end)
    begin = max(within.start, known.count(after) + 1)
    numbers = range(begin, max(begin, min(within.stop, last + 1)))
    found = known.newest_first(numbers, actor, with_reason=with_reason)
    if kinds or types:
        selection = CommitSelection(source, kinds, types)
        found = selection.among(known, numbers, actor, with_reason=with_reason)
    return summaries(source, known, [*islice(found, limit)])


def commit(source: Source, number: int) -> CommitSummary:
    """One commit. Raises NotYetError where it came later, NotFoundError where there is none."""
    position = source.position()
    known = source.projections.commits(position)
    if not 1 <= number <= known.count(position):
        newest = source.engine.snapshot().position
        later = source.projections.commits(newest)
        if 1 <= number <= later.count(newest):
            came = later.positions(number)[1]
            raise NotYetError(
                f"there is no commit {number} at position {position} yet: it came with {came}", came
            )
        raise NotFoundError(f"there is no commit {number} at position {position}")
    (found,) = summaries(source, known, [number])
    return found


def summaries(source: Source, known: CommitList, numbers: Iterable[int]) -> list[CommitSummary]:
    """What some commits are, in the order given. Reads the log where they are."""
    wanted = [*numbers]
    spans = Spans.of(known.positions(number) for number in wanted)
    batches = [*records_at(source.log, spans, _COLUMNS)]
    counts, who = _counts(batches), dict[int, tuple[Any, Any, Any]]()
    for batch in batches:
        _note_who(batch, who)
    return [
        CommitSummary(
            number,
            *known.positions(number),
            _moment(known.recorded_at[number - 1]),
            *who.get(number, (None, None, None)),
            [
                KindCount(kind, *counts[number][kind])
                for kind in KIND_NAMES
                if kind in counts[number]
            ],
        )
        for number in wanted
    ]


def _moment(microseconds: int) -> datetime:
    return moment_of(Microseconds(microseconds))


def _counts(batches: Sequence[pa.RecordBatch]) -> dict[int, dict[str, tuple[int, int]]]:
    """By commit and kind, how many records are new and how many replace others."""
    import pyarrow as pa

    counts: dict[int, dict[str, tuple[int, int]]] = {}
    if batches:
        table = pa.Table.from_batches(batches).select(["commit", "kind", "previous"])
        counted = table.group_by(["commit", "kind"])
        grouped = counted.aggregate([([], "count_all"), ("previous", "count")])
        for row in grouped.to_pylist():
            replaced = row["previous_count"]
            new = row["count_all"] - replaced
            counts.setdefault(row["commit"], {})[row["kind"]] = new, replaced
    return counts


def _note_who(batch: pa.RecordBatch, who: dict[int, tuple[Any, Any, Any]]) -> None:
    columns = (batch[name].to_pylist() for name in ("commit", "actor", "reason", "request_id"))
    for number, *said in zip(*columns, strict=True):
        # Of some of its records it may be erased.
        if number not in who and said != [None, None, None]:
            who[number] = (said[0], said[1], said[2])
