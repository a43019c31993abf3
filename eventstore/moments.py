"""The position that a moment stands for: what is asked of a store is asked as of one."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

from eventstore.errors import InvalidArgumentError
from eventstore.log.record import Position
from eventstore.times import Microseconds, microseconds_of, now_in_microseconds

if TYPE_CHECKING:
    from eventstore.log import Log

Moment: TypeAlias = int | datetime
"""A position, an aware datetime, or, from MILLISECONDS_MIN on, milliseconds since the epoch."""

MILLISECONDS_MIN = 100_000_000_000
"""Whole numbers from here on are milliseconds since the epoch (from March 1973), not positions."""

_CLOCK_STEP = 1_000
"""How far a moment may be ahead of the clock, in µs: milliseconds are no more exact."""


def position_of(
    log: Log, moment: Moment, *, or_start: bool = False, said: str | None = None
) -> Position:
    """The last position of the last commit at or before a moment.

    Raises InvalidArgumentError for a moment before the first commit or in the future, a position
    beyond the newest, and a datetime without a time zone. With `or_start` the answer is 0 for a
    moment before the first commit. `said` is what errors call the moment.
    """
    refuse_no_moment(moment)
    log.refresh()
    newest = log.position
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise InvalidArgumentError(
                f"{_shown_moment(moment)} has no time zone: pass an aware datetime, such as "
                "datetime.now(timezone.utc)"
            )
        position = _position_at(log, microseconds_of(moment), said or _shown_moment(moment))
    elif moment >= MILLISECONDS_MIN:
        shown = said or _shown_moment(moment)
        position = _position_at(log, Microseconds(moment * 1000 + 999), shown)
    elif moment > newest:
        raise InvalidArgumentError(
            f"position {moment} is beyond the end of the log: the newest is {newest}"
        )
    else:
        position = log.commit_end(moment) if moment > 0 else Position(0)
    if position < 1 and not or_start:
        raise InvalidArgumentError(
            f"as of {said or _shown_moment(moment)}: the store has no commit at or before that "
            "moment"
        )
    return position


def refuse_no_moment(moment: object) -> None:
    """Raise InvalidArgumentError for what is of another type."""
    if isinstance(moment, bool) or not isinstance(moment, (int, datetime)):
        raise InvalidArgumentError(
            f"as of {moment!r}: pass a position, an aware datetime, or milliseconds since the epoch"
        )


def range_of(
    log: Log,
    since: Moment | None,
    until: Moment | None,
    *,
    said: tuple[str | None, str | None] = (None, None),
) -> tuple[Position, Position]:
    """The positions after one moment and up to another; without moments all of them.

    Raises InvalidArgumentError for moments in the wrong order and for those that `position_of`
    refuses; only `since` may be before the first commit.
    """
    log.refresh()
    after = Position(0)
    if since is not None:
        after = position_of(log, since, or_start=True, said=said[0])
    upto = log.position if until is None else position_of(log, until, said=said[1])
    if since is not None and until is not None and (after > upto or _is_later(since, until)):
        raise InvalidArgumentError(
            f"since {said[0] or _shown_moment(since)} until {said[1] or _shown_moment(until)}: "
            "that ends before it begins; swap the moments"
        )
    return after, upto


def _position_at(log: Log, recorded_at: Microseconds, shown: str) -> Position:
    """The last position recorded at or before a time in microseconds since the epoch."""
    position = log.position_at(recorded_at)
    now = now_in_microseconds()
    if recorded_at > now + _CLOCK_STEP and position == log.position:
        raise InvalidArgumentError(
            f"as of {shown}: that is in the future, and what will be known then is not known "
            "yet; leave the moment out for now"
        )
    return position


def _shown_moment(moment: Moment) -> str:
    from eventstore.plain_json import moment_of_milliseconds, moment_text

    if isinstance(moment, datetime):
        return moment_text(moment)
    if moment < MILLISECONDS_MIN:
        return str(moment)
    at = moment_of_milliseconds(moment)
    return f"{moment} ms since the epoch" + (
        f" ({moment_text(at)})" if isinstance(at, datetime) else ""
    )


def _is_later(first: Moment, second: Moment) -> bool:
    """Whether a moment is later by itself, whatever was put between the two."""
    if isinstance(first, datetime) and isinstance(second, datetime):
        return first > second
    if isinstance(first, datetime) or isinstance(second, datetime):
        return False
    are_positions = first < MILLISECONDS_MIN, second < MILLISECONDS_MIN
    return are_positions[0] == are_positions[1] and first > second
