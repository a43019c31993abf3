"""Find or make the log of a SQL database that a URL names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

import sqlalchemy as sa

from eventstore import errors
from eventstore.log.manifest import FORMAT_VERSION
from eventstore.log.places import StoreUrl
from eventstore.log.remote.remote_log import SEGMENT_RECORDS_MAX
from eventstore.log.sql.connecting import of_url, parted
from eventstore.log.sql.database import Database
from eventstore.log.sql.making import log_row
from eventstore.log.sql.schema import LOG, make_tables, tables_there
from eventstore.log.sql.sql_log import SqlLog

if TYPE_CHECKING:
    from eventstore.log.sql.segment_bucket import SegmentBucket


class _Store(NamedTuple):
    """`segments_at` is the place in object storage that has its segments."""

    store_id: UUID
    segments_at: str | None


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
    text, segments = parted(url.revealed())
    return open_database(
        of_url(text),
        segments=segments,
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
    segments: str | None = None,
) -> SqlLog:
    """The log in a database; its tables are made where there are none and `creates` allows it.

    `new_id` is the store's id then, else a new one. Its caches lie below `cache_folder`, or where
    the user's usually do. `segments` is the URL of the place in object storage that is to have the
    files of a new store's sealed segments; of one that is there it may say what it has recorded.

    Raises NotFoundError when there is no log, FailedPreconditionError for tables of ML Metadata,
    a newer format or another place of segments, PermissionDeniedError where tables may not be made,
    and what `Database` and `Bucket` do.
    """
    try:
        store = _store(database)
        if store is None and new_id is None and has_mlmd_alone(database):
            raise errors.FailedPreconditionError(
                f"{database.name} has the tables of ML Metadata and no store: open it by "
                "ConnectionConfig.mysql or .postgresql with enable_upgrade_migration=True, which "
                "imports what they hold, or name another database"
            )
        if store is None and creates and not read_only:
            store = _made(database, new_id or uuid4(), segments)
        if store is None:
            raise errors.NotFoundError(
                f"there is no store at {database.name}: check the name of the database, or create "
                "one"
            )
        return SqlLog(
            database,
            store.store_id,
            cache_folder=cache_folder,
            read_only=read_only,
            segment_records_max=segment_records_max,
            bucket=_bucket(database, store, segments),
        )
    except BaseException:
        database.close()
        raise


def has_mlmd_alone(database: Database) -> bool:
    """Whether a database has the tables of ML Metadata, and no store."""
    return database.connected("opening", tables_there)[1] and _stored(database) is None


def _stored(database: Database) -> Any:
    """The row of the store in a database, if there is one."""
    if not database.connected("opening", tables_there)[0]:
        return None
    # Stores of earlier versions have no column for the place of segments.
    rows = database.rows(sa.select(sa.text("*")).select_from(LOG))
    return rows[0]._mapping if rows else None


def _store(database: Database) -> _Store | None:
    """The store in a database; None when there is none, or one that is being made."""
    row = _stored(database)
    if row is None:
        return None
    version = row["format_version"]
    if version != FORMAT_VERSION:
        reads = f"reads {'up to ' if version > FORMAT_VERSION else ''}{FORMAT_VERSION}"
        raise errors.FailedPreconditionError(
            f"{database.name} has format version {version}; this version {reads}: "
            f"{'upgrade' if version > FORMAT_VERSION else 'use an older'} mlmd-eventstore"
        )
    return _Store(UUID(str(row["store_id"])), row.get("segments_at"))


def _made(database: Database, new_id: UUID, segments: str | None) -> _Store | None:
    """Make the tables, and a store in them; that, or the one that another has made."""
    place = None
    if segments is not None:
        with _needing_objects(database):
            from eventstore.log.sql.segment_bucket import recorded_place, segment_bucket
        # First: what cannot be put there is told before there is a store.
        segment_bucket(segments, new_id).make()
        place = recorded_place(segments)

    def make(connection: sa.Connection) -> None:
        make_tables(connection)
        if connection.execute(sa.select(LOG.c.id)).first() is None:
            with contextlib.suppress(sa.exc.IntegrityError):
                connection.execute(LOG.insert(), log_row(new_id, place))

    database.connected("making tables in", make)
    return _store(database)


def _bucket(database: Database, store: _Store, segments: str | None) -> SegmentBucket | None:
    """What has a store's segments, if that is not the database.

    `segments` is where they are said to be. Raises FailedPreconditionError for another place than
    the store has recorded.
    """
    if store.segments_at is None and segments is None:
        return None
    with _needing_objects(database):
        from eventstore.log.sql.segment_bucket import recorded_place, segment_bucket
    if segments is not None and recorded_place(segments) != store.segments_at:
        raise errors.FailedPreconditionError(
            f"{database.name} keeps its sealed segments "
            f"{f'at {store.segments_at}' if store.segments_at else 'in the database'}: leave "
            "segments= out, or copy the store to a new one"
        )
    return segment_bucket(segments or store.segments_at or "", store.store_id)


@contextlib.contextmanager
def _needing_objects(database: Database) -> Iterator[None]:
    """Raise FailedPreconditionError where the packages are missing that reach object storage."""
    try:
        yield
    except ImportError as error:
        raise errors.FailedPreconditionError(
            f"the sealed segments of {database.name} are in object storage, which needs a package "
            f"that is missing: pip install 'mlmd-eventstore[objects]' ({error})"
        ) from None
