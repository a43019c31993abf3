"""SQL over the views: the first rows of a query, or all of them in parts."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Any, Final

import msgspec

from eventstore.cancellation import Waiter, check_wanted, current_waiter, waited_for_by
from eventstore.errors import CancelledError, InvalidArgumentError, ResourceExhaustedError
from eventstore.http_api.cells import python_values
from eventstore.http_api.problems import PlacedError
from eventstore.metadata_store.source import Source
from eventstore.plain_json import plain

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_SHOWN: Final = 1_000
SHOWN_BYTES_MAX: Final = 16 << 20
"""As Arrow has the rows: an answer in JSON is about as large, and several times so in memory."""

ROWS_SENT: Final = 8_192
"""At most so many at once, of an answer that comes in parts."""

_LINE: Final = re.compile(r"LINE (\d+): ([^\n]*)\n([ \t]*)\^")
_NAMED: Final = re.compile(
    r"""(?:column|table) "([^"]+)" not found|with name "?([\w.]+)"? does not exist|"""
    r"""the table '([^']+)' cannot be reached"""
)
_BATCHES_AHEAD: Final = 2
_BATCH_ROWS: Final = 100
_LOOKED_EVERY_SECONDS: Final = 0.1


class QueryColumn(msgspec.Struct, frozen=True):
    """A column of a result, and its type as Arrow names it."""

    name: str
    type: str


class QueryRows(msgspec.Struct, frozen=True):
    """The first rows of a result, each a list of values in the order of the columns."""

    columns: list[QueryColumn]
    rows: list[list[Any]]
    has_more: bool


def first_rows(source: Source, query: str, seconds: float, limit: int = ROWS_SHOWN) -> QueryRows:
    """The first rows of a query as of the moment.

    Raises what `MetadataStore.sql` does, ResourceExhaustedError also for rows larger than
    SHOWN_BYTES_MAX, and PlacedError where a place in the query is known.
    """

    def collect(reader: pa.RecordBatchReader) -> pa.Table:
        import pyarrow as pa

        batches, rows, size = [], 0, 0
        while rows <= limit:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                break
            size += batch.slice(0, limit - rows).nbytes
            if size > SHOWN_BYTES_MAX:
                raise ResourceExhaustedError(
                    f"the first rows are larger than {SHOWN_BYTES_MAX >> 20} MiB: ask for fewer, "
                    "for fewer columns or smaller values, or for all rows as csv, arrow or parquet"
                )
            batches.append(batch)
            rows += batch.num_rows
        return pa.Table.from_batches(batches, reader.schema)

    def wanted(value: Any) -> Any:
        check_wanted()
        if time.monotonic() >= until:
            raise _too_slow(seconds)
        return plain(value)

    until = time.monotonic() + seconds
    table = _run(source, query, seconds, collect, _BATCH_ROWS)
    columns = [QueryColumn(field.name, str(field.type)) for field in table.schema]
    shown = [
        [wanted(value) for batch in column.chunks for value in python_values(batch)]
        for column in table.slice(0, limit).columns
    ]
    rows = [[*row] for row in zip(*shown, strict=True)]
    return QueryRows(columns, rows, table.num_rows > limit)


def all_batches(
    source: Source, query: str, seconds: float
) -> tuple[Iterator[pa.RecordBatch], pa.Schema]:
    """All rows of a query, as they come, and their schema; the first of them within a time.

    The query waits for who takes its rows. It is given up when the iterator is closed.
    """
    rows = _Rows()
    thread = threading.Thread(
        target=rows.run, args=(source, query), name="eventstore-rows", daemon=True
    )
    thread.start()
    schema = rows.begun(seconds)
    return rows.batches(), schema


class _Rows:
    """Hands the batches of a query from the thread that runs it to the one that sends them."""

    def __init__(self) -> None:
        self._queue: Queue[Any] = Queue(_BATCHES_AHEAD)
        self._waiter = Waiter()

    def run(self, source: Source, query: str) -> None:
        """Run the query, and hand over its schema, its batches, and how it ended."""

        def collect(reader: pa.RecordBatchReader) -> pa.Table:
            self._put(reader.schema)
            for batch in reader:
                self._put(batch)
            return reader.schema.empty_table()

        end: BaseException | None = None
        try:
            with waited_for_by(self._waiter):
                _run(source, query, None, collect, ROWS_SENT)
        except BaseException as error:
            end = error
        try:
            self._put(end)
        except CancelledError:
            return

    def begun(self, seconds: float) -> pa.Schema:
        """The schema, once it is known. Raises what the query does before."""
        try:
            first = self._taken(seconds)
        except BaseException:
            self._waiter.leave()
            raise
        if isinstance(first, BaseException):
            raise first
        return first

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The batches, in order."""
        try:
            while (part := self._taken(None)) is not None:
                if isinstance(part, BaseException):
                    raise part
                yield part
        finally:
            self._waiter.leave()

    def _put(self, part: Any) -> None:
        while not self._waiter.is_gone:
            try:
                self._queue.put(part, timeout=_LOOKED_EVERY_SECONDS)
                return
            except Full:
                continue
        raise CancelledError("nobody takes the rows of the query any more")

    def _taken(self, seconds: float | None) -> Any:
        left = seconds
        while True:
            try:
                return self._queue.get(timeout=_LOOKED_EVERY_SECONDS)
            except Empty:
                waiter = current_waiter()
                if waiter is not None:
                    waiter.check()
                if left is not None:
                    left -= _LOOKED_EVERY_SECONDS
                    if left <= 0:
                        raise _too_slow(seconds) from None


def _too_slow(seconds: float | None) -> Exception:
    from eventstore.errors import DeadlineExceededError

    return DeadlineExceededError(
        f"the query was given up after {seconds:g} s, the most that it may take here: ask for less"
    )


def _run(
    source: Source, query: str, seconds: float | None, collect: Any, batch_rows: int
) -> pa.Table:
    from eventstore.sql import run_sql

    log, projections, position = source.log, source.projections, source.position()
    try:
        return run_sql(log, projections, query, None, position, seconds, collect, batch_rows)
    except InvalidArgumentError as error:
        place = _place(query, error.message)
        raise error if place is None else PlacedError(error.message, place) from None


def _place(query: str, message: str) -> int | None:
    """The character of a query that DuckDB's message points to, counted from 0."""
    match = _LINE.search(message)
    if match is None:
        named = _NAMED.search(message)
        name = None if named is None else next(filter(None, named.groups()))
        found_at = name and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", query, re.IGNORECASE)
        return found_at.start() if found_at else None
    number, shown = int(match.group(1)), match.group(2)
    before = len(match.group(3)) - len(f"LINE {number}: ")
    lines = query.splitlines(keepends=True)
    if not 1 <= number <= len(lines) or before < 0:
        return None
    start = sum(map(len, lines[: number - 1]))
    part = shown.removeprefix("...").removesuffix("...")
    if shown.startswith("..."):
        found = lines[number - 1].find(part)
        return None if found < 0 else start + found + before - 3
    return min(start + before, len(query))
