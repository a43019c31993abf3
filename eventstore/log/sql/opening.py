"""Find or make the log of a SQL database that a URL names."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from eventstore import errors
from eventstore.log.manifest import FORMAT_VERSION
from eventstore.log.places import StoreUrl
from eventstore.log.remote.remote_log import SEGMENT_RECORDS_MAX
from eventstore.log.sql.connecting import of_url
from eventstore.log.sql.database import Database
from eventstore.log.sql.making import log_row
from eventstore.log.sql.schema import LOG, make_tables, tables_there
from eventstore.log.sql.sql_log import SqlLog


def open_url(
    url: StoreUrl,
    *,
    read_only: bool,
    creates: bool,
    cache_folder: Path | None,
    store_id: UUID | None = None,
) -> SqlLog:
    """The log at a URL, as `eventstore.log.places.OpensLog` describes it.

    Raises what `connecting.of_url` and `open_database` do.
    """
    database = of_url(url.revealed())
    return open_database(
        database,
        read_only=read_only,
        creates=creates,
        cache_folder=cache_folder,
        new_id=store_id,
    )


def open_database(
    database: Database,
    *,
    read_only: bool = False,
    creates: bool = True,
    cache_folder: Path | None = None,
    new_id: UUID | None = None,
    segment_records_max: int = SEGMENT_RECORDS_MAX,
) -> SqlLog:
    """The log in a database; its tables are made where there are none and `creates` allows it.

    `new_id` is the store's id then, else a new one. Its caches lie below `cache_folder`, or where
    the user's usually do.

    Raises NotFoundError when there is no log, FailedPreconditionError for tables of ML Metadata
    or a newer format, PermissionDeniedError where tables may not be made, and what `Database` does.
    """
    try:
        store_id = _store_id(database)
        if store_id is None and new_id is None and has_mlmd_alone(database):
            raise errors.FailedPreconditionError(
                f"{database.name} has the tables of ML Metadata and no store: open it by "
                "ConnectionConfig.mysql or .postgresql with enable_upgrade_migration=True, which "
                "imports what they hold, or name another database"
            )
        if store_id is None and creates and not read_only:
            store_id = _made(database, new_id or uuid4())
        if store_id is None:
            raise errors.NotFoundError(
                f"there is no store at {database.name}: check the name of the database, or create "
                "one"
            )
        return SqlLog(
            database,
            store_id,
            cache_folder=cache_folder,
            read_only=read_only,
            segment_records_max=segment_records_max,
        )
    except BaseException:
        database.close()
        raise


def has_mlmd_alone(database: Database) -> bool:
    """Whether a database has the tables of ML Metadata, and no store."""
    return database.connected("opening", tables_there)[1] and _stored(database) is None


def _stored(database: Database) -> Any:
    """The format's version and the id of the store in a database, if there is one."""
    if not database.connected("opening", tables_there)[0]:
        return None
    rows = database.rows(sa.select(LOG.c.format_version, LOG.c.store_id))
    return rows[0] if rows else None


def _store_id(database: Database) -> UUID | None:
    """The id of the store in a database; None when there is none, or one that is being made."""
    row = _stored(database)
    if row is None:
        return None
    version, store_id = row
    if version != FORMAT_VERSION:
        reads = f"reads {'up to ' if version > FORMAT_VERSION else ''}{FORMAT_VERSION}"
        raise errors.FailedPreconditionError(
            f"{database.name} has format version {version}; this version {reads}: "
            f"{'upgrade' if version > FORMAT_VERSION else 'use an older'} mlmd-eventstore"
        )
    return UUID(str(store_id))


def _made(database: Database, new_id: UUID) -> UUID | None:
    """Make the tables, and a store in them; its id, or that of the one that another has made."""

    def make(connection: sa.Connection) -> None:
        make_tables(connection)
        if connection.execute(sa.select(LOG.c.id)).first() is None:
            with contextlib.suppress(sa.exc.IntegrityError):
                connection.execute(LOG.insert(), log_row(new_id))

    database.connected("making tables in", make)
    return _store_id(database)
