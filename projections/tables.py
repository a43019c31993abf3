"""The DuckDB tables: every version of every type, node and link with its span of positions.

A version holds as of position p when valid_from <= p < valid_to. The tables are folded from the
log by SQL over Arrow batches, lazily: when a query needs a position that they do not have yet.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from eventstore.errors import InvalidArgumentError
from eventstore.log import Log, Progress
from eventstore.projections.folding import (
    END_REPLACED,
    FOLDED_COLUMNS,
    FOLDED_ROWS_MAX,
    INSERT_LINKS,
    INSERT_NODES,
    INSERT_PROPERTIES,
    INSERT_TYPES,
    NODE_TABLES,
    NOT_ENDED,
    SCHEMA,
    TABLES_FORMAT_VERSION,
    TYPE_KINDS,
)

_LOGGER = logging.getLogger("eventstore.projections")


class Tables:
    """The tables of one log, in a DuckDB file or, without one, in memory.

    A DuckDB file belongs to one process at a time; while another has it, this one folds tables of
    its own in a temporary folder. So does a read-only one whose file is not up to date. Safe to use
    from several threads.
    """

    def __init__(self, log: Log, path: Path | None, *, read_only: bool = False) -> None:
        self._log = log
        self._read_only = read_only
        self._path = path
        self._mutex = threading.RLock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._checkpoint = 0

    def checkpoint(self) -> int:
        """The position up to which the tables are folded."""
        with self._mutex:
            self._connected()
            return self._checkpoint

    def fold(self, upto: int, progress: Progress | None = None) -> None:
        """Fold the log up to a position, if the tables do not have it yet."""
        with self._mutex:
            connection = self._connected()
            if upto <= self._checkpoint:
                return
            if self._read_only and self._temporary is None and self._path is not None:
                # The persisted tables are behind by now, and not to be written to.
                connection.close()
                connection = self._connection = self._created_apart()
            start, end = self._checkpoint, self._log.position
            if end - start > FOLDED_ROWS_MAX:
                _LOGGER.info("folding positions %d to %d into the projections", start + 1, end)
            for batch in _merged(self._log.scan(start, end, FOLDED_COLUMNS)):
                self._fold_batch(connection, batch)
                if progress is not None:
                    progress(self._checkpoint - start, end - start)

    def query(self, sql: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        """All rows of one query.

        Raises InvalidArgumentError when its values cannot be computed, as for an integer overflow.
        """
        with self._mutex:
            connection = self._connected()
        with contextlib.closing(connection.cursor()) as cursor:
            try:
                return cursor.execute(sql, parameters).fetchall()
            except (duckdb.OutOfRangeException, duckdb.ConversionException) as error:
                raise InvalidArgumentError(f"Invalid `filter_query`: {error}") from None

    def close(self) -> None:
        with self._mutex:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            if self._temporary is not None:
                self._temporary.cleanup()
                self._temporary = None

    def _connected(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def _open(self) -> duckdb.DuckDBPyConnection:
        if self._path is None:
            return self._created(":memory:")
        if self._read_only:
            return self._opened_to_read(self._path) or self._created_apart()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            try:
                connection = duckdb.connect(str(self._path), config=_configuration())
            except duckdb.Error as error:
                if "lock" in str(error).lower():
                    _LOGGER.info(
                        "%s is in use by another process: folding tables apart", self._path
                    )
                    return self._created_apart()
                _LOGGER.warning("%s is unusable (%s): building it again", self._path, error)
            else:
                if self._take_over_checkpoint(connection):
                    return connection
                connection.close()
                _LOGGER.info("%s is of another log or format: building it again", self._path)
            self._path.unlink()
            Path(f"{self._path}.wal").unlink(missing_ok=True)
        return self._created(str(self._path))

    def _opened_to_read(self, path: Path) -> duckdb.DuckDBPyConnection | None:
        """The persisted tables, if they are free, sound and up to date."""
        if not path.exists():
            return None
        try:
            connection = duckdb.connect(str(path), read_only=True, config=_configuration())
        except duckdb.Error:
            return None
        if self._take_over_checkpoint(connection) and self._checkpoint == self._log.position:
            return connection
        connection.close()
        return None

    def _created_apart(self) -> duckdb.DuckDBPyConnection:
        self._temporary = tempfile.TemporaryDirectory(prefix="eventstore-")
        return self._created(str(Path(self._temporary.name) / "tables.duckdb"))

    def _take_over_checkpoint(self, connection: duckdb.DuckDBPyConnection) -> bool:
        """Whether the file's tables are of this log and of this format."""
        try:
            rows = connection.execute("FROM checkpoint").fetchall()
        except duckdb.Error:
            return False
        if len(rows) != 1:
            return False
        format_version, store_id, position, recorded_at = rows[0]
        if (format_version, store_id) != (TABLES_FORMAT_VERSION, str(self._log.store_id)):
            return False
        if position > self._log.position:
            return False
        if position and self._log.recorded_at(position) != recorded_at:
            return False
        self._checkpoint = position
        return True

    def _created(self, database: str) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect(database, config=_configuration())
        connection.execute(SCHEMA)
        connection.execute(
            "INSERT INTO checkpoint VALUES (?, ?, 0, 0)",
            [TABLES_FORMAT_VERSION, str(self._log.store_id)],
        )
        self._checkpoint = 0
        return connection

    def _fold_batch(self, connection: duckdb.DuckDBPyConnection, batch: pa.Table) -> None:
        present = set(batch["kind"].unique().to_pylist())
        last_position = batch["position"][-1].as_py()
        has_replaced = _any_replaced(batch, self._checkpoint)
        connection.register("batch", batch)
        connection.execute("BEGIN")
        try:
            if not present.isdisjoint(TYPE_KINDS):
                if has_replaced:
                    self._end_replaced(connection, "types", TYPE_KINDS)
                connection.execute(INSERT_TYPES, {"not_ended": NOT_ENDED})
            for kind, (nodes, properties) in NODE_TABLES.items():
                if kind not in present:
                    continue
                if has_replaced:
                    self._end_replaced(connection, nodes, (kind,))
                    self._end_replaced(connection, properties, (kind,))
                bound = {"kind": kind, "not_ended": NOT_ENDED}
                connection.execute(INSERT_NODES.format(nodes=nodes), bound)
                connection.execute(INSERT_PROPERTIES.format(properties=properties), bound)
            for kind, insert in INSERT_LINKS.items():
                if kind in present:
                    connection.execute(insert)
            connection.execute(
                "UPDATE checkpoint SET position = ?, recorded_at = ?",
                [last_position, self._log.recorded_at(last_position)],
            )
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        finally:
            connection.unregister("batch")
        self._checkpoint = last_position

    def _end_replaced(
        self, connection: duckdb.DuckDBPyConnection, table: str, record_kinds: Sequence[str]
    ) -> None:
        connection.execute(
            END_REPLACED.format(table=table),
            {"checkpoint": self._checkpoint, "kinds": list(record_kinds)},
        )


def _configuration() -> dict[str, str | bool | int | float | list[str]]:
    return {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "enable_external_access": False,
        "preserve_insertion_order": True,
    }


def _any_replaced(batch: pa.Table, checkpoint: int) -> bool:
    import pyarrow.compute as compute

    return bool(compute.any(compute.less_equal(batch["previous"], checkpoint)).as_py())


def _merged(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Few large tables instead of many small batches: a statement costs more than its rows."""
    pending: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        pending.append(batch)
        rows += batch.num_rows
        if rows >= FOLDED_ROWS_MAX:
            yield pa.Table.from_batches(pending)
            pending, rows = [], 0
    if pending:
        yield pa.Table.from_batches(pending)
