"""Open MLMD's SQLite databases, schema versions 6 to 10, and put what is in them in order.

**The order of an import.** MLMD keeps the present and some times, not the order of its puts. This
order is rebuilt from them, the same each time:

1. Types, by id. They have no times, and everything else needs them.
2. Nodes, by creation time.
3. A link at the creation time of the younger of its ends, an event not before its own time. Ids
   were given out in the order of the puts, so a link never precedes one of its kind with a lower
   id; for events that holds within an execution, because clients choose their times.

At one moment contexts precede artifacts, artifacts executions, and all nodes the links; among
equals the lower id is first. So a node always precedes the links to it, if it exists at all.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from eventstore import errors
from eventstore.log.os_errors import refuse_no_path, translating
from eventstore.wording import counted

SCHEMA_VERSIONS: Final = range(6, 11)

COLUMNS: Final = {
    "Type": "id name version type_kind description input_type output_type",
    "TypeProperty": "type_id name data_type",
    "ParentType": "type_id parent_type_id",
    "Artifact": "id type_id uri state name create_time_since_epoch last_update_time_since_epoch",
    "Execution": (
        "id type_id last_known_state name create_time_since_epoch last_update_time_since_epoch"
    ),
    "Context": "id type_id name create_time_since_epoch last_update_time_since_epoch",
    "ArtifactProperty": ("artifact_id name is_custom_property int_value double_value string_value"),
    "ExecutionProperty": (
        "execution_id name is_custom_property int_value double_value string_value"
    ),
    "ContextProperty": "context_id name is_custom_property int_value double_value string_value",
    "ParentContext": "context_id parent_context_id",
    "Attribution": "id context_id artifact_id",
    "Association": "id context_id execution_id",
    "Event": "id artifact_id execution_id type milliseconds_since_epoch",
    "EventPath": "event_id is_index_step step_index step_key",
}
"""What every supported schema version has, MLMDEnv aside."""

_ROWS_AT_ONCE: Final = 10_000

_TIMELINE: Final = """
WITH
dated_parent_context AS (
    SELECT link.rowid AS id,
           max(coalesce(child.create_time_since_epoch, 0),
               coalesce(parent.create_time_since_epoch, 0)) AS moment
    FROM ParentContext AS link
    LEFT JOIN Context AS child ON child.id = link.context_id
    LEFT JOIN Context AS parent ON parent.id = link.parent_context_id
),
dated_attribution AS (
    SELECT link.id,
           max(coalesce(context.create_time_since_epoch, 0),
               coalesce(artifact.create_time_since_epoch, 0)) AS moment
    FROM Attribution AS link
    LEFT JOIN Context AS context ON context.id = link.context_id
    LEFT JOIN Artifact AS artifact ON artifact.id = link.artifact_id
),
dated_association AS (
    SELECT link.id,
           max(coalesce(context.create_time_since_epoch, 0),
               coalesce(execution.create_time_since_epoch, 0)) AS moment
    FROM Association AS link
    LEFT JOIN Context AS context ON context.id = link.context_id
    LEFT JOIN Execution AS execution ON execution.id = link.execution_id
),
-- Before schema version 8 nothing kept two events of one key apart; MLMD's own migration keeps the
-- newest one.
newest_event AS (
    SELECT max(id) AS id FROM Event GROUP BY artifact_id, execution_id, type
),
dated_event AS (
    SELECT link.id,
           link.execution_id,
           max(coalesce(link.milliseconds_since_epoch, 0),
               coalesce(artifact.create_time_since_epoch, 0),
               coalesce(execution.create_time_since_epoch, 0)) AS moment
    FROM newest_event
    JOIN Event AS link ON link.id = newest_event.id
    LEFT JOIN Artifact AS artifact ON artifact.id = link.artifact_id
    LEFT JOIN Execution AS execution ON execution.id = link.execution_id
)
SELECT 'context' AS kind, id, create_time_since_epoch AS moment, 0 AS rank FROM Context
UNION ALL
SELECT 'artifact', id, create_time_since_epoch, 1 FROM Artifact
UNION ALL
SELECT 'execution', id, create_time_since_epoch, 2 FROM Execution
UNION ALL
SELECT 'parent_context', id, max(moment) OVER (ORDER BY id), 3 FROM dated_parent_context
UNION ALL
SELECT 'attribution', id, max(moment) OVER (ORDER BY id), 4 FROM dated_attribution
UNION ALL
SELECT 'association', id, max(moment) OVER (ORDER BY id), 5 FROM dated_association
UNION ALL
SELECT 'event', id, max(moment) OVER (PARTITION BY execution_id ORDER BY id), 6 FROM dated_event
ORDER BY moment, rank, id
"""


class MlmdDatabase:
    """An MLMD database, open to read in one transaction.

    The database is not changed, and what others commit to it meanwhile is not seen. Every method
    raises UnavailableError when a writer holds the database, and DataLossError when SQLite finds it
    damaged.
    """

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
        try:
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None
            )
        except sqlite3.Error as error:
            raise self._translated(error) from None
        try:
            self._connection.row_factory = sqlite3.Row
            self.schema_version = self._begin()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """All rows of a query."""
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._translated(error) from None

    def number(self, sql: str) -> int:
        """The first column of the first row of a query, 0 for NULL."""
        value: int | None = self.rows(sql)[0][0]
        return value or 0

    def count(self) -> int:
        """How many types, nodes and links there are, duplicate events of old schemas included."""
        tables = ("Type", "Artifact", "Execution", "Context")
        links = ("ParentContext", "Attribution", "Association", "Event")
        return sum(self.number(f"SELECT count(*) FROM {table}") for table in tables + links)

    def timeline(self) -> Iterator[tuple[str, int]]:
        """(record kind, row id) of every node and link, in the order of an import (see above)."""
        try:
            cursor = self._connection.execute(_TIMELINE)
            while rows := cursor.fetchmany(_ROWS_AT_ONCE):
                for row in rows:
                    yield row[0], row[1]
        except sqlite3.Error as error:
            raise self._translated(error) from None

    def damaged(self, table: str, row_id: int | str, what: object) -> errors.DataLossError:
        """The error to raise for a row that cannot be read."""
        return errors.DataLossError(
            f"{self.path}, table {table}, id {row_id}: {what}; mend the row and import again"
        )

    def _begin(self) -> int:
        """Check that this is a database to import; its schema version."""
        try:
            # Taken by the first statement that reads: all others then see the same state.
            self._connection.execute("BEGIN")
            names = self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            tables = {row[0] for row in names}
        except sqlite3.Error as error:
            raise self._translated(error) from None
        if not tables and not os.path.getsize(self.path):
            raise errors.FailedPreconditionError(
                f"{self.path} is empty: name the file of an MLMD SQLite database"
            )
        if "MLMDEnv" not in tables:
            raise errors.FailedPreconditionError(
                f"{self.path} is an SQLite database, but not one of MLMD's: it has no table MLMDEnv"
            )
        versions = [row[0] for row in self.rows("SELECT schema_version FROM MLMDEnv")]
        if len(versions) != 1:
            raise errors.DataLossError(
                f"{self.path} has {counted(len(versions), 'row')} in table MLMDEnv where one "
                "belongs: leave the one with the database's schema version and import again"
            )
        version: int = versions[0]
        if version not in SCHEMA_VERSIONS:
            raise errors.FailedPreconditionError(
                f"{self.path} has MLMD schema version {version}; versions "
                f"{SCHEMA_VERSIONS[0]} to {SCHEMA_VERSIONS[-1]} can be imported: bring a copy to "
                "one of them with ml-metadata (enable_upgrade_migration, downgrade_schema)"
            )
        for table, columns in COLUMNS.items():
            found = {row[0] for row in self.rows("SELECT name FROM pragma_table_info(?)", [table])}
            missing = [column for column in columns.split() if column not in found]
            if missing:
                raise errors.DataLossError(
                    f"{self.path} has MLMD schema version {version}, but table {table} is missing "
                    f"or lacks {', '.join(missing)}: restore the database and import again"
                )
        return version

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
