"""The DuckDB tables: every version of every type, node and link with its span of positions.

A version holds as of position p when valid_from <= p < valid_to. The tables are folded from the
log in Arrow batches, lazily: when a query needs a position that they do not have yet.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import duckdb
import pyarrow as pa

from eventstore.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from eventstore.log import Log, Progress
from eventstore.log.columns import one_batch
from eventstore.log.forking import renew_in_children
from eventstore.log.os_errors import translating
from eventstore.long_work import long_work
from eventstore.projections.deadlines import STATEMENT_SECONDS_MAX, Deadline
from eventstore.projections.definitions import are_as_made
from eventstore.projections.folding import FOLDED_COLUMNS, TableChange, table_changes
from eventstore.projections.leaving import answer_or_leave
from eventstore.projections.listing import Listing
from eventstore.projections.listing_sql import listing_sql
from eventstore.projections.tables_file import (
    ONE_THREAD_RECORDS_MAX,
    OpenedTables,
    as_duckdb_error,
    checkpoint_of,
    failed,
    is_damage,
    is_in_use,
    left_to_the_parent,
    open_tables,
    open_tables_apart,
    open_tables_to_read,
    remove_tables,
    write_failure,
)

_LOGGER = logging.getLogger("eventstore.projections")

FOLDED_ROWS_MAX: Final = 131_072
"""About how many records are folded in one transaction."""

FOLDED_BYTES_MAX: Final = 256 * 1024 * 1024
"""About how many bytes of columns are folded in one: fewer records when these are long."""

_BOUND_ROWS_MAX: Final = 16
"""Up to this many rows are cheaper to bind as parameters than to register as an Arrow table."""

_STATEMENTS_MAX: Final = 256

_FOLDING_FAULT: Final = "BindBuiltinScalarFunction"
"""What DuckDB 2.0 complains of when it folds part of a comparison of texts to NULL."""

_TABLE: Final = re.compile(r"\b(FROM|JOIN) (\w+) AS\b")

_UNDEFINED: Final = (duckdb.CatalogException, duckdb.BinderException)
"""What a statement raises where the tables are not as they were made, among other things."""

_OPENINGS_MAX: Final = 5

_SHORT_SQL: Final = 4_000
"""A query of no more than this is interrupted fast, unless a function is slow on one value."""

_SLOW_FUNCTION: Final = re.compile(r"list_transform")

_LATE_SECONDS: Final = 10.0
"""How long after its interrupt a statement is waited for."""

_END_ONE: Final = """
UPDATE {table} SET valid_to = $valid_to WHERE valid_from = $valid_from
"""
_END_MANY: Final = """
UPDATE {table} SET valid_to = ended.valid_to
FROM (SELECT unnest($valid_from) AS valid_from, unnest($valid_to) AS valid_to) AS ended
WHERE {table}.valid_from = ended.valid_from
"""
_MOVE_CHECKPOINT: Final = """
UPDATE checkpoint SET position = $position, recorded_at = $recorded_at WHERE position = $before
"""

_Answer = TypeVar("_Answer")


class _Folds:
    """Counts the folds of this process, into whatever tables, so that a query notices one."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self.started = 0
        self.finished = 0
        renew_in_children(self)

    def after_fork_in_child(self) -> None:
        """No thread of the parent folds here."""
        self._mutex = threading.Lock()
        self.finished = self.started
        _writers.clear()

    def start(self) -> None:
        with self._mutex:
            self.started += 1

    def finish(self) -> None:
        with self._mutex:
            self.finished += 1


_folds = _Folds()
_writers: dict[Path, threading.Lock] = {}


def _writing_to(path: Path | None) -> contextlib.AbstractContextManager[object]:
    """Held for a transaction that writes: of two at once, DuckDB would let one fail.

    A file has no other process that writes to it, and tables without a file no other object.
    """
    return contextlib.nullcontext() if path is None else _writers.setdefault(path, threading.Lock())


class Tables:
    """The tables of one log, in a DuckDB file or, without one, in memory.

    A DuckDB file belongs to one process at a time; while another has it, this one folds tables of
    its own apart. So does a read-only one whose file is not up to date, unless it `saves` what it
    folds: then it has the file to itself for that long. Several objects of one process share the
    file. Safe to use from several threads.
    """

    def __init__(
        self, log: Log, path: Path | None, *, read_only: bool = False, saves: bool = False
    ) -> None:
        self._log = log
        self._path = path
        self._read_only = read_only
        self._saves = saves
        self._mutex = threading.RLock()
        self._is_child = False
        self._opened: OpenedTables | None = None
        self._checkpoint = 0
        self._promised = 0
        """What callers know to be folded: it is folded again if the tables are made anew."""
        self._folds_seen = -1
        self._statements: dict[str, duckdb.Statement] = {}
        renew_in_children(self)

    def after_fork_in_child(self) -> None:
        """Fold new tables: DuckDB does not survive a fork, nor let go of its file."""
        self._mutex = threading.RLock()
        opened, self._opened = self._opened, None
        if opened is not None:
            # Closing the database would write to the file.
            opened.leave_to_the_parent()
        left_to_the_parent.append(self._statements)
        self._statements = {}
        self._is_child = True

    def checkpoint(self) -> int:
        """The position up to which the tables are folded."""
        with self._mutex:
            self._connection()
            self._promised = max(self._promised, self._checkpoint)
            return self._checkpoint

    def fold(self, upto: int, progress: Progress | None = None) -> None:
        """Fold the whole log, if the tables do not reach to a position of it yet."""
        with self._mutex:
            self._connection()
            self._promised = max(self._promised, upto)
            if upto <= self._checkpoint:
                return
            is_saved = self._opened is not None and self._opened.path is not None
            if self._read_only and (is_saved or (self._saves and not self._checkpoint)):
                # The file is out of date by now, and must not be written as it is opened.
                self.close()
                opening = open_tables(self._log, self._path) if self._saves else None
                self._take(opening or open_tables_apart(self._log))
                if upto <= self._checkpoint:
                    # Another process was faster.
                    self._let_others_read()
                    return
            try:
                self._fold_log(upto, progress)
            except duckdb.Error as error:
                self._start_over_after(error)
                try:
                    self._fold_log(upto, progress)
                except duckdb.Error as again:
                    raise failed(again, None) from None
            self._let_others_read()

    def _let_others_read(self) -> None:
        """Give up a file that was opened to save in it: the next call opens it to read."""
        if self._read_only and self._opened is not None and self._opened.path is not None:
            self.close()

    def raise_if_not_kept(self) -> None:
        """Raise why what was folded could not be written into the file, if it could not."""
        with self._mutex:
            if self._opened is not None and self._opened.failure is not None:
                raise self._opened.failure

    def query(self, sql: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        """All rows of one query.

        Raises InvalidArgumentError when its values cannot be computed, as for an integer overflow,
        and ResourceExhaustedError when it needs too much memory.
        """
        with self._mutex:
            upto = self._promised
            opened = self._folded(upto)
            statement, kept = self._statement(sql), opened.keep()
        try:
            if len(sql) <= _SHORT_SQL and not _SLOW_FUNCTION.search(sql):
                with kept as cursor:
                    return _rows(cursor, statement, parameters)
            seconds = STATEMENT_SECONDS_MAX + _LATE_SECONDS
            return answer_or_leave(kept, lambda cursor: _rows(cursor, sql, parameters), seconds)
        except DeadlineExceededError:
            raise _too_slow() from None
        except duckdb.Error as error:
            return self._asked_again(
                error, opened, lambda cursor: _rows(cursor, sql, parameters), upto
            )

    def listed(self, listing: Listing) -> list[tuple[int, int]]:
        """(id, order value) of the nodes that are asked for, of a position that is folded.

        Raises what `query` raises.
        """
        with self._mutex:
            is_now = self._is_now(listing.as_of)
            folds = _folds.started
        rows = self.query(*listing_sql(listing, is_now=is_now))
        if is_now and folds != _folds.started:
            # What was current may not have been so to the end.
            rows = self.query(*listing_sql(listing, is_now=False))
        return rows

    def query_of(self, listing: Listing) -> tuple[str, dict[str, Any]]:
        """The query that `listed` asks once the tables are folded that far, and its parameters."""
        with self._mutex:
            folded = self._checkpoint
        newest = folded if listing.as_of <= folded else self._log.position
        return listing_sql(listing, is_now=listing.as_of == newest)

    def arrow(self, sql: str, parameters: dict[str, Any]) -> pa.Table:
        """A query's rows as columns, for very many of them."""

        def columns(cursor: duckdb.DuckDBPyConnection) -> pa.Table:
            with contextlib.closing(cursor):
                return cursor.sql(sql, params=parameters).to_arrow_table()

        return self.asked(columns, self.checkpoint())

    def asked(
        self,
        ask: Callable[[duckdb.DuckDBPyConnection], _Answer],
        upto: int,
        *,
        left_after_seconds: float | None = None,
    ) -> _Answer:
        """The answer of `ask`, which closes its cursor, on tables folded up to a position.

        It is asked once more, of new tables, when the first ones turn out to be damaged. Raises
        DeadlineExceededError when it takes longer than `left_after_seconds`.
        """
        with self._mutex:
            opened = self._folded(upto)
            kept = opened.keep()
        try:
            if left_after_seconds is not None:
                return answer_or_leave(kept, ask, left_after_seconds)
            with kept as cursor:
                return ask(cursor)
        except (duckdb.Error, pa.ArrowException) as error:
            return self._asked_again(as_duckdb_error(error), opened, ask, upto)

    def _asked_again(
        self,
        error: duckdb.Error,
        opened: OpenedTables,
        ask: Callable[[duckdb.DuckDBPyConnection], _Answer],
        upto: int,
    ) -> _Answer:
        """The answer after an error of some tables, if that is one of damage."""
        failure = write_failure(error, None)
        if failure is not None and not isinstance(error, duckdb.TransactionException):
            # A query writes what memory does not hold, and nothing of the tables.
            raise failure from None
        with self._mutex:
            # Another thread may have started over already.
            if self._opened is opened or not is_damage(error):
                self._start_over_after(error)
            kept = self._folded(upto).keep()
        try:
            with kept as cursor:
                return ask(cursor)
        except duckdb.Error as again:
            raise failed(again, None) from None

    def _folded(self, upto: int) -> OpenedTables:
        """Tables that are open, and folded up to a position."""
        for _ in range(_OPENINGS_MAX):
            self.fold(upto)
            self._connection()
            if self._opened is not None and upto <= self._checkpoint:
                return self._opened
            # Closed, because others have taken the file or removed it.
        self.close()
        opened = open_tables_apart(self._log)
        self._take(opened)
        self._fold_log(upto, None)
        return opened

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
        with self._mutex:
            opened, self._opened = self._opened, None
            if opened is not None:
                opened.close()

    def _connection(self) -> duckdb.DuckDBPyConnection:
        if self._opened is not None:
            return self._opened.connection
        if self._is_child:
            return self._take(open_tables_apart(self._log))
        opening = open_tables_to_read if self._read_only else open_tables
        return self._take(opening(self._log, self._path))

    def _is_now(self, position: int) -> bool:
        """Whether the tables are folded up to a position and no further."""
        if _folds.started != _folds.finished:
            return False
        if self._folds_seen != _folds.started:
            # Another object of this process may have folded into the same file.
            self._folds_seen = _folds.started
            self._checkpoint = checkpoint_of(self._connection(), self._log) or 0
        return position == self._checkpoint

    def _take(self, opened: OpenedTables) -> duckdb.DuckDBPyConnection:
        self._opened = opened
        self._statements.clear()
        self._checkpoint = checkpoint_of(opened.connection, self._log) or 0
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
    def _fold_log(self, upto: int, progress: Progress | None) -> None:
        start, end = self._checkpoint, self._log.position
        if end - start > FOLDED_ROWS_MAX:
            _LOGGER.info("folding positions %d to %d into the projections", start + 1, end)
        while self._checkpoint < upto:
            for batch in _merged(self._log.scan(self._checkpoint, end, FOLDED_COLUMNS)):
                if not self._fold_batch(batch):
                    # Another object of this process was faster.
                    before = self._checkpoint
                    self._checkpoint = checkpoint_of(self._connection(), self._log) or 0
                    if self._checkpoint <= before:
                        raise InternalError(
                            f"the projections' tables stay at position {before}: run `eventstore "
                            "rebuild`"
                        )
                    break
                if progress is not None:
                    progress(self._checkpoint - start, end - start)
        is_kept = self._opened is not None and self._opened.path is not None
        if is_kept and start <= ONE_THREAD_RECORDS_MAX < self._checkpoint:
            # The next call opens it anew, with as many threads as there are.
            self.close()

    def _fold_batch(self, batch: pa.RecordBatch) -> bool:
        """Fold the batch after the position that is folded; False when that position has moved."""
        last_position = batch["position"][-1].as_py()
        checkpoint = {
            "before": self._checkpoint,
            "position": last_position,
            "recorded_at": self._log.recorded_at(last_position),
        }
        with _writing_to(None if self._opened is None else self._opened.path):
            _folds.start()
            try:
                is_moved = self._fold_in_transaction(batch, checkpoint)
            finally:
                _folds.finish()
        if is_moved:
            self._checkpoint = last_position
        return is_moved

    def _fold_in_transaction(self, batch: pa.RecordBatch, checkpoint: dict[str, int]) -> bool:
        self._execute("BEGIN")
        try:
            # First, so that of two folds of the same positions one stops before it adds rows.
            is_moved = self._execute(_MOVE_CHECKPOINT, checkpoint).fetchall() == [(1,)]
            if is_moved:
                for change in table_changes(batch):
                    self._apply(change)
            self._execute("COMMIT")
        except BaseException:
            with contextlib.suppress(duckdb.Error):
                self._execute("ROLLBACK")
            raise
        return is_moved

    def _apply(self, change: TableChange) -> None:
        if len(change.ended) == 1:
            ((valid_from, valid_to),) = change.ended
            spans: dict[str, Any] = {"valid_from": valid_from, "valid_to": valid_to}
            self._execute(_END_ONE.format(table=change.table), spans)
        elif change.ended:
            starts, ends = zip(*change.ended, strict=True)
            spans = {"valid_from": list(starts), "valid_to": list(ends)}
            self._execute(_END_MANY.format(table=change.table), spans)
        rows = change.rows
        if rows is None or not rows.num_rows:
            return
        if rows.num_rows <= _BOUND_ROWS_MAX:
            row = f"({', '.join('?' * rows.num_columns)})"
            values = zip(*(column.to_pylist() for column in rows.columns), strict=True)
            self._execute(
                f"INSERT INTO {change.table} VALUES {', '.join([row] * rows.num_rows)}",
                [value for row_values in values for value in row_values],
            )
            return
        connection = self._connection()
        connection.register("changed_rows", rows)
        try:
            connection.execute(f"INSERT INTO {change.table} FROM changed_rows")
        finally:
            connection.unregister("changed_rows")

    def _execute(
        self, sql: str, parameters: dict[str, Any] | list[Any] | None = None
    ) -> duckdb.DuckDBPyConnection:
        """Run a statement of a fold."""
        return self._connection().execute(self._statement(sql), parameters)

    def _statement(self, sql: str) -> duckdb.Statement:
        """Parse each of the statements that recur once."""
        statement = self._statements.get(sql)
        if statement is None:
            (statement,) = self._connection().extract_statements(sql)
            if len(self._statements) >= _STATEMENTS_MAX:
                self._statements.clear()
            self._statements[sql] = statement
        return statement


def _are_changed(opened: OpenedTables | None, error: duckdb.Error) -> bool:
    """Whether a statement failed because tables are not as they were made."""
    if opened is None or not isinstance(error, _UNDEFINED):
        return False
    return not are_as_made(opened.connection)


def _rows(
    cursor: duckdb.DuckDBPyConnection, sql: str | duckdb.Statement, parameters: dict[str, Any]
) -> list[tuple[Any, ...]]:
    """All rows of a query; closes the cursor."""
    with contextlib.closing(cursor), Deadline(cursor):
        try:
            try:
                return cursor.execute(sql, parameters).fetchall()
            except duckdb.InvalidInputException as error:
                if _FOLDING_FAULT not in str(error):
                    raise
                text = sql if isinstance(sql, str) else sql.query
                return cursor.execute(_opaque(text), parameters).fetchall()
        except (
            duckdb.ConversionException,
            duckdb.InvalidInputException,
            duckdb.OutOfRangeException,
        ) as error:
            raise InvalidArgumentError(f"Invalid `filter_query`: {error}") from None
        except duckdb.InterruptException:
            raise _too_slow() from None
        except duckdb.OutOfMemoryException as error:
            raise ResourceExhaustedError(
                f"the query needs more memory than it may take; ask for less of it: {error}"
            ) from None


def _too_slow() -> ResourceExhaustedError:
    return ResourceExhaustedError(
        f"the filter takes longer than {STATEMENT_SECONDS_MAX:g} seconds; name fewer neighbours in "
        "it, or ask for less"
    )


def _opaque(sql: str) -> str:
    """The same query without what DuckDB knows of the columns' values: it has faults there."""
    return _TABLE.sub(r"\1 (SELECT try(COLUMNS('(.*)')) AS '\\1' FROM \2) AS", sql)


def _merged(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Few large batches instead of many small ones: a statement costs more than its rows."""
    pending: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        pending.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
        if rows >= FOLDED_ROWS_MAX or size >= FOLDED_BYTES_MAX:
            yield one_batch(pending)
            pending, rows, size = [], 0, 0
    if rows:
        yield one_batch(pending)
