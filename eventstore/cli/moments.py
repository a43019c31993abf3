"""A moment on the command line: a position, a time, a day, or words such as `yesterday`."""

from __future__ import annotations

import os
import re
from datetime import date, datetime, time, timedelta, timezone

import click
from msgspec import Struct

from eventstore.cli.help import nearest
from eventstore.cli.results import Output, note
from eventstore.log import Log
from eventstore.metadata_store.metadata_store import AsOfStore, MetadataStore

_AGO = re.compile(r"(\d+) (second|minute|hour|day|week)s? ago")
_POSIX_NAME = r"([A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)"
_POSIX_OFFSET = r"[+-]?\d{1,2}(:\d{1,2}){0,2}"
_POSIX_ZONE = re.compile(
    rf"{_POSIX_NAME}{_POSIX_OFFSET}({_POSIX_NAME}({_POSIX_OFFSET})?(,[^,]+,[^,]+)?)?"
)
"""A zone that tells its rules itself: `CET-1CEST,M3.5.0,M10.5.0/3`."""
_MICROSECOND = timedelta(microseconds=1)

EXAMPLES = "1200, 2026-11-20, 2026-11-20T08:00Z, yesterday, '3 hours ago'"


class Moment(Struct, frozen=True):
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

    def meaning(self, output: Output) -> str:
        """What is said back: the text, and what it was taken for."""
        if self.number is not None or self.end is None:
            return self.text
        shown = output.moment(self.end)
        if self.start != self.end:
            return f"{self.text} (that day to its end, {shown})"
        return self.text if shown == self.text else f"{self.text} ({shown})"


def parsed_moment(text: str, *, local: bool = False) -> Moment:
    """Days and times without a zone are UTC's, or with `local` this machine's.

    Raises click.BadParameter for what is no moment.
    """
    words = " ".join(text.split())
    if words.isascii() and words.isdigit():
        return Moment(words, number=int(words))
    zone = None if local else timezone.utc
    now = datetime.now(zone).astimezone(zone)
    lowered = words.lower()
    if lowered == "now":
        return Moment(words, start=now, end=now)
    if lowered in ("today", "yesterday"):
        return _day(words, now.date() - timedelta(days=lowered == "yesterday"), local)
    ago = _AGO.fullmatch(lowered)
    try:
        if ago:
            moment = now - timedelta(**{f"{ago[2]}s": int(ago[1])})
            return Moment(words, start=moment, end=moment)
        if len(words) <= 10 and ":" not in words:
            return _day(words, date.fromisoformat(words), local)
        moment = datetime.fromisoformat(words)
        if moment.tzinfo is None:
            moment = moment.astimezone() if local else moment.replace(tzinfo=timezone.utc)
        moment = moment.astimezone(timezone.utc)
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(
            f"{text!r} is no moment: write a position, a day or a time, such as {EXAMPLES}"
        ) from None
    return Moment(words, start=moment, end=moment)


def refuse_unknown_zone() -> None:
    """Raise click.UsageError when TZ names no zone: the system would take it for UTC, silently."""
    text = os.environ.get("TZ", "")
    name = text.removeprefix(":")
    if not name or _POSIX_ZONE.fullmatch(name):
        return
    import zoneinfo

    folders = [os.environ["TZDIR"]] if os.environ.get("TZDIR") else zoneinfo.TZPATH
    if any(os.path.isfile(os.path.join(folder, name)) for folder in folders):
        return
    near = nearest(name, sorted(zoneinfo.available_timezones()))
    raise click.UsageError(f"TZ={text} names no time zone that is known here{near}")


def _day(text: str, day: date, local: bool) -> Moment:
    start = datetime.combine(day, time())
    # The day after may begin at another distance, where clocks are changed.
    following = datetime.combine(day + timedelta(days=1), time())
    if local:
        start, following = start.astimezone(), following.astimezone()
    else:
        start, following = (moment.replace(tzinfo=timezone.utc) for moment in (start, following))
    utc = timezone.utc
    return Moment(text, start=start.astimezone(utc), end=following.astimezone(utc) - _MICROSECOND)


def store_as_of(
    store: MetadataStore, moment: Moment | None, output: Output
) -> MetadataStore | AsOfStore:
    """The store itself, or as of a moment, which is then said back."""
    if moment is None:
        return store
    then = store.as_of(moment.upto())
    said_back(store.log, moment, then.log_position(), output)
    return then


def said_back(log: Log, moment: Moment, position: int, output: Output) -> None:
    """Say what a moment was taken for, unless it is a position that ends a commit."""
    if moment.number == position:
        return
    recorded_at = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(
        microseconds=log.recorded_at(position)
    )
    note(
        f"As of {moment.meaning(output)}: position {position}, recorded at "
        f"{output.moment(recorded_at)}"
    )
