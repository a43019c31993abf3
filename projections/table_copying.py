"""Make the file of the DuckDB tables anew, of the rows that are in it: what was there goes."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Final

import duckdb

from eventstore.log import Log
from eventstore.log.cache_file import TEMPORARY_SUFFIX, UnwantedFileError
from eventstore.log.folder_tree import remove_tree
from eventstore.projections.erased_records import ErasedRecords
from eventstore.projections.tables import Tables
from eventstore.projections.tables_file import (
    OpenedTables,
    folded_position_of,
    open_tables_in_file,
    remove_tables,
)

_LOGGER = logging.getLogger("eventstore.projections")

_NAMES: Final = "SELECT table_name FROM system.main.duckdb_tables() ORDER BY ALL"
_ROWS_AT_ONCE: Final = 65_536


def scrub_file(log: Log, path: Path, requested: int, erased: ErasedRecords) -> None:
    """Leave nothing in a file of what is erased, that was asked for up to a position.

    It is copied, or removed where that cannot be. Who has it open keeps what he has. Raises what
    the operating system says.
    """
    for beside in path.parent.glob(f"{path.name}.*{TEMPORARY_SUFFIX}"):
        # A copy that another process is making: it may have begun it before the erasure.
        beside.unlink(missing_ok=True)
    # What queries had no memory for, of processes that were killed.
    remove_tree(path.with_name(f"{path.name}.tmp"), ignore_errors=True)
    if not os.path.lexists(path):
        return
    tables = Tables(log, path, erased=erased)
    try:
        # What fails is removed below.
        with contextlib.suppress(duckdb.Error, UnwantedFileError):
            tables.fold_in_file(requested, lambda _done, _in_all: None)
    finally:
        tables.close()
    opened = open_tables_in_file(log, path)
    if isinstance(opened, OpenedTables):
        try:
            folded = folded_position_of(opened.connection, log) or 0
            is_copied = folded >= requested and _copy_in_place(log, opened, path)
        finally:
            opened.close()
        if is_copied:
            return
    remove_tables(path)


def _copy_in_place(log: Log, opened: OpenedTables, path: Path) -> bool:
    """Put a copy in the place of a file; False where there is no room for it, or the like.

    Earlier values of rows and rows that were deleted are in no copy.
    """
    temporary = path.with_name(f"{path.name}.{os.urandom(8).hex()}{TEMPORARY_SUFFIX}")
    try:
        copy = open_tables_in_file(log, temporary)
        if not isinstance(copy, OpenedTables):
            return False
        try:
            with opened.keep() as source:
                _copy_rows(source, copy.connection)
        finally:
            # It writes all to the file.
            copy.close()
        opened.close()
        # The log beside the old file would be played into the new one.
        Path(f"{path}.wal").unlink(missing_ok=True)
        os.replace(temporary, path)
    except (OSError, duckdb.Error) as error:
        _LOGGER.warning("%s could not be copied (%s): removing it", path, error)
        return False
    finally:
        with contextlib.suppress(OSError):
            remove_tables(temporary)
    return True


def _copy_rows(source: duckdb.DuckDBPyConnection, copy: duckdb.DuckDBPyConnection) -> None:
    copy.execute("DELETE FROM folded_position")
    for (name,) in source.execute(_NAMES).fetchall():
        rows = source.sql(f"FROM {name}").to_arrow_reader(_ROWS_AT_ONCE)
        copy.register("copied_rows", rows)
        try:
            copy.execute(f"INSERT INTO {name} FROM copied_rows")
        finally:
            copy.unregister("copied_rows")
