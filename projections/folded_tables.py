"""The DuckDB tables of a log as they are folded: opened, filled up to a position, begun again.

What is folded goes into one file, which belongs to one process at a time; or apart, in memory and
in a file without a name, where that one cannot be had.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from eventstore.errors import InternalError
from eventstore.log import Log, Progress
from eventstore.log.cache_file import UnwantedFileError
from eventstore.log.forking import made_in_steps, no_fork_in_libraries, renew_in_children
from eventstore.log.os_errors import translating
from eventstore.long_work import long_work
from eventstore.projections.duckdb_errors import (
    failed,
    is_damage,
    is_in_use,
    write_failure,
)
from eventstore.projections.erased_records import ErasedRecords
from eventstore.projections.late_writing import writing_in
from eventstore.projections.table_changes import FOLDED_COLUMNS
from eventstore.projections.table_writing import (
    FOLDED_ROWS_MAX,
    apply_batch,
    folds,
    merged,
    writing_to,
)
from eventstore.projections.tables_check import has_tables_as_made, others_in
from eventstore.projections.tables_file import (
    ONE_THREAD_RECORDS_MAX,
    OpenedTables,
    folded_position_of,
    left_to_the_parent,
    open_tables,
    open_tables_apart,
    open_tables_in_file,
    open_tables_to_read,
    remove_tables,
)

_LOGGER = logging.getLogger("eventstore.projections")

_STATEMENTS_MAX: Final = 256

_UNDEFINED: Final = (duckdb.CatalogException, duckdb.BinderException)
"""What a statement raises where the tables are not as they were made, among other things."""

_IN_MEMORY_ROWS_MAX: Final = 131_072
"""About how many more records tables apart keep in memory before they go to their file."""

_MOVE_FOLDED_POSITION: Final = """
UPDATE folded_position SET position = $position, recorded_at = $recorded_at WHERE position = $before
"""


class FoldedTables:
    """The tables of one log up to a position, in a DuckDB file or, without one, in memory.

    A DuckDB file belongs to one process at a time; while another has it, this one folds tables of
    its own apart. So does a read-only one whose file is not up to date, unless it `saves` what it
    folds: then it has the file to itself for that long. Several objects of one process share the
    file. Safe to use from several threads.
    """

    def __init__(
        self,
        log: Log,
        path: Path | None,
        alone: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
        erased: ErasedRecords | None = None,
        *,
        read_only: bool = False,
        saves: bool = False,
    ) -> None:
        """`alone` keeps others of this process from folding the same records for nothing."""
        self._log = log
        self._alone = alone
        self._erased = ErasedRecords(log) if erased is None else erased
        self._path = path
        self._read_only = read_only
        self._saves = saves
        self._mutex = threading.RLock()
        self._opened: OpenedTables | None = None
        self._folded_position = 0
        self.required_position = 0
        """They are folded up to here before they answer, as of whatever position."""
        self._promised = 0
        """What callers know to be folded: it is folded again if the tables are made anew."""
        self._folds_seen = -1
        self._on_disk = 0
        self._statements: dict[str, duckdb.Statement] = {}
        renew_in_children(self)

    def after_fork_in_child(self) -> None:
        """Fold tables apart: DuckDB does not survive a fork, nor let go of its file."""
        self._mutex = threading.RLock()
        opened, self._opened = self._opened, None
        if opened is not None:
            # Closing the database would write to the file.
            opened.leave_to_the_parent()
        left_to_the_parent.append(self._statements)
        self._statements = {}
        self._path, self._read_only, self._saves = None, True, False

    def folded_position(self) -> int:
        """The position up to which the tables are folded."""
        with self._mutex:
            self._notice_folds()
            self._promised = max(self._promised, self._folded_position)
            return self._folded_position

    def known_position(self) -> int:
        """The position up to which they are folded, as far as it is known without waiting."""
        return self._folded_position

    def fold(self, upto: int, progress: Progress | None = None) -> None:
        """Fold the whole log, if the tables do not reach to a position of it yet."""
        with self._mutex:
            self._connection()
            self._promised = max(self._promised, upto)
            if upto > self._folded_position:
                with self._alone():
                    self._fold_unless_others_have(upto, progress)

    def fold_in_file(self, upto: int, progress: Progress) -> int:
        """Fold up to a position and no further, but nowhere else than in the file.

        Returns the position that is folded then, 0 when the file cannot be had. Raises what the
        fold fails with as it is: a query finds out what is sound.
        """
        assert self._path is not None
        with self._mutex:
            with no_fork_in_libraries():
                opened = open_tables_in_file(self._log, self._path)
                if isinstance(opened, OpenedTables):
                    self._take(opened)
            if isinstance(opened, OpenedTables):
                self._fold_log(upto, progress, end=upto)
            return self._folded_position

    def raise_if_not_kept(self) -> None:
        """Raise why what was folded could not be written into the file, if it could not."""
        with self._mutex:
            if self._opened is not None and self._opened.failure is not None:
                raise self._opened.failure

    def clear(self) -> None:
        """Empty the tables; a file that is in use elsewhere is left as it is.

        Raises what the operating system says when the file cannot be removed.
        """
        with self._mutex:
            self._connection()
            opened = self._opened
            self.close()
            if opened is not None and opened.path is not None and not self._read_only:
                with translating("removing", opened.path):
                    remove_tables(opened.path)

    def close(self) -> None:
        """Close the database. The next call opens it again."""
        # A child that is forked meanwhile has to know what its parent has open.
        with self._mutex, no_fork_in_libraries():
            opened, self._opened = self._opened, None
            if opened is not None:
                opened.close()

    def _fold_unless_others_have(self, upto: int, progress: Progress | None) -> None:
        self._notice_folds()
        if upto <= self._folded_position:
            return
        is_saved = self._opened is not None and self._opened.path is not None
        if self._read_only and (is_saved or (self._saves and not self._folded_position)):
            # The file is out of date by now, and must not be written as it is opened.
            self.close()
            opening = open_tables(self._log, self._path) if self._saves else None
            self._take(opening or open_tables_apart(self._log))
        try:
            self._fold_what_is_left(upto, progress)
        except duckdb.Error as error:
            self._start_over_after(error)
            try:
                self._fold_what_is_left(upto, progress)
            except duckdb.Error as again:
                raise failed(again, None) from None
        self._let_others_read()

    def _fold_what_is_left(self, upto: int, progress: Progress | None) -> None:
        """Fold up to a position, without what others erase meanwhile."""
        while True:
            try:
                return self._fold_log(upto, progress)
            except UnwantedFileError:
                # They may have removed the file, too.
                self.close()
                self._connection()

    def _let_others_read(self) -> None:
        """Give up a file that was opened to save in it: the next call opens it to read."""
        if self._read_only and self._opened is not None and self._opened.path is not None:
            self.close()

    def _connection(self) -> duckdb.DuckDBPyConnection:
        if self._opened is not None:
            return self._opened.connection
        with no_fork_in_libraries():
            opening = open_tables_to_read if self._read_only else open_tables
            return self._take(opening(self._log, self._path))

    def _is_now(self, position: int) -> bool:
        """Whether the tables are folded up to a position and no further."""
        if folds.started != folds.finished:
            return False
        self._notice_folds()
        return position == self._folded_position

    def _notice_folds(self) -> None:
        """Take notice of what other objects of this process have folded into the same file."""
        connection, finished = self._connection(), folds.finished
        if self._folds_seen != finished:
            self._folds_seen = finished
            self._folded_position = folded_position_of(connection, self._log) or 0

    def _take(self, opened: OpenedTables) -> duckdb.DuckDBPyConnection:
        self._opened, self._on_disk = opened, 0
        self._statements.clear()
        self._folded_position = folded_position_of(opened.connection, self._log) or 0
        return opened.connection

    def _start_over_after(self, error: duckdb.Error) -> None:
        """Leave a database that is damaged, or cannot be written, for an empty one.

        Raises ResourceExhaustedError for a lack of memory, and any other error as it is.
        """
        left = self._opened
        failure = write_failure(error, None if left is None else left.path)
        if isinstance(error, duckdb.OutOfMemoryException):
            raise failed(error, None) from None
        if failure is None and not is_damage(error) and not _are_changed(left, error):
            raise error
        with contextlib.suppress(duckdb.Error):
            self.close()
        self._opened = None
        if failure is not None:
            # What the file holds stays good: it is folded farther when there is space again.
            _LOGGER.warning("%s; folding tables apart", failure)
            # A file that another process has is as it should be.
            self._take(open_tables_apart(self._log, None if is_in_use(error) else failure))
            return
        _LOGGER.warning("the projections' tables are damaged (%s): building them again", error)
        if left is not None and left.path is not None and not self._read_only:
            # Others of this process may have it open, so the next one to open it makes it anew.
            with contextlib.suppress(OSError):
                remove_tables(left.path)
        self._take(open_tables_apart(self._log))

    @long_work("Folding the log")
    def _fold_log(self, upto: int, progress: Progress | None, end: int | None = None) -> None:
        """Fold up to a position at least: all that the log has, or as far as an `end`."""
        start, end = self._folded_position, self._log.position if end is None else end
        if end - start > FOLDED_ROWS_MAX:
            _LOGGER.info("folding positions %d to %d into the projections", start + 1, end)
        while self._folded_position < upto:
            erased = self._erased_by_now()
            found = self._log.scan(self._folded_position, end, FOLDED_COLUMNS)
            for batch in made_in_steps(merged(found)):
                if not self._fold_batch(batch, erased):
                    # Another object of this process was faster.
                    before = self._folded_position
                    self._folded_position = folded_position_of(self._connection(), self._log) or 0
                    if self._folded_position <= before:
                        raise InternalError(
                            f"the projections' tables stay at position {before}: run `eventstore "
                            "rebuild`"
                        )
                    break
                self._move_to_disk()
                if progress is not None:
                    progress(self._folded_position - start, end - start)
                # Before the next one is read.
                del batch
        is_kept = self._opened is not None and self._opened.path is not None
        is_past_one_thread = start <= ONE_THREAD_RECORDS_MAX < self._folded_position
        if is_kept and (is_past_one_thread or self._folded_position - start > FOLDED_ROWS_MAX):
            # The next call opens it anew, with as many threads as there are. What DuckDB took for
            # large batches it would keep until then.
            self.close()

    def _fold_batch(self, batch: pa.RecordBatch, erased: int) -> bool:
        """Fold the batch after the position that is folded; False when that position has moved.

        Raises UnwantedFileError when more is erased by now than when the batch was read.
        """
        last_position = batch["position"][-1].as_py()
        moved = {
            "before": self._folded_position,
            "position": last_position,
            "recorded_at": self._log.recorded_at(last_position),
        }
        path = None if self._opened is None else self._opened.path
        with writing_to(path), no_fork_in_libraries():
            folds.start()
            try:
                is_moved = self._fold_in_transaction(batch, moved, erased)
            finally:
                folds.finish()
        if is_moved:
            self._folded_position = last_position
        return is_moved

    def _fold_in_transaction(
        self, batch: pa.RecordBatch, moved: dict[str, int], erased: int
    ) -> bool:
        self._execute("BEGIN")
        try:
            # First, so that of two folds of the same positions one stops before it adds rows.
            is_moved = self._execute(_MOVE_FOLDED_POSITION, moved).fetchall() == [(1,)]
            if is_moved:
                apply_batch(self._log, batch, self._connection(), self._execute)
            with self._writing_in_time(erased):
                self._execute("COMMIT")
        except BaseException:
            with contextlib.suppress(duckdb.Error):
                self._execute("ROLLBACK")
            raise
        return is_moved

    @contextlib.contextmanager
    def _writing_in_time(self, erased: int) -> Iterator[None]:
        """Held while the file is written to. Raises UnwantedFileError when more is erased."""
        path = None if self._opened is None else self._opened.path
        if path is None:
            yield
            return
        try:
            lock = writing_in(path.parent)
        except OSError as error:
            # Where no lock can be made, no table is written either.
            raise duckdb.IOException(str(error)) from None
        with lock:
            try:
                self._log.cache_folder(make=True)
            except OSError as error:
                raise duckdb.IOException(str(error)) from None
            if self._erased_by_now() != erased:
                raise UnwantedFileError(f"{path}: what is being folded was erased")
            yield

    def _erased_by_now(self) -> int:
        """The newest request for an erasure, which is not to get into the file; 0 without one."""
        is_kept = self._opened is not None and self._opened.path is not None
        return self._erased.all_by_now().requested if is_kept else 0

    def _move_to_disk(self) -> None:
        """Write what is folded to a file without a log beside it; it would stay in memory."""
        is_apart = self._opened is not None and self._opened.temporary is not None
        if is_apart and self._folded_position - self._on_disk >= _IN_MEMORY_ROWS_MAX:
            # While others ask, it may be refused: it is done later then.
            with contextlib.suppress(duckdb.TransactionException):
                self._connection().execute("CHECKPOINT")
                self._on_disk = self._folded_position

    def _execute(
        self, sql: str, parameters: dict[str, Any] | list[Any] | None = None
    ) -> duckdb.DuckDBPyConnection:
        """Run a statement of a fold."""
        connection = self._connection()
        return connection.execute(self._statement(connection, sql), parameters)

    def _statement(self, connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
        """Parse each of the statements that recur once."""
        with self._mutex:
            statement = self._statements.get(sql)
            if statement is None:
                (statement,) = connection.extract_statements(sql)
                if len(self._statements) >= _STATEMENTS_MAX:
                    self._statements.clear()
                self._statements[sql] = statement
            return statement


def _are_changed(opened: OpenedTables | None, error: duckdb.Error) -> bool:
    """Whether a statement failed because tables are not as they were made."""
    if opened is None or not isinstance(error, _UNDEFINED):
        return False
    return not has_tables_as_made(opened.connection) or bool(others_in(opened.connection))
