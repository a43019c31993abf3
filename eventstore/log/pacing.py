"""Have puts make way for work of the background that has fallen behind.

Python runs one thread at a time. Whoever puts at full speed leaves what is written, merged and
folded afterwards too small a share of it: so that would fall behind without bound, and either fill
the memory or have the first query wait for all of it. Each put then rests for a short time, the
longer the more it put and the farther the work is behind, and throughput settles where the work
keeps up. A store that is put to at a lower rate never waits.

A put rests once it is durable and holds nothing. So what it waits for cannot need what it has.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

_SECONDS_PER_RECORD: Final = 100e-6
"""Some more than all the work of the background takes for a record."""

SECONDS_MAX: Final = 0.25


class Pacing:
    """Ends the rest of puts once nothing is behind any more. Safe to use from several threads.

    The pressure is above 1 where some work is behind, and 0 where nobody does it: because it is
    done, or failed, or was stopped.
    """

    def __init__(self, pressure: Callable[[], Callable[[], float] | None]) -> None:
        """`pressure` refers weakly to what gives it, since that keeps the pacing."""
        self._pressure = pressure
        self._resting: set[threading.Lock] = set()

    def rest(self, records: int) -> None:
        """Make way after a put of some records, if need be."""
        behind = self._behind()
        if not behind:
            return
        # A lock of its own, and no condition: an interrupt can leave that held.
        ended = threading.Lock()
        ended.acquire()
        self._resting.add(ended)
        # Work that ended before has not seen it.
        if self._behind():
            ended.acquire(timeout=min(records * behind * _SECONDS_PER_RECORD, SECONDS_MAX))
        self._resting.discard(ended)

    def note_progress(self) -> None:
        """End all rests unless something is still behind."""
        while self._resting and not self._behind():
            try:
                self._resting.pop().release()
            except KeyError:
                return

    def _behind(self) -> float:
        """How far the work is behind: from 0, not at all, to 1."""
        pressure = self._pressure()
        return 0 if pressure is None else min(max(0.0, pressure() - 1), 1)
