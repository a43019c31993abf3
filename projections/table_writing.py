"""Fold changes into the DuckDB tables: few large batches, and one fold of a file at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from eventstore.log import Log
from eventstore.log.columns import one_batch, release_unused
from eventstore.log.forking import renew_in_children
from eventstore.projections.table_changes import TableChange, table_changes
from eventstore.projections.table_erasing import apply_erasures

FOLDED_ROWS_MAX: Final = 16_384
"""About how many records are folded in one transaction."""

FOLDED_BYTES_MAX: Final = 256 * 1024 * 1024
"""About how many bytes of columns are folded in one: fewer records when these are long."""

_BOUND_ROWS_MAX: Final = 16
"""Up to this many rows are cheaper to bind as parameters than to register as an Arrow table."""

_END_ONE: Final = """
UPDATE {table} SET valid_to = $valid_to WHERE valid_from = $valid_from
"""
_END_MANY: Final = """
UPDATE {table} SET valid_to = ended.valid_to
FROM (SELECT unnest($valid_from) AS valid_from, unnest($valid_to) AS valid_to) AS ended
WHERE {table}.valid_from = ended.valid_from
"""

_Execute = Callable[[str, dict[str, Any] | list[Any]], object]


class Folds:
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


folds = Folds()
_writers: dict[Path, threading.Lock] = {}


def writing_to(path: Path | None) -> contextlib.AbstractContextManager[object]:
    """Held for a transaction that writes: of two at once, DuckDB would let one fail.

    A file has no other process that writes to it, and tables without a file no other object.
    """
    return contextlib.nullcontext() if path is None else _writers.setdefault(path, threading.Lock())


def merged(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Few large batches instead of many small ones: a statement costs more than its rows."""
    pending: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        pending.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
        del batch
        release_unused()
        if rows >= FOLDED_ROWS_MAX or size >= FOLDED_BYTES_MAX:
            whole, pending, rows, size = one_batch(pending), [], 0, 0
            release_unused()
            yield whole
            del whole
            release_unused()
    if rows:
        yield one_batch(pending)


def apply_batch(
    log: Log, batch: pa.RecordBatch, connection: duckdb.DuckDBPyConnection, execute: _Execute
) -> None:
    """Change the tables as the next batch of a log's records says, and erase what it asks for."""
    for change in table_changes(batch):
        apply_change(change, connection, execute)
    apply_erasures(connection, log, batch)


def apply_change(
    change: TableChange, connection: duckdb.DuckDBPyConnection, execute: _Execute
) -> None:
    """End versions of a table and add others."""
    if len(change.ended) == 1:
        ((valid_from, valid_to),) = change.ended
        spans: dict[str, Any] = {"valid_from": valid_from, "valid_to": valid_to}
        execute(_END_ONE.format(table=change.table), spans)
    elif change.ended:
        starts, ends = zip(*change.ended, strict=True)
        spans = {"valid_from": list(starts), "valid_to": list(ends)}
        execute(_END_MANY.format(table=change.table), spans)
    rows = change.rows
    if rows is None or not rows.num_rows:
        return
    if rows.num_rows <= _BOUND_ROWS_MAX:
        row = f"({', '.join('?' * rows.num_columns)})"
        values = zip(*(column.to_pylist() for column in rows.columns), strict=True)
        execute(
            f"INSERT INTO {change.table} VALUES {', '.join([row] * rows.num_rows)}",
            [value for row_values in values for value in row_values],
        )
        return
    connection.register("changed_rows", rows)
    try:
        connection.execute(f"INSERT INTO {change.table} FROM changed_rows")
    finally:
        connection.unregister("changed_rows")
