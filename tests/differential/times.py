"""Times of two sides made comparable: each becomes the number of the step that it was taken in.

So it shows whether a put has moved a node's update time, and whether a create time has stayed,
though the two clocks never agree.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message

_NUMBERED = 5_000_000_000_000_000
"""Added to the numbers of steps, to tell them from times that a program gives itself."""

_FIELDS = (
    "create_time_since_epoch",
    "last_update_time_since_epoch",
    "milliseconds_since_epoch",
)


class Steps:
    """When each step of a program began. No two steps share a millisecond."""

    def __init__(self) -> None:
        self._starts: list[int] = []

    def begin(self) -> None:
        last = _now()
        while (start := _now()) <= last:
            pass
        self._starts.append(start)

    def number_of(self, moment: int) -> int | None:
        """The step, from 1, during which a moment (ms) was; None if it was during none."""
        if not self._starts or not self._starts[0] <= moment <= _now():
            return None
        return bisect_right(self._starts, moment)


class SideTimes:
    """The times that one side has answered, and the numbers that stand for them."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._own: dict[tuple[str, int, str, int], int] = {}

    def number(self, answer: Any) -> None:
        """Replace the times of nodes and events in an answer."""
        for message in _timed(answer):
            for field in _fields_of(message):
                moment = getattr(message, field)
                step = self._steps.number_of(moment)
                if step is not None:
                    setattr(message, field, _NUMBERED + step)
                    self._own[_key(message, field, _NUMBERED + step)] = moment

    def restore(self, request: Any) -> None:
        """Replace what an answer's numbers have brought into a request by this side's times."""
        for message in _timed(request):
            for field in _fields_of(message):
                own = self._own.get(_key(message, field, getattr(message, field)))
                if own is not None:
                    setattr(message, field, own)


def _now() -> int:
    return time.time_ns() // 1_000_000


def _key(message: Any, field: str, number: int) -> tuple[str, int, str, int]:
    return message.DESCRIPTOR.name, getattr(message, "id", 0), field, number


def _fields_of(message: Any) -> list[str]:
    return [
        field
        for field in _FIELDS
        if field in message.DESCRIPTOR.fields_by_name and message.HasField(field)
    ]


def _timed(message: Any) -> Iterator[Any]:
    """The nodes and events in a message, or the message itself."""
    if message.DESCRIPTOR.name in ("Artifact", "Execution", "Context", "Event"):
        yield message
        return
    for _, value in message.ListFields():
        if isinstance(value, Message):
            yield from _timed(value)
        elif not isinstance(value, (str, bytes, int, float)) and not hasattr(value, "keys"):
            for member in value:
                if isinstance(member, Message):
                    yield from _timed(member)
