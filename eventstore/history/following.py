"""Yield commits as they come, of this process and of others."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from eventstore.errors import InvalidArgumentError
from eventstore.log import Commit, Log


def follow(
    log: Log, after: int, *, stop: threading.Event | None, poll_seconds: float
) -> Iterator[Commit]:
    """The commits after a position, then each new one when it is there, until `stop` is set.

    Looks for new ones every `poll_seconds`, which costs one small read of a file. Raises
    InvalidArgumentError for a position beyond the newest, or one below 0.
    """
    log.refresh()
    if not 0 <= after <= log.position:
        raise InvalidArgumentError(
            f"position {after} is not in the log: follow from 0 to {log.position}"
        )
    is_number = isinstance(poll_seconds, (int, float)) and not isinstance(poll_seconds, bool)
    # NaN is in no range.
    if not is_number or not 0 < poll_seconds <= threading.TIMEOUT_MAX:
        raise InvalidArgumentError(
            f"poll_seconds is {poll_seconds!r}: use a number of seconds, more than 0 and at most "
            f"{threading.TIMEOUT_MAX:.0f}"
        )
    waiting = stop or threading.Event()
    while not waiting.is_set():
        for commit in log.commits(after, log.position):
            yield commit
            after = commit.last_position
        if not log.refresh():
            waiting.wait(poll_seconds)
            log.refresh()
