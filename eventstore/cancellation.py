"""Who waits for an answer: long work looks now and then, and ends when nobody does any more.

In one process the caller waits as long as it takes, and nothing is looked up. A server says for
each call until when its client waits, and how much it takes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from eventstore.errors import CancelledError, DeadlineExceededError, StatusError


class Waiter:
    """Whoever waits for one answer. Safe to use from several threads."""

    def __init__(
        self,
        *,
        seconds_max: float = math.inf,
        bytes_max: float = math.inf,
        too_long: Callable[[], StatusError] | None = None,
        claim: Callable[[int], None] | None = None,
    ) -> None:
        """It waits for some seconds, and takes some bytes; `too_long` says what if there are more.

        Bytes are given where they are limited together with `too_long`. `claim` is told how many
        come, and raises where there is no room for them.
        """
        self._seconds_max = seconds_max
        self._until = time.monotonic() + seconds_max
        self._bytes_left = bytes_max
        self._too_long = too_long
        self._claim = claim
        self._has_left = False

    @property
    def is_gone(self) -> bool:
        """Whether it does not wait any more."""
        return self._has_left or time.monotonic() >= self._until

    def seconds_left(self) -> float:
        """For how long it still waits."""
        return max(self._until - time.monotonic(), 0.0)

    def leave(self) -> None:
        """Say that it does not wait any more."""
        self._has_left = True

    def check(self) -> None:
        """Raise CancelledError once it is gone, DeadlineExceededError once its time is over."""
        if self._has_left:
            raise CancelledError("the client is gone, or its deadline over: the call was given up")
        if time.monotonic() >= self._until:
            raise DeadlineExceededError(
                f"the call was given up after {self._seconds_max:g} s, the most that it may take "
                "here: ask for less"
            )

    def take(self, size: int) -> None:
        """Count some bytes of the answer. Raises what `too_long` says if they are too many."""
        if self._claim is not None:
            self._claim(size)
        self._bytes_left -= size
        if self._bytes_left < 0 and self._too_long is not None:
            raise self._too_long()


_waiter: ContextVar[Waiter | None] = ContextVar("waiter", default=None)


@contextmanager
def waited_for_by(waiter: Waiter | None) -> Iterator[None]:
    """A block in which this thread works for somebody, or for who waits as long as it takes."""
    token = _waiter.set(waiter)
    try:
        yield
    finally:
        _waiter.reset(token)


def current_waiter() -> Waiter | None:
    """For whom this thread works; None if there is no need to look."""
    return _waiter.get()


def check_wanted() -> None:
    """Raise CancelledError or DeadlineExceededError if nobody waits for what this thread does."""
    waiter = _waiter.get()
    if waiter is not None:
        waiter.check()


def taken(payloads: Iterable[bytes]) -> Iterable[bytes]:
    """The same, counted as parts of the answer; raises what `Waiter.take` and `check` raise."""
    waiter = _waiter.get()
    return payloads if waiter is None else _counted(waiter, payloads)


def _counted(waiter: Waiter, payloads: Iterable[bytes]) -> Iterator[bytes]:
    for number, payload in enumerate(payloads):
        if not number % 1024:
            waiter.check()
        waiter.take(len(payload))
        yield payload
