"""Fold what a log has sealed into its tables as puts come, so that the first query waits little."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from eventstore.late_logger import late_logger
from eventstore.log import Log
from eventstore.log.forking import no_fork_in_libraries, renew_in_children

_LOGGER = late_logger("eventstore.projections")

_LOOKS_PER_ROUND: Final = 8
"""How many times per round of records it looks whether more was sealed."""


class _HaltedError(Exception):
    """Nothing is to be folded any more."""


class BackgroundFolding:
    """Folds into the file of a log's tables in a thread, which lives only as long as it folds.

    Where another process uses the file, or the fold fails, nothing is lost: the next one begins
    where the file ends, and so does a query. The file is closed afterwards, so that others can
    have it, unless a query of this process has it open.
    """

    def __init__(self, log: Log, path: Path | None, every_records: int) -> None:
        """Begin when a position that is a multiple of a number is put; never without a path."""
        self._log = log
        self._path = path
        self._look_every = max(1, every_records // _LOOKS_PER_ROUND)
        self._next_look = (log.position // every_records + 1) * every_records
        self._folded = 0
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
    def halted(self) -> Iterator[None]:
        """Nothing is being folded in the block, after which the file may hold less than before."""
        self.halt()
        self._folded = 0
        try:
            yield
        finally:
            with self._mutex:
                self._halts -= 1

    def halt(self) -> None:
        """Fold nothing any more; a batch that is being folded is waited for."""
        with self._mutex:
            self._halts += 1
            thread = self._thread
        if thread is not None:
            thread.join()

    def _fold(self) -> None:
        thread = threading.current_thread()
        with self._mutex:
            # Who began it was interrupted before noting it; another may have begun since.
            self._thread = self._thread or thread
            if self._thread is not thread:
                return
        try:
            self._go_on(0, 0)
            # Not at the top: who puts little needs no DuckDB.
            with no_fork_in_libraries():
                from eventstore.log.columns import release_unused
                from eventstore.projections.tables import Tables
            for sealed, _ in self._log.dense_ends(self._folded):
                # Closed after each: what DuckDB took for one it would keep besides.
                tables = Tables(self._log, self._path)
                try:
                    self._folded = tables.fold_in_file(sealed, self._go_on)
                finally:
                    tables.close()
                    release_unused()
                if self._folded < sealed:
                    # Another process has it.
                    return
        except _HaltedError:
            pass
        except Exception as error:
            _LOGGER.warning("folding into %s failed, a query does it: %s", self._path, error)
        finally:
            with self._mutex:
                self._thread = None

    def _go_on(self, _done: int, _of: int) -> None:
        # The interpreter waits at its end for this thread.
        if self._halts or not threading.main_thread().is_alive():
            raise _HaltedError
