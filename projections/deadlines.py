"""Ends statements of DuckDB that take too long: one thread watches over all that run."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Final

from eventstore.log.os_errors import starting_thread

if TYPE_CHECKING:
    # Not at run time: what a thread refers to outlives DuckDB, which complains at exit.
    import duckdb

STATEMENT_SECONDS_MAX: Final = 30.0
"""How long a filter may take. The slowest measured on a million nodes took a hundredth of this."""

_WATCHED_EVERY_SECONDS: Final = 0.25


class Deadline:
    """While it is entered, a connection is interrupted when the time is over, again and again.

    The statement then raises duckdb.InterruptException. Between two nothing is interrupted.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection
        self._ends = time.monotonic() + STATEMENT_SECONDS_MAX

    def __enter__(self) -> Deadline:
        _watch.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        _watch.remove(self)

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._ends


class _Watch:
    """The deadlines of this process, and the thread that looks at them while there are any."""

    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        """Forget everything, as in a new process: it has only one of its parent's threads."""
        self._changed = threading.Condition()
        self._watched: set[Deadline] = set()
        self._thread: threading.Thread | None = None

    def add(self, deadline: Deadline) -> None:
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(
                    target=self._look, name="eventstore-deadlines", daemon=True
                )
                with starting_thread():
                    thread.start()
                self._thread = thread
            self._watched.add(deadline)
            if len(self._watched) == 1:
                self._changed.notify()

    def remove(self, deadline: Deadline) -> None:
        # The interrupt of a deadline that has ended must not hit the connection's next statement.
        with self._changed:
            self._watched.discard(deadline)

    def _look(self) -> None:
        while True:
            with self._changed:
                while not self._watched:
                    self._changed.wait()
                self._interrupt_those_over()
                self._changed.wait(_WATCHED_EVERY_SECONDS)

    def _interrupt_those_over(self) -> None:
        # Not in the loop, whose variables would keep the last connection alive.
        for deadline in self._watched:
            if deadline.is_over:
                deadline.connection.interrupt()


_watch = _Watch()
os.register_at_fork(after_in_child=_watch.start_over)
