"""The moments of a request: `at`, and `until` for the second of two."""

from __future__ import annotations

from datetime import datetime

import msgspec

from eventstore.errors import InvalidArgumentError
from eventstore.log.record import Position
from eventstore.metadata_store.source import Source
from eventstore.moment_texts import parsed_moment
from eventstore.moments import position_of
from eventstore.store import Engine
from eventstore.times import Microseconds, moment_of


class At(msgspec.Struct, frozen=True):
    """A position, and when its record was put; 0 and None while the store is empty."""

    position: Position
    recorded_at: datetime | None


class Moments(msgspec.Struct, frozen=True):
    """What a request is answered as of.

    `at` is the newest position where the request names none. `until` is None where it asks for one
    moment alone. `newest` is the end of the log when the request came. `at_text` and `until_text`
    are what stands in the address, None for now.
    """

    at: At
    until: At | None
    newest: At
    at_text: str | None = None
    until_text: str | None = None

    @property
    def is_now(self) -> bool:
        """Whether the request names no moment, or now."""
        return self.at_text is None


def moments_of(engine: Engine, at: str | None, until: str | None) -> Moments:
    """The moments that an address names; `until=now` is the newest position.

    Raises InvalidArgumentError for what is no moment, for one that has not been yet, and for a
    second moment before the first.
    """
    newest = engine.snapshot().position
    first = _position(engine, at, newest)
    second = None if until is None else _position(engine, until, newest)
    if second is not None and second < first:
        raise InvalidArgumentError(
            f"at is position {first}, and until is {second}, which is earlier: swap them"
        )
    ends = {position: _at(engine, position) for position in {first, second or first, newest}}
    return Moments(
        ends[first],
        None if second is None else ends[second],
        ends[newest],
        None if at == "now" else at,
        until,
    )


def pinned(moments: Moments) -> dict[str, str]:
    """What `at` and `until` of the address are to be replaced by: texts that stay true for ever.

    A time near now means another position as soon as something is put; a position inside of a
    commit stands for the end of the one before.
    """
    wanted = {}
    for name, text, at in (
        ("at", moments.at_text, moments.at),
        ("until", moments.until_text, moments.until),
    ):
        if text is not None and text != "now" and at is not None and text != str(at.position):
            wanted[name] = str(at.position)
    return wanted


def _position(engine: Engine, text: str | None, newest: Position) -> Position:
    if text is None or text == "now":
        return newest
    position = position_of(engine.log, parsed_moment(text).upto())
    # Another thread may have just appended it. An answer must not change once it is seen.
    engine.projections.catch_up()
    return position


def _at(engine: Engine, position: Position) -> At:
    return At(position, moment_of(engine.log.recorded_at(position)) if position else None)


def time_of(source: Source, text: str | None, *, is_start: bool) -> datetime | None:
    """The time that a text stands for: that of its record for a position, None for no text.

    Of a day it is the start or the end. Raises InvalidArgumentError for what is no moment.
    """
    if text is None or not text.strip():
        return None
    moment = parsed_moment(text)
    if moment.number is None:
        return moment.start if is_start else moment.end
    if not moment.number:
        raise InvalidArgumentError("positions begin with 1")
    position = position_of(source.log, moment.number)
    return moment_of(Microseconds(source.log.recorded_at(position)))
