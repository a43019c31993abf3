"""The DuckDB tables: every version of every type, node and link with its span of positions.

A version holds as of position p when valid_from <= p < valid_to. The tables are folded from the
log in Arrow batches: what is sealed in the background, as puts come, and the rest when a query
needs a position that they do not have yet.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final, TypeVar

import duckdb
import pyarrow as pa

from eventstore.cancellation import check_wanted
from eventstore.errors import DeadlineExceededError, InvalidArgumentError
from eventstore.projections.duckdb_errors import (
    as_duckdb_error,
    failed,
    is_damage,
    write_failure,
)
from eventstore.projections.ending import answer_in_time
from eventstore.projections.folded_tables import FoldedTables
from eventstore.projections.listing import Listing
from eventstore.projections.listing_sql import listing_sql
from eventstore.projections.table_queries import (
    STATEMENT_SECONDS_MAX,
    all_rows,
    is_interrupted_fast,
    too_slow,
)
from eventstore.projections.table_writing import folds
from eventstore.projections.tables_file import OpenedTables, open_tables_apart

_OPENINGS_MAX: Final = 5

_Answer = TypeVar("_Answer")


class Tables(FoldedTables):
    """The tables of one log, folded as far as is asked of them, and asked.

    Safe to use from several threads.
    """

    def query(self, sql: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        """All rows of one query.

        Raises InvalidArgumentError when its values cannot be computed, as for an integer overflow,
        and ResourceExhaustedError when it needs too much memory.
        """
        is_fast = is_interrupted_fast(sql)

        def rows(cursor: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
            return all_rows(cursor, self._statement(cursor, sql) if is_fast else sql, parameters)

        try:
            return self.asked(rows, self._promised, STATEMENT_SECONDS_MAX, may_be_left=not is_fast)
        except DeadlineExceededError:
            check_wanted()
            raise too_slow() from None

    def scanned(self, listing: Listing) -> list[tuple[int, int]]:
        """(id, order value) of the nodes that are asked for, of a position that is folded.

        Raises what `query` raises.
        """
        with self._mutex:
            is_now = self._is_now(listing.as_of)
            started = folds.started
        try:
            rows = self.query(*listing_sql(listing, is_now=is_now))
            if is_now and started != folds.started:
                # What was current may not have been so to the end.
                rows = self.query(*listing_sql(listing, is_now=False))
        except InvalidArgumentError as error:
            if listing.where is None:
                raise
            raise InvalidArgumentError(f"Invalid `filter_query`: {error}") from None
        return rows

    def query_of(self, listing: Listing) -> tuple[str, dict[str, Any]]:
        """The query that `scanned` asks once the tables are folded that far, and its parameters."""
        with self._mutex:
            folded = self._folded_position
        newest = folded if listing.as_of <= folded else self._log.position
        return listing_sql(listing, is_now=listing.as_of == newest)

    def arrow(self, sql: str, parameters: dict[str, Any]) -> pa.Table:
        """A query's rows as columns, for very many of them."""
        return self.asked(
            lambda cursor: cursor.sql(sql, params=parameters).to_arrow_table(),
            self.folded_position(),
        )

    def asked(
        self,
        ask: Callable[[duckdb.DuckDBPyConnection], _Answer],
        upto: int,
        seconds: float | None = None,
        *,
        may_be_left: bool = False,
    ) -> _Answer:
        """The answer of `ask` to a cursor on tables folded up to a position.

        It is asked once more, of new tables, when the first ones turn out to be damaged. Raises
        DeadlineExceededError when it takes longer than `seconds`, even within one function if it
        `may_be_left`.
        """
        upto = max(upto, self.required_position)
        with self._mutex:
            opened = self._folded(upto)
            kept = opened.keep()
        try:
            return answer_in_time(kept, ask, seconds, may_be_left=may_be_left)
        except (duckdb.Error, pa.ArrowException) as error:
            kept = self._mended_after(as_duckdb_error(error), opened, upto)
        try:
            return answer_in_time(kept, ask, seconds, may_be_left=may_be_left)
        except duckdb.Error as again:
            raise failed(again, None) from None

    def _mended_after(
        self, error: duckdb.Error, opened: OpenedTables, upto: int
    ) -> contextlib.AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A cursor after an error of some tables. Raises it, unless it is one of damage."""
        failure = write_failure(error, None)
        if failure is not None and not isinstance(error, duckdb.TransactionException):
            # A query writes what memory does not hold, and nothing of the tables.
            raise failure from None
        with self._mutex:
            # Another thread may have started over already.
            if self._opened is opened or not is_damage(error):
                self._start_over_after(error)
            return self._folded(upto).keep()

    def _folded(self, upto: int) -> OpenedTables:
        """Tables that are open, and folded up to a position."""
        for _ in range(_OPENINGS_MAX):
            self.fold(upto)
            self._connection()
            if self._opened is not None and upto <= self._folded_position:
                return self._opened
            # Closed, because others have taken the file or removed it.
        self.close()
        opened = open_tables_apart(self._log)
        self._take(opened)
        self._fold_log(upto, None)
        return opened
