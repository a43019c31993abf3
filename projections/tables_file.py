"""Open the DuckDB database that holds the tables of a log, or make one."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import duckdb

from eventstore.log import Log
from eventstore.projections.duckdb_faults import avoid_misleading_statistics
from eventstore.projections.folding import SCHEMA, TABLES_FORMAT_VERSION

_LOGGER = logging.getLogger("eventstore.projections")

IN_MEMORY_RECORDS_MAX: Final = 131_072
"""Tables that this process folds for itself alone are kept in memory up to this size of the log."""

ONE_THREAD_RECORDS_MAX: Final = 131_072
"""On tables of so few records a query takes longer to share out than to run."""

_opening: Final = threading.Lock()

_DAMAGE: Final = (
    duckdb.IOException,
    duckdb.FatalException,
    duckdb.InternalException,
    duckdb.SerializationException,
)


@dataclass(frozen=True)
class OpenedTables:
    """A connection to the tables, and the file that it persists them in, if it does."""

    connection: duckdb.DuckDBPyConnection
    path: Path | None = None
    temporary: tempfile.TemporaryDirectory[str] | None = None

    def close(self) -> None:
        self.connection.close()
        if self.temporary is not None:
            self.temporary.cleanup()


def open_tables(log: Log, path: Path | None) -> OpenedTables:
    """The tables in a file, made anew when they are of no use; without a path, in memory.

    When the file is in use, or cannot be written, the tables are ones apart.
    """
    if path is None:
        return OpenedTables(_created(log, ":memory:"))
    # Resolved, so that DuckDB knows a file that this process has opened already.
    path = path.resolve()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # One after the other: else one thread takes what another is making for a useless file.
        with _opening:
            opened = _persisted(log, path) if path.exists() else None
            if opened is not None:
                return opened
            remove_tables(path)
            return OpenedTables(_created(log, str(path)), path)
    except (OSError, duckdb.Error) as error:
        if _is_in_use(error):
            _LOGGER.info("%s is in use: folding tables apart", path)
        else:
            _LOGGER.warning("%s cannot be used (%s): folding tables apart", path, error)
    return open_tables_apart(log)


def open_tables_to_read(log: Log, path: Path | None) -> OpenedTables:
    """The tables in a file, however far they are folded, if they can be had; else ones apart."""
    if path is not None and path.exists():
        path = path.resolve()
        with contextlib.suppress(duckdb.Error):
            connection = _connected(log, str(path), read_only=True)
            if checkpoint_of(connection, log) is not None:
                return OpenedTables(connection, path)
            connection.close()
    return open_tables_apart(log)


def open_tables_apart(log: Log) -> OpenedTables:
    """Empty tables for this process alone."""
    if log.position <= IN_MEMORY_RECORDS_MAX:
        return OpenedTables(_created(log, ":memory:"))
    temporary = tempfile.TemporaryDirectory(prefix="eventstore-")
    return OpenedTables(_created(log, str(Path(temporary.name) / "tables.duckdb")), None, temporary)


def remove_tables(path: Path) -> None:
    """Remove a database that is not open."""
    path.unlink(missing_ok=True)
    Path(f"{path}.wal").unlink(missing_ok=True)


def checkpoint_of(connection: duckdb.DuckDBPyConnection, log: Log) -> int | None:
    """The position up to which the tables are folded; None when they are not this log's."""
    try:
        rows = connection.execute("FROM checkpoint").fetchall()
    except duckdb.CatalogException:
        return None
    if len(rows) != 1:
        return None
    format_version, store_id, position, recorded_at = rows[0]
    if (format_version, store_id) != (TABLES_FORMAT_VERSION, str(log.store_id)):
        return None
    if position > log.position:
        # Another object of this process may have folded what this log has not looked for yet.
        log.refresh()
    # A log that was cut and grew again has other records at the same positions.
    if position > log.position or (position and log.recorded_at(position) != recorded_at):
        return None
    assert isinstance(position, int)
    return position


def is_damage(error: duckdb.Error) -> bool:
    """Whether an error says that the database itself is unsound, not the statement."""
    # A block whose checksum is wrong raises the base class itself.
    return type(error) is duckdb.Error or isinstance(error, _DAMAGE)


def _persisted(log: Log, path: Path) -> OpenedTables | None:
    """The tables in an existing file; None when it holds none of this log and format."""
    try:
        connection = _connected(log, str(path))
    except duckdb.Error as error:
        if _is_in_use(error) or not is_damage(error):
            raise
        _LOGGER.warning("%s is unusable (%s): building it again", path, error)
        return None
    try:
        if checkpoint_of(connection, log) is not None:
            return OpenedTables(connection, path)
        _LOGGER.info("%s is of another log or format: building it again", path)
    except duckdb.Error as error:
        _LOGGER.warning("%s is unusable (%s): building it again", path, error)
    connection.close()
    return None


def _is_in_use(error: Exception) -> bool:
    # By another process, or by this one with another configuration.
    return isinstance(error, duckdb.ConnectionException) or "set lock on file" in str(error)


def _created(log: Log, database: str) -> duckdb.DuckDBPyConnection:
    connection = _connected(log, database)
    connection.execute("BEGIN")
    connection.execute(SCHEMA)
    connection.execute(
        "INSERT INTO checkpoint VALUES (?, ?, 0, 0)", [TABLES_FORMAT_VERSION, str(log.store_id)]
    )
    connection.execute("COMMIT")
    return connection


def _connected(log: Log, database: str, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    configuration = dict(_CONFIGURATION)
    if database == ":memory:":
        # Else what does not fit the memory would go into the working directory.
        configuration["temp_directory"] = ""
    configuration["memory_limit"] = _memory_limit()
    connection = duckdb.connect(database, read_only=read_only, config=configuration)
    # Not in the configuration, which has to be the same wherever this process opens the file; where
    # it has opened it before, all is set and locked.
    with contextlib.suppress(duckdb.InvalidInputException):
        if log.position <= ONE_THREAD_RECORDS_MAX and database != ":memory:":
            connection.execute("SET threads = 1")
        avoid_misleading_statistics(connection)
        connection.execute("SET lock_configuration = true")
    return connection


@cache
def _memory_limit() -> str:
    """Half of what the machine has, in DuckDB's words."""
    mebibytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return f"{mebibytes // 2}MiB"


_CONFIGURATION: Final[dict[str, str | bool | int | float | list[str]]] = {
    "allow_persistent_secrets": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "enable_external_access": False,
}
"""Safe: nothing is loaded, and nothing outside the database is read or written."""
