"""Lets so many calls be answered at once at most. Others wait, first come, first served."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from eventstore.errors import CancelledError
from eventstore.server.incoming import Incoming


class ConcurrencyLimit:
    """Those of one server. Safe to use from several threads."""

    def __init__(self, most: int) -> None:
        self._mutex = threading.Lock()
        self._free = most
        self._waiting = deque[_Place]()

    @contextmanager
    def turn(self, incoming: Incoming) -> Iterator[None]:
        """A block in which a call is answered. CancelledError when its client leaves before."""
        self._take(incoming)
        try:
            yield
        finally:
            self._give_back()

    def _take(self, incoming: Incoming) -> None:
        with self._mutex:
            if self._free:
                self._free -= 1
                return
            place = _Place()
            self._waiting.append(place)
        if not incoming.when_ended(place.called.set):
            place.called.set()
        place.called.wait()
        with self._mutex:
            if place.has_turn:
                return
            self._waiting.remove(place)
        raise CancelledError(
            f"{incoming.rpc} waited for its turn for longer than its client; nothing was done"
        )

    def _give_back(self) -> None:
        with self._mutex:
            if not self._waiting:
                self._free += 1
                return
            place = self._waiting.popleft()
            place.has_turn = True
        place.called.set()


class _Place:
    """Where a call stands in the line; it is `called` when it has its turn or its client leaves."""

    def __init__(self) -> None:
        self.called = threading.Event()
        self.has_turn = False
