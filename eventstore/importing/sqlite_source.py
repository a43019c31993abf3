"""MLMD's SQLite databases."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from eventstore import errors
from eventstore.importing.mlmd_source import Row
from eventstore.log.os_errors import refuse_no_path, translating


class SqliteSource:
    """An SQLite database; unless it is in WAL mode, its writers wait from `begin` to `end`.

    Every method raises UnavailableError when a writer holds the database, and DataLossError when
    SQLite finds it damaged.
    """

    kind = "an SQLite database"
    hidden = ""
    steps_in_order = "ORDER BY rowid"

    def __init__(self, path: Path) -> None:
        """Raises NotFoundError, or FailedPreconditionError when it is no database to import."""
        refuse_no_path(path)
        with translating("opening", path):
            if path.is_dir():
                what = "a store already" if (path / "manifest.json").exists() else "a directory"
                raise errors.FailedPreconditionError(
                    f"{path} is {what}: name the file of an MLMD SQLite database"
                )
            if not path.is_file():
                raise errors.NotFoundError(f"there is no file {path}: check the path")
        self.path = path
        self.name = str(path)
        self.short_name = path.name
        try:
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None
            )
        except sqlite3.Error as error:
            raise self._translated(error) from None
        self._connection.row_factory = sqlite3.Row

    def begin(self) -> None:
        try:
            # Taken by the first statement that reads: all others then see the same state.
            self._connection.execute("BEGIN")
            self._connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
        except sqlite3.Error as error:
            raise self._translated(error) from None

    def end(self) -> None:
        if self._connection.in_transaction:
            self._connection.rollback()

    def rows(self, sql: str, parameters: Mapping[str, int | Sequence[int]]) -> Sequence[Row]:
        bound: dict[str, int | str] = {}
        for name, value in parameters.items():
            if isinstance(value, int):
                bound[name] = value
            else:
                sql = sql.replace(f"IN :{name}", f"IN (SELECT value FROM json_each(:{name}))")
                bound[name] = json.dumps(list(value))
        try:
            # Rows of sqlite3 are mappings, but for the name.
            return cast("Sequence[Row]", self._connection.execute(sql, bound).fetchall())
        except sqlite3.Error as error:
            raise self._translated(error) from None

    def tables(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for row in self.rows(
            """
            SELECT lower(tables.name) AS table_name, lower(columns.name) AS column_name
            FROM sqlite_master AS tables JOIN pragma_table_info(tables.name) AS columns
            WHERE tables.type = 'table'
            """,
            {},
        ):
            found.setdefault(row["table_name"], set()).add(row["column_name"])
        if not found and not os.path.getsize(self.path):
            raise errors.FailedPreconditionError(
                f"{self.path} is empty: name the file of an MLMD SQLite database"
            )
        return found

    def last_ids(self) -> dict[str, int]:
        if "sqlite_sequence" not in self.tables():
            return {}
        return {row["name"]: row["seq"] for row in self.rows("SELECT * FROM sqlite_sequence", {})}

    def close(self) -> None:
        self._connection.close()

    def _translated(self, error: sqlite3.Error) -> errors.StatusError:
        # The extended result codes carry the primary one in their lowest byte.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return errors.UnavailableError(
                f"{self.path} is being written by another process ({error}): try again"
            )
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM):
            return errors.ResourceExhaustedError(
                f"reading {self.path} failed: {error}; make room for SQLite's temporary files"
            )
        if code == sqlite3.SQLITE_NOTADB:
            return errors.FailedPreconditionError(
                f"{self.path} cannot be read as an SQLite database: name the file that MLMD's "
                "sqlite.filename_uri names"
            )
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            return errors.FailedPreconditionError(
                f"{self.path} cannot be opened to read ({error}): check its mode, and copy it with "
                "the -wal or -journal file beside it to where SQLite may write"
            )
        return errors.DataLossError(
            f"{self.path} is damaged: {error}; restore it from a backup, or with `.recover` of "
            "SQLite's shell, and import again"
        )
