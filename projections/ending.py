"""Ends queries of DuckDB whose time is over, and leaves those that no interrupt reaches.

One thread watches all that run, and interrupts those that take too long, again and again. DuckDB
looks only between two steps whether to stop, and a function of one value, or of a few thousand, is
within one. So a query that may have such a function runs in a thread of its own. If an interrupt
does not end it, nobody waits for it any more, and it ends by itself.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, TypeVar

from eventstore.cancellation import check_wanted, current_waiter
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


class _Query:
    """A query of a cursor, which is opened for it, and when its time is over."""

    def __init__(
        self,
        kept: contextlib.AbstractContextManager[duckdb.DuckDBPyConnection],
        ask: Callable[[duckdb.DuckDBPyConnection], Any],
        seconds: float,
    ) -> None:
        self._kept = kept
        self._ask = ask
        self._ends = time.monotonic() + seconds
        self._waiter = current_waiter()
        self._future: Future[Any] = Future()
        self.interrupt: Callable[[], None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether its time is over, or nobody waits for it any more."""
        is_unwanted = self._waiter is not None and self._waiter.is_gone
        return is_unwanted or time.monotonic() >= self._ends

    def answer(self) -> Any:
        """The answer, in this thread."""
        with self._kept as cursor:
            self.interrupt = cursor.interrupt
            try:
                _watch.add(self)
                return self._ask(cursor)
            finally:
                _watch.remove(self)

    def answer_apart(self) -> Any:
        """The answer, from a thread that is left if it does not end. TimeoutError without one."""
        thread = threading.Thread(target=self._run, name="eventstore-query", daemon=True)
        try:
            _watch.check_left()
            with starting_thread():
                thread.start()
            while not (self._future.done() or self.is_over):
                self.ends_by(time.monotonic() + _LOOKED_EVERY_SECONDS)
            return self._future.result(0)
        except BaseException:
            self._end(thread)
            raise

    def _run(self) -> None:
        # An interrupt in `start` does not tell whether the thread runs: a future that has begun
        # cannot be cancelled, and one that was cancelled does not begin.
        if not self._future.set_running_or_notify_cancel():
            return
        try:
            answer = self.answer()
        except BaseException as error:
            self._future.set_exception(error)
        else:
            self._future.set_result(answer)

    def ends_by(self, end: float) -> None:
        """Wait in small steps, since the waiting thread takes signals between them."""
        while not self._future.done() and (rest := end - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                self._future.exception(min(rest, _LOOKED_EVERY_SECONDS))

    def _end(self, thread: threading.Thread) -> None:
        """Have the query interrupted if it runs, and leave it if that is no use."""
        if self._future.cancel():
            # What is kept stays open until it was entered and left.
            with contextlib.suppress(Exception), self._kept:
                pass
        if self._future.done():
            return
        self._ends = time.monotonic()
        try:
            self.ends_by(self._ends + ENDING_SECONDS)
        finally:
            # Also when another interrupt ends the waiting.
            if not self._future.done():
                _watch.leave(self, thread)


class _Watch:
    """The queries of this process that run, those that were left, and the thread that looks."""

    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        """Forget everything, as in a new process: it has only one of its parent's threads."""
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self.running: set[_Query] = set()
        self.left: list[threading.Thread] = []

    def add(self, query: _Query) -> None:
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._look, name="eventstore-watch", daemon=True)
                with starting_thread():
                    thread.start()
                self._thread = thread
            self.running.add(query)
            if len(self.running) == 1:
                self._changed.notify()

    def remove(self, query: _Query) -> None:
        # The interrupt of a query that has ended must not hit the connection's next statement.
        with self._changed:
            self.running.discard(query)

    def leave(self, query: _Query, thread: threading.Thread) -> None:
        with self._changed:
            self.running.discard(query)
            self.left.append(thread)

    def check_left(self) -> None:
        """Raise ResourceExhaustedError if too many were left."""
        with self._changed:
            self.left = [thread for thread in self.left if thread.is_alive()]
            left = len(self.left)
        if left >= LEFT_MAX:
            raise ResourceExhaustedError(
                f"{left} queries whose time was over are still in one long function each: try "
                "again when they have ended"
            )

    def _look(self) -> None:
        while True:
            with self._changed:
                while not self.running:
                    self._changed.wait()
                self._interrupt_those_over()
                self._changed.wait(_LOOKED_EVERY_SECONDS)

    def _interrupt_those_over(self) -> None:
        # Not in the loop, whose variables would keep the last connection alive.
        for query in self.running:
            if query.is_over and query.interrupt is not None:
                query.interrupt()


_watch = _Watch()
os.register_at_fork(after_in_child=_watch.start_over)


def answer_in_time(
    kept: contextlib.AbstractContextManager[duckdb.DuckDBPyConnection],
    ask: Callable[[duckdb.DuckDBPyConnection], _Answer],
    seconds: float | None,
    *,
    may_be_left: bool,
) -> _Answer:
    """The answer of a query on a cursor, which is opened for it, in at most `seconds`.

    Raises DeadlineExceededError after them, what `check_wanted` raises, and ResourceExhaustedError
    when no thread can be had or too many were left of those that may be. Whatever it raises, `kept`
    is entered and left, if only by a left query.
    """
    if seconds is None and current_waiter() is None:
        with kept as cursor:
            return ask(cursor)
    query = _Query(kept, ask, math.inf if seconds is None else seconds)
    try:
        answer: _Answer = query.answer_apart() if may_be_left else query.answer()
    except Exception:
        if not query.is_over:
            raise
        check_wanted()
        raise DeadlineExceededError("the query takes longer than its timeout") from None
    return answer
