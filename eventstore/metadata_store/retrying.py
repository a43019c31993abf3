"""Calls again what was aborted, as MLMD's client does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from eventstore.errors import AbortedError

RETRIES: Final = 5
"""How often at most a call that lost against other writers is made, as MLMD's options say it."""

_MEAN_DELAY_SECONDS: Final = 2.0

_Answer = TypeVar("_Answer")


def retried(call: Callable[[], _Answer], retries: int) -> _Answer:
    """What a call answers, made `retries` times at most while it raises AbortedError."""
    remaining = retries
    while True:
        try:
            return call()
        except AbortedError:
            remaining -= 1
            if remaining <= 0:
                raise
            import random

            time.sleep(random.expovariate(1 / _MEAN_DELAY_SECONDS))
