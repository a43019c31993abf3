"""Make a log in a SQL database at once with all that it begins with, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from eventstore import errors
from eventstore.log.creation import LOG_FOLDER
from eventstore.log.directory import DirectoryLog
from eventstore.log.log import Log
from eventstore.log.manifest import FORMAT_VERSION
from eventstore.log.sql.database import Database
from eventstore.log.sql.database_errors import is_locked
from eventstore.log.sql.keeper import insert_recorded
from eventstore.log.sql.schema import LOG, make_tables
from eventstore.log.temporary_folder import TemporaryFolder
from eventstore.times import now_in_microseconds


def make_filled(database: Database, fill: Callable[[Log], None]) -> bool:
    """Make a store in a database of what `fill` appends to a log; whether it was made.

    It is there once this is done, and nothing of it before. Whoever else makes one meanwhile is
    waited for, and makes `fill` needless. Raises UnavailableError where the server does not wait so
    long, and what `fill` does.
    """
    database.connected("making tables in", make_tables)
    store_id = uuid4()
    with TemporaryFolder() as temporary:
        try:
            with database.transaction("making a store in") as connection:
                # First: its key is what others wait for.
                _insert(connection, database.name, log_row(store_id))
                _fill(connection, temporary / "store", store_id, fill)
        except sa.exc.IntegrityError:
            return False
    return True


def log_row(store_id: UUID, segments_at: str | None = None) -> dict[str, Any]:
    """The row that makes a database with our tables a store."""
    place = {"segments_at": segments_at} if segments_at is not None else {}
    return place | {
        "id": 1,
        "format_version": FORMAT_VERSION,
        "store_id": store_id,
        "created_at": now_in_microseconds(),
    }


def _insert(connection: sa.Connection, name: str, row: dict[str, Any]) -> None:
    try:
        connection.execute(LOG.insert(), row)
    except sa.exc.OperationalError as error:
        if isinstance(error.orig, Exception) and is_locked(error.orig):
            raise errors.UnavailableError(
                f"another process is making a store in {name}, such as an import of what ML "
                "Metadata has there: open it again once that is done"
            ) from None
        raise


def _fill(
    connection: sa.Connection, directory: Path, store_id: UUID, fill: Callable[[Log], None]
) -> None:
    with closing(DirectoryLog.create(directory, store_id=store_id)) as log:
        fill(log)
        log.seal()
        for segment in log.manifest.segments:
            commits = log.commits(segment.first_position - 1, segment.last_position)
            path = directory / LOG_FOLDER / segment.file
            insert_recorded(connection, commits, segment, path)
