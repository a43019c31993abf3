"""How many bytes may be on their way through a server at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from eventstore.errors import ResourceExhaustedError


class ByteBudget:
    """Room for some bytes. Safe to use from several threads."""

    def __init__(self, bytes_max: int) -> None:
        self._lock = threading.Lock()
        self._left = bytes_max

    @contextmanager
    def claimed(self) -> Iterator[Callable[[int], None]]:
        """What claims bytes until the block ends, or raises ResourceExhaustedError."""
        held = 0
        is_over = False

        def claim(count: int) -> None:
            nonlocal held
            with self._lock:
                # Whoever was left at work when the block ended is to stop.
                if is_over or count > self._left:
                    raise ResourceExhaustedError(
                        "too much is on its way to and from this server at once: try again later"
                    )
                self._left -= count
                held += count

        try:
            yield claim
        finally:
            with self._lock:
                self._left += held
                is_over = True
