"""Moments as texts: a position, a time, a day, or words such as `yesterday`."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, timezone

from msgspec import Struct

from eventstore.errors import InvalidArgumentError
from eventstore.wording import quoted

_AGO = re.compile(r"(\d+) (second|minute|hour|day|week)s? ago")
_DIGITS_MAX = 18
_MICROSECOND = timedelta(microseconds=1)

EXAMPLES = "1200, 2026-11-20, 2026-11-20T08:00Z, yesterday, '3 hours ago'"


class MomentText(Struct, frozen=True):
    """What was given: a position or milliseconds since the epoch, or a span of time.

    The span of a day ends with its last microsecond; that of a time is this time alone.
    """

    text: str
    number: int | None = None
    start: datetime | None = None
    end: datetime | None = None

    def upto(self) -> int | datetime:
        """For reads up to it and as of it: the end of a day, or now if that is earlier."""
        if self.number is not None:
            return self.number
        assert self.start is not None
        assert self.end is not None
        now = datetime.now(timezone.utc)
        return now if self.start <= now < self.end else self.end

    def before(self) -> int | datetime:
        """For reads of what was put since: what comes before the time or the day; or a position."""
        if self.number is not None:
            return self.number
        assert self.start is not None
        return self.start - _MICROSECOND


def parsed_moment(text: str, *, local: bool = False) -> MomentText:
    """Days and times without a zone are UTC's, or with `local` this machine's.

    Raises InvalidArgumentError for what is no moment.
    """
    words = " ".join(text.split())
    if len(words) <= _DIGITS_MAX and words.isascii() and words.isdigit():
        return MomentText(words, number=int(words))
    zone = None if local else timezone.utc
    now = datetime.now(zone).astimezone(zone)
    lowered = words.lower()
    if lowered == "now":
        return MomentText(words, start=now, end=now)
    if lowered in ("today", "yesterday"):
        return _day(words, now.date() - timedelta(days=lowered == "yesterday"), local)
    ago = _AGO.fullmatch(lowered)
    try:
        if ago:
            moment = now - timedelta(**{f"{ago[2]}s": int(ago[1])})
            return MomentText(words, start=moment, end=moment)
        if len(words) <= 10 and ":" not in words:
            return _day(words, date.fromisoformat(words), local)
        moment = datetime.fromisoformat(words)
        if moment.tzinfo is None:
            moment = moment.astimezone() if local else moment.replace(tzinfo=timezone.utc)
        moment = moment.astimezone(timezone.utc)
    except (ValueError, OverflowError, OSError):
        raise InvalidArgumentError(
            f"{quoted(text)} is no moment: write a position, a day or a time, such as 1200, "
            "2026-11-20, 2026-11-20T08:00Z, yesterday, 3 hours ago"
        ) from None
    return MomentText(words, start=moment, end=moment)


def _day(text: str, day: date, local: bool) -> MomentText:
    start = datetime.combine(day, time())
    # The day after may begin at another distance, where clocks are changed.
    following = datetime.combine(day + timedelta(days=1), time())
    if local:
        start, following = start.astimezone(), following.astimezone()
    else:
        start, following = (moment.replace(tzinfo=timezone.utc) for moment in (start, following))
    utc = timezone.utc
    return MomentText(
        text, start=start.astimezone(utc), end=following.astimezone(utc) - _MICROSECOND
    )
