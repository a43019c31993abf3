"""Lets calls in, and knows when the last one is out.

gRPC's own way to stop leaves a call that comes just then without an answer until all others have
theirs, and cancels it in the end: MLMD's clients try again only what is UNAVAILABLE.
"""

from __future__ import annotations

import threading
import time
from typing import Final

from eventstore.errors import UnavailableError

STOPPING: Final = "the server is stopping, and nothing was done: try again"

_QUIET_SECONDS: Final = 0.05
_UNQUIET_SECONDS_MAX: Final = 1.0


class Gate:
    """Open until it is closed for good. Safe to use from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._is_open = True
        self._came_at = 0.0

    def enter(self) -> None:
        """Let a call in, which has to `leave`. Raises UnavailableError once the gate is closed."""
        with self._changed:
            self._came_at = time.monotonic()
            if not self._is_open:
                raise UnavailableError(STOPPING)
            self._inside += 1

    @property
    def inside(self) -> int:
        """How many calls are let in now."""
        return self._inside

    def leave(self) -> None:
        """Let a call out, once its client has the answer."""
        with self._changed:
            self._inside -= 1
            if not self._is_open:
                self._changed.notify_all()

    def close(self, seconds: float) -> bool:
        """Refuse further calls, and wait for those inside, at most some seconds; whether all left.

        Then wait, for a second at most, until none has come for a moment: who comes by now is told,
        and who comes after gRPC has stopped finds no server.
        """
        with self._changed:
            self._is_open = False
            self._came_at = time.monotonic()
            is_empty = self._changed.wait_for(lambda: not self._inside, seconds)
        until = time.monotonic() + _UNQUIET_SECONDS_MAX
        while time.monotonic() < min(until, self._came_at + _QUIET_SECONDS):
            time.sleep(_QUIET_SECONDS)
        return is_empty
