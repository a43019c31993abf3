"""Queries that a caller may leave: DuckDB checks only between two steps whether to stop.

A function of one value, or of a few thousand, may take long within a single step. So such a query
runs in a thread of its own. Nobody waits for it once its time is over, and it ends by itself.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from eventstore.errors import DeadlineExceededError, ResourceExhaustedError
from eventstore.log.os_errors import starting_thread

if TYPE_CHECKING:
    # Not at run time: what a thread refers to outlives DuckDB, which complains at exit.
    import duckdb

LEFT_MAX: Final = 4
"""How many left queries may still run; beyond them none is begun that may have to be left."""
ENDING_SECONDS: Final = 2.0
"""What a query that was interrupted has to end in before it is left."""

_LOOKED_EVERY_SECONDS: Final = 0.05

_Answer = TypeVar("_Answer")


class _Left:
    """The queries that nobody waits for any more."""

    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        """Forget all, as in a child: no thread of its parent runs in it."""
        self._mutex = threading.Lock()
        self._threads: list[threading.Thread] = []

    def add(self, thread: threading.Thread) -> None:
        with self._mutex:
            self._threads.append(thread)

    def check(self) -> None:
        with self._mutex:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            left = len(self._threads)
        if left >= LEFT_MAX:
            raise ResourceExhaustedError(
                f"{left} queries whose time was over are still in one long function each: try "
                "again when they have ended"
            )


_left = _Left()
os.register_at_fork(after_in_child=_left.start_over)


class _Query:
    """A query in a thread of its own."""

    def __init__(
        self,
        kept: contextlib.AbstractContextManager[duckdb.DuckDBPyConnection],
        ask: Callable[[duckdb.DuckDBPyConnection], Any],
    ) -> None:
        self._kept = kept
        self._ask = ask
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._begins = threading.Lock()
        self._is_done = threading.Event()
        self._error: BaseException | None = None
        self._answer: Any = None
        self.thread = threading.Thread(target=self._run, name="eventstore-query", daemon=True)

    def start(self) -> None:
        with starting_thread():
            self.thread.start()

    def call_off(self) -> bool:
        """Keep a query that has not begun from beginning; False for one that has."""
        if not self._begins.acquire(blocking=False):
            return False
        # What is kept stays open until it was entered and left.
        with contextlib.suppress(Exception), self._kept:
            pass
        return True

    def _run(self) -> None:
        # An interrupt in `start` does not tell whether the thread runs: only one of both enters.
        if not self._begins.acquire(blocking=False):
            return
        try:
            with self._kept as self._cursor:
                self._answer = self._ask(self._cursor)
        except BaseException as error:
            self._error = error
        finally:
            self._cursor = None
            self._is_done.set()

    def ends_within(self, seconds: float) -> bool:
        """Wait in small steps, since the waiting thread takes signals between them."""
        end = time.monotonic() + seconds
        while (rest := end - time.monotonic()) > 0:
            if self._is_done.wait(min(rest, _LOOKED_EVERY_SECONDS)):
                return True
        return self._is_done.is_set()

    def interrupt(self) -> None:
        cursor = self._cursor
        if cursor is not None:
            cursor.interrupt()

    def answer(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._answer


def answer_or_leave(
    kept: contextlib.AbstractContextManager[duckdb.DuckDBPyConnection],
    ask: Callable[[duckdb.DuckDBPyConnection], _Answer],
    seconds: float | None,
) -> _Answer:
    """The answer of a query on a cursor, which is opened for it, in at most `seconds`.

    Without a number of seconds it is not run in a thread. Raises DeadlineExceededError after them,
    and ResourceExhaustedError when too many were left or no thread can be had. Whatever it raises,
    `kept` is entered and left, if only by a left query.
    """
    if seconds is None:
        with kept as cursor:
            return ask(cursor)
    query = _Query(kept, ask)
    try:
        _left.check()
        query.start()
        if query.ends_within(seconds):
            answer: _Answer = query.answer()
            return answer
    except BaseException:
        _end(query)
        raise
    in_a_function = "" if _end(query) else ", in a single function"
    raise DeadlineExceededError(f"the query takes longer than its timeout{in_a_function}")


def _end(query: _Query) -> bool:
    """Interrupt a query, and leave it if that is no use; whether it has ended."""
    if query.call_off():
        return True
    try:
        for _ in range(int(ENDING_SECONDS / _LOOKED_EVERY_SECONDS)):
            if query.ends_within(0):
                return True
            query.interrupt()
            query.ends_within(_LOOKED_EVERY_SECONDS)
        return query.ends_within(0)
    finally:
        # Also when another interrupt ends the waiting.
        if not query.ends_within(0):
            _left.add(query.thread)
