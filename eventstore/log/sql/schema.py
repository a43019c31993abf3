"""The tables of a log in a SQL database. FORMAT.md has them column by column."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

PART_BYTES: Final = 480 * 1024
"""A sealed segment is stored in parts of so many bytes.

PyMySQL writes bytes in hexadecimal, and some servers take a statement of 1 MiB at most.
"""

_BYTES: Final = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
_METADATA: Final = sa.MetaData()


def _number(name: str, *, is_key: bool = False) -> sa.Column[int]:
    """A 64-bit integer, whose values the log itself gives."""
    return sa.Column(name, sa.BigInteger, primary_key=is_key, autoincrement=False, nullable=False)


LOG: Final = sa.Table(
    "eventstore_log",
    _METADATA,
    _number("id", is_key=True),
    _number("format_version"),
    sa.Column("store_id", sa.Uuid(as_uuid=True, native_uuid=False), nullable=False),
    _number("created_at"),
    sa.Column("segments_at", sa.Text()),
    mysql_engine="InnoDB",
)
"""One row, whose id is 1. `segments_at` is the URL of the place in object storage that has the
files of sealed segments, null where the database has them."""

COMMITS: Final = sa.Table(
    "eventstore_commits",
    _METADATA,
    # The key refuses the second writer.
    _number("number", is_key=True),
    _number("first_position"),
    _number("last_position"),
    _number("recorded_at"),
    sa.Column("tree_head", _BYTES, nullable=False),
    sa.Column("message", _BYTES),
    mysql_engine="InnoDB",
)
"""A row for each commit; its message is as in an active segment, or null where only its sealed
segment has the records: some are erased, or they were copied from another log."""

SEGMENTS: Final = sa.Table(
    "eventstore_segments",
    _METADATA,
    _number("number", is_key=True),
    _number("rewriting", is_key=True),
    sa.Column("entry", _BYTES, nullable=False),
    mysql_engine="InnoDB",
)
"""A row for each sealed segment: its entry as in a manifest, as JSON. A segment that an erasure has
rewritten so many times has a row of its own, in the place of the one before."""

PARTS: Final = sa.Table(
    "eventstore_segment_parts",
    _METADATA,
    _number("number", is_key=True),
    _number("rewriting", is_key=True),
    _number("part", is_key=True),
    sa.Column("content", _BYTES, nullable=False),
    mysql_engine="InnoDB",
)
"""The Parquet files of these, in parts; none where they lie in object storage."""

TABLES: Final = (LOG, COMMITS, SEGMENTS, PARTS)


_MLMD_TABLES: Final = ({"mlmdenv"}, {"typeproperty", "artifactproperty"})
"""Any of these are there; the first since MLMD's schema has versions."""


def tables_there(connection: sa.Connection) -> tuple[bool, bool]:
    """Whether a database has the tables of a log, and those of ML Metadata."""
    names = set(sa.inspect(connection).get_table_names())
    lower = {name.lower() for name in names}
    return all(table.name in names for table in TABLES), any(m <= lower for m in _MLMD_TABLES)


def make_tables(connection: sa.Connection) -> None:
    """Make those of the tables that are missing."""
    # Another process may be faster, once for each of them.
    for left in reversed(range(len(TABLES) + 1)):
        try:
            _METADATA.create_all(connection)
            return
        except (sa.exc.ProgrammingError, sa.exc.OperationalError, sa.exc.IntegrityError):
            if not left:
                raise
