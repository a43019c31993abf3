"""Fold a log into its tables as puts come, so that the first query waits little."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from eventstore.late_logger import late_logger
from eventstore.log import Log
from eventstore.log.cache_file import UnwantedFileError
from eventstore.log.forking import no_fork_in_libraries, renew_in_children
from eventstore.projections.erased_records import ErasedRecords
from eventstore.projections.limits import Limits

_LOGGER = late_logger("eventstore.projections")

_LOOKS_PER_ROUND: Final = 8
"""How many times per round of records it looks whether there is more to fold."""


class _HaltedError(Exception):
    """Nothing is to be folded any more."""


class BackgroundFolding:
    """Folds into the file of a log's tables in a thread, which lives only as long as it folds.

    It folds what is sealed, and what is not where that is much: its columns have to be derived.
    Where another process uses the file, or the fold fails, nothing is lost: the next one begins
    where the file ends, and so does a query. The file is closed afterwards, so that others can
    have it, unless a query of this process has it open.
    """

    def __init__(
        self,
        log: Log,
        path: Path | None,
        limits: Limits,
        note_progress: Callable[[], None] = lambda: None,
        erased: ErasedRecords | None = None,
    ) -> None:
        """Begin at a position that is a multiple of the limit; never without a path."""
        every_records = limits.background_records
        self._log = log
        self._path = path
        self._limits = limits
        self._note_progress = note_progress
        self._erased = erased
        self._look_every = max(1, every_records // _LOOKS_PER_ROUND)
        self._next_look = (log.position // every_records + 1) * every_records
        self._folded = 0
        self._noted = self._put_after = int(log.position)
        self._mutex = threading.Lock()
        self._halts = int(path is None)
        self._thread: threading.Thread | None = None
        renew_in_children(self)

    def after_fork_in_child(self) -> None:
        """Fold nothing in a child: the file stays the parent's."""
        self._mutex = threading.Lock()
        self._halts, self._thread = 1, None

    def note(self, position: int) -> None:
        """Take notice of a put; it never waits, and never fails."""
        self._noted = position
        if position >= self._next_look:
            # Two puts at once may both look: one thread begins.
            self._next_look = position + self._look_every
            with self._mutex:
                if self._halts or self._thread is not None:
                    return
                # Here, so that the thread imports nothing before forks wait for it.
                no_fork_in_libraries()
                # No daemon: at the interpreter's end it would be stopped amid DuckDB.
                thread = threading.Thread(target=self._fold, name="eventstore-tables")
                # None can be had, as at the interpreter's end.
                with contextlib.suppress(RuntimeError):
                    thread.start()
                    self._thread = thread

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is being folded in the block: of two folds of one record, one is in vain."""
        self.halt()
        try:
            yield
        finally:
            with self._mutex:
                self._halts -= 1

    @contextlib.contextmanager
    def halted(self) -> Iterator[None]:
        """The same where the file may hold less after the block than before it."""
        with self.paused():
            self._folded, self._put_after = 0, self._noted
            yield

    def halt(self) -> None:
        """Fold nothing any more; a batch that is being folded is waited for."""
        with self._mutex:
            self._halts += 1
            thread = self._thread
        self._note_progress()
        if thread is not None:
            thread.join()

    def pressure(self) -> float:
        """How far the thread is behind what this process puts, in shares of what it may be."""
        if self._thread is None or self._halts:
            return 0
        behind = self._noted - max(self._folded, self._put_after)
        return behind / (2 * self._limits.unsealed_records)

    def _fold(self) -> None:
        thread = threading.current_thread()
        with self._mutex:
            # Who began it was interrupted before noting it; another may have begun since.
            self._thread = self._thread or thread
            if self._thread is not thread:
                return
        try:
            self._end_if_halted()
            # Not at the top: who puts little needs no DuckDB.
            with no_fork_in_libraries():
                from eventstore.log.columns import release_unused
                from eventstore.projections.tables import Tables
            while (end := self._next_end()) > self._folded:
                # Closed after each: what DuckDB took for one it would keep besides.
                tables = Tables(self._log, self._path, erased=self._erased)
                try:
                    self._folded = tables.fold_in_file(end, partial(self._go_on, end))
                finally:
                    tables.close()
                    release_unused()
                if self._folded < end:
                    # Another process has it.
                    return
        except (_HaltedError, UnwantedFileError):
            # Of what others have erased meanwhile, a query folds nothing.
            pass
        except Exception as error:
            _LOGGER.warning("folding into %s failed, a query does it: %s", self._path, error)
        finally:
            with self._mutex:
                self._thread = None
            self._note_progress()

    def _next_end(self) -> int:
        """How far to fold next: up to the end of a segment, or of what is not sealed yet."""
        for sealed, _ in self._log.dense_ends(self._folded):
            return sealed
        position, unsealed = self._log.position, self._limits.unsealed_records
        if position - self._folded < unsealed:
            return self._folded
        return min(position, self._folded + 4 * unsealed)

    def _go_on(self, end: int, done: int, of: int) -> None:
        self._folded = end - of + done
        self._note_progress()
        self._end_if_halted()

    def _end_if_halted(self) -> None:
        # The interpreter waits at its end for this thread.
        if self._halts or not threading.main_thread().is_alive():
            raise _HaltedError
