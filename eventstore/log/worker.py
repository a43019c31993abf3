"""A thread that does the work of the background, one thing after the other."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from eventstore.log.forking import no_fork_in_libraries

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor


class Worker:
    """Begins its thread with the first work. One thread at a time submits, any number look."""

    def __init__(self, name: str, note_end: Callable[[], None]) -> None:
        """`note_end` is called after each thing that was done, however it ended."""
        self._name = name
        self._note_end = note_end
        self._pool: ThreadPoolExecutor | None = None
        self._submitted: deque[Future[None]] = deque()

    def submit(self, work: Callable[..., None], *given: Any) -> None:
        """Have work done, except at the interpreter's end: then nothing can be begun any more."""
        with contextlib.suppress(RuntimeError):
            if self._pool is None:
                from concurrent.futures import ThreadPoolExecutor

                # Here, so that the thread imports nothing before forks wait for it.
                no_fork_in_libraries()
                self._pool = ThreadPoolExecutor(1, thread_name_prefix=self._name)
            future = self._pool.submit(work, *given)
            while self._submitted and self._submitted[0].done():
                self._submitted.popleft()
            self._submitted.append(future)
            future.add_done_callback(lambda _: self._note_end())

    def is_busy(self) -> bool:
        """Whether there is work that has not ended."""
        with contextlib.suppress(IndexError):
            # What was submitted last ends last.
            return not self._submitted[-1].done()
        return False

    def wait(self, pending_max: int = 0) -> None:
        """Wait until no more than so much work has not ended; raise what it failed with."""
        while len(self._submitted) > pending_max:
            self._submitted.popleft().result()

    def finish_begun(self) -> None:
        """Wait until what was submitted so far has ended, in any thread but its own."""
        submitted = [*self._submitted]
        if submitted:
            from concurrent.futures import wait

            wait(submitted)

    def close(self) -> None:
        """Wait until all work has ended. More work would begin another thread."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)

    def leave_to_the_parent(self) -> None:
        """Begin anew in a forked child: threads do not survive a fork."""
        self._pool = None
        self._submitted.clear()
