"""Open the DuckDB database that holds the tables of a log, or make one."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import duckdb

from eventstore import errors
from eventstore.log import Log, content_id
from eventstore.log.cache_file import make_cache_folder
from eventstore.log.forking import no_fork_in_libraries
from eventstore.log.os_errors import check_can_open, resolved, translated
from eventstore.log.regular_file import is_irregular
from eventstore.log.temporary_folder import TemporaryFolder
from eventstore.memory_limit import memory_limit_bytes
from eventstore.projections.duckdb_errors import failed, is_in_use, write_failure
from eventstore.projections.duckdb_faults import avoid_misleading_statistics
from eventstore.projections.table_changes import SCHEMA, TABLES_FORMAT_VERSION
from eventstore.projections.tables_check import has_tables_as_made, others_in

_LOGGER = logging.getLogger("eventstore.projections")

IN_MEMORY_RECORDS_MAX: Final = 131_072
"""Tables that this process folds for itself alone are kept in memory up to this size of the log."""

ONE_THREAD_RECORDS_MAX: Final = 131_072
"""On tables of up to this many records, sharing a query out takes longer than running it."""

_USE_APART: Final = "USE apart"
"""For each cursor on tables whose file has no name."""

_FOLDED_POSITION: Final = """
SELECT format_version::INTEGER, store_id::VARCHAR, position::BIGINT, recorded_at::BIGINT
FROM folded_position LIMIT 2
"""


left_to_the_parent: Final[list[object]] = []
"""What a forked child keeps of its parent's DuckDB and never uses: giving it back would use it."""

_left_paths: Final[set[Path]] = set()
"""The files of these, which DuckDB would take to be open in this process."""

_opening = threading.RLock()
"""Otherwise one thread takes what another is making for a useless file."""


@dataclass(eq=False)
class OpenedTables:
    """A connection to the tables, and the file that it persists them in, if it does.

    `failure` says why it does not, where that is not as it should be. It is closed once nobody has
    a cursor: to close it under a statement would leave it half-closed.
    """

    connection: duckdb.DuckDBPyConnection
    path: Path | None = None
    temporary: TemporaryFolder | None = None
    failure: errors.StatusError | None = None
    _cursors: int = 0
    _is_given_up: bool = False
    _counting: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor, which is good to the end of the block."""
        try:
            with contextlib.closing(self.connection.cursor()) as cursor:
                if self.temporary is not None:
                    cursor.execute(_USE_APART)
                yield cursor
        finally:
            with self._counting:
                self._cursors -= 1
                is_last = self._is_given_up and not self._cursors
            if is_last:
                self._close()

    def keep(self) -> contextlib.AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A context manager for a cursor, which counts from this call on."""
        with self._counting:
            self._cursors += 1
        return self._cursor()

    def leave_to_the_parent(self) -> None:
        """Keep a forked child from using, closing or removing what its parent has open."""
        left_to_the_parent.append(self)
        if self.path is not None:
            _left_paths.add(self.path)
        if self.temporary is not None:
            self.temporary.leave_to_the_parent()

    def close(self) -> None:
        with self._counting:
            self._is_given_up = True
            if self._cursors:
                return
        self._close()

    def _close(self) -> None:
        with no_fork_in_libraries():
            self.connection.close()
        if self.temporary is not None:
            self.temporary.close()


def _after_fork_in_child() -> None:
    global _opening
    _opening = threading.RLock()


os.register_at_fork(after_in_child=_after_fork_in_child)


def open_tables(log: Log, path: Path | None) -> OpenedTables:
    """The tables in a file, made anew when they are of no use; without a path, in memory.

    When the file is in use, or cannot be written, the tables are this process's own.
    """
    if path is None:
        return OpenedTables(_created(log, ":memory:"))
    opened = open_tables_in_file(log, path)
    if isinstance(opened, OpenedTables):
        return opened
    if opened is None:
        _LOGGER.info("%s is in use: folding tables apart", path)
    else:
        _LOGGER.warning("%s; folding tables apart", opened)
    return open_tables_apart(log, opened)


def open_tables_in_file(log: Log, path: Path) -> OpenedTables | errors.StatusError | None:
    """The tables in a file, made anew when they are of no use.

    Why they cannot be had, if they cannot; None when somebody else is using the file.
    """
    try:
        # Before it is resolved: where a link leads to is not the store's to remove.
        for found in filter(is_irregular, (_log_beside(path), path)):
            found.unlink(missing_ok=True)
    except OSError as error:
        return translated(error, "removing", path)
    # Resolved, so that DuckDB knows a file that this process has opened already.
    folder, path = path.parent, resolved(path)
    if path in _left_paths:
        return None
    try:
        make_cache_folder(folder, log)
        with no_fork_in_libraries(), _opening:
            opened = _persisted(log, path) if _is_openable(path) else None
            if opened is not None:
                return opened
            remove_tables(path)
            try:
                return OpenedTables(_created(log, str(path)), path)
            except duckdb.Error as error:
                if not is_in_use(error) and write_failure(error, path) is not None:
                    # What was written so far is no database.
                    remove_tables(path)
                raise
    except OSError as error:
        return translated(error, "folding into", path)
    except duckdb.Error as error:
        # The file was removed, but another object of this process has it open: what is made in its
        # place would be that.
        is_open_here = isinstance(error, duckdb.CatalogException)
        return None if is_open_here or is_in_use(error) else failed(error, path)


def open_tables_to_read(log: Log, path: Path | None) -> OpenedTables:
    """The tables in a file, however far they are folded; if they cannot be had, separate ones."""
    if path is not None and _is_openable(path):
        path = resolved(path)
        if path in _left_paths:
            return open_tables_apart(log)
        with contextlib.suppress(duckdb.Error), no_fork_in_libraries():
            connection = _connected(log, str(path), read_only=True)
            if _is_usable(connection, log, path):
                return OpenedTables(connection, path)
            connection.close()
    return open_tables_apart(log)


def open_tables_to_compare(log: Log, path: Path) -> duckdb.DuckDBPyConnection | None:
    """The tables in a file as they are; None when another process has them open."""
    # Only one of the modes can be had while this process has it open, too.
    for read_only in (True, False):
        try:
            return _connected(log, str(resolved(path)), read_only=read_only)
        except duckdb.Error as error:
            if not is_in_use(error):
                raise
    return None


def open_tables_apart(log: Log, failure: errors.StatusError | None = None) -> OpenedTables:
    """Empty tables for this process alone."""
    if log.position <= IN_MEMORY_RECORDS_MAX:
        return OpenedTables(_created(log, ":memory:"), failure=failure)
    temporary = TemporaryFolder()
    try:
        connection = _filled(_connected_apart(log, temporary.path), log)
    except duckdb.Error as error:
        temporary.close()
        raise failed(error, temporary.path.parent) from None
    except OSError as error:
        temporary.close()
        raise translated(error, "folding into", temporary.path.parent) from None
    return OpenedTables(connection, None, temporary, failure)


def _is_openable(path: Path) -> bool:
    """Whether there is a database, and no pipe that DuckDB would wait for."""
    return os.path.exists(path) and not has_irregular(path)


def has_irregular(path: Path) -> bool:
    """Whether a pipe, socket or device is in the place of a database or of the log beside it."""
    return is_irregular(path) or is_irregular(_log_beside(path))


def _log_beside(path: Path) -> Path:
    return Path(f"{path}.wal")


def remove_tables(path: Path) -> None:
    """Remove a database that is not open."""
    # First, so that none is left beside a database that is made anew.
    _log_beside(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def folded_position_of(connection: duckdb.DuckDBPyConnection, log: Log) -> int | None:
    """The position up to which the tables are folded; None when they are not this log's.

    For tables that are known to be as they were made.
    """
    try:
        rows = connection.execute(_FOLDED_POSITION).fetchall()
    except (duckdb.CatalogException, duckdb.BinderException, duckdb.ConversionException):
        return None
    if len(rows) != 1 or None in rows[0] or rows[0][2] < 0:
        return None
    format_version, store_id, position, recorded_at = rows[0]
    if (format_version, store_id) != (TABLES_FORMAT_VERSION, str(content_id(log))):
        return None
    if position > log.position:
        # Another object of this process may have folded what this log has not noticed yet.
        log.refresh()
    # A log that was cut and grew again has other records at the same positions.
    if position > log.position or (position and log.recorded_at(position) != recorded_at):
        return None
    assert isinstance(position, int)
    return position


def _persisted(log: Log, path: Path) -> OpenedTables | None:
    """The tables in an existing file; None when it holds none of this log and format."""
    connection = None
    try:
        connection = _connected(log, str(path))
        if _is_usable(connection, log, path):
            return OpenedTables(connection, path)
    except duckdb.Error as error:
        is_refused = is_in_use(error) or isinstance(error, duckdb.OutOfMemoryException)
        if connection is None and is_refused:
            raise
        _LOGGER.warning("%s is unusable (%s): building it again", path, error)
    if connection is not None:
        connection.close()
    return None


def _is_usable(connection: duckdb.DuckDBPyConnection, log: Log, path: Path) -> bool:
    """Whether the tables in an opened file are this log's, and defined as this version does."""
    # What is defined comes first: a view in place of a table may be endless.
    if not has_tables_as_made(connection):
        _LOGGER.warning("%s has other tables than were made in it: building it again", path)
        return False
    if others := others_in(connection):
        what = ", ".join(others)
        _LOGGER.warning("%s has more in it than tables (%s): building it again", path, what)
        return False
    if folded_position_of(connection, log) is None:
        _LOGGER.info("%s is of another log or format: building it again", path)
        return False
    return True


def _created(log: Log, database: str) -> duckdb.DuckDBPyConnection:
    return _filled(_connected(log, database), log)


def _filled(connection: duckdb.DuckDBPyConnection, log: Log) -> duckdb.DuckDBPyConnection:
    """A connection to an empty database, once it has the tables; closed when that fails."""
    try:
        connection.execute("BEGIN")
        connection.execute(SCHEMA)
        identity = [TABLES_FORMAT_VERSION, str(content_id(log))]
        connection.execute("INSERT INTO folded_position VALUES (?, ?, 0, 0)", identity)
        connection.execute("COMMIT")
    except duckdb.Error:
        connection.close()
        raise
    return connection


def _connected(log: Log, database: str, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    configuration = _CONFIGURATION | {"memory_limit": f"{memory_limit_bytes() // 2**20}MiB"}
    if database == ":memory:":
        # Otherwise what does not fit in memory would go into the working directory.
        configuration["temp_directory"] = ""
    with no_fork_in_libraries():
        check_can_open("folding", log.name)
        connection = duckdb.connect(database, read_only=read_only, config=configuration)
        # Not in the configuration, which has to be the same wherever this process opens the file;
        # where it has opened it before, all is set and locked.
        with contextlib.suppress(duckdb.InvalidInputException):
            if log.position <= ONE_THREAD_RECORDS_MAX and database != ":memory:":
                connection.execute("SET threads = 1")
            _set_for_good(connection)
        return connection


def _connected_apart(log: Log, folder: Path) -> duckdb.DuckDBPyConnection:
    """An empty database for this process alone, whose file goes with it however it ends.

    For it has no name, and no log beside it. What does not fit in memory goes into the folder.
    """
    configuration = _CONFIGURATION | {
        "enable_external_access": True,
        "memory_limit": f"{memory_limit_bytes() // 2**20}MiB",
        "temp_directory": str(folder / "spilled"),
    }
    path = folder / "tables.duckdb"
    with no_fork_in_libraries():
        check_can_open("folding", log.name)
        connection = duckdb.connect(":memory:", config=configuration)
        try:
            named = str(path).replace("'", "''")
            connection.execute(f"ATTACH '{named}' AS apart (RECOVERY_MODE no_wal_writes)")
            path.unlink()
            connection.execute(_USE_APART)
            connection.execute("SET enable_external_access = false")
            _set_for_good(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def _set_for_good(connection: duckdb.DuckDBPyConnection) -> None:
    # Times are instants, and their texts the same on every machine.
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    avoid_misleading_statistics(connection)
    connection.execute("SET lock_configuration = true")


_CONFIGURATION: Final[dict[str, str | bool | int | float | list[str]]] = {
    "allow_persistent_secrets": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    # So that few come before a file is closed: each writes the newest rows of a table again.
    "checkpoint_threshold": "64MiB",
    "enable_external_access": False,
    # The default of DuckDB 1.5 has a write-ahead log that is played into any database beside it.
    "storage_compatibility_version": "latest",
}
"""Safe: nothing is loaded, and nothing outside the database is read or written."""
