"""MLMD's SQLite databases."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import cast

from eventstore import errors
from eventstore.importing.mlmd_source import Row
from eventstore.log.os_errors import refuse_no_path, translating
from eventstore.log.temporary_folder import TemporaryFolder


class SqliteSource:
    """An SQLite database; unless it is in WAL mode, its writers wait from `begin` to `end`.

    Every method raises UnavailableError when a writer holds the database, and DataLossError when
    SQLite finds it damaged.
    """

    kind = "an SQLite database"
    hidden = ""
    steps_in_order = "ORDER BY rowid"

    def __init__(self, path: Path, *, copies: bool = False) -> None:
        """With `copies` a copy is read, which keeps writers waiting only while it is made.

        Raises NotFoundError, or FailedPreconditionError when it is no database to import.
        """
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
        self._copies = copies
        self._folder: TemporaryFolder | None = None
        self._connection: sqlite3.Connection | None = None

    def begin(self) -> None:
        try:
            # Each time anew: another file may have taken its place.
            self._connection = _connected(self._copy() if self._copies else self.path)
            self._connection.row_factory = sqlite3.Row
            # Taken by the first statement that reads: all others then see the same state.
            self._connection.execute("BEGIN")
            self._connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
        except sqlite3.Error as error:
            self.end()
            raise self._translated(error) from None

    def end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    def rows(self, sql: str, parameters: Mapping[str, int | Sequence[int]]) -> Sequence[Row]:
        assert self._connection is not None, "begin comes first"
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
        self.end()

    def _copy(self) -> Path:
        self._folder = TemporaryFolder()
        copy = self._folder.path / "copy"
        with closing(_connected(self.path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        return copy

    def _translated(self, error: sqlite3.Error) -> errors.StatusError:
        # The extended result codes carry the primary one in their lowest byte.
        extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
        code = extended & 0xFF
        if extended == sqlite3.SQLITE_READONLY_ROLLBACK:
            return errors.UnavailableError(
                f"{self.path} was left in the middle of a write ({error}): open it with MLMD, "
                "which takes that back, and try again"
            )
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


def _connected(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
