"""Sealed segments in a SQL database, and their files, which are fetched when they are read."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec
import sqlalchemy as sa

from eventstore import errors
from eventstore.log.cache_file import written_whole
from eventstore.log.closed_segments import ClosedSegments, SegmentMovedError
from eventstore.log.manifest import Segment
from eventstore.log.os_errors import translating
from eventstore.log.sql.database import Database
from eventstore.log.sql.schema import COMMITS, PART_BYTES, PARTS, SEGMENTS


def read_segments(database: Database) -> tuple[Segment, ...]:
    """The entries of all sealed segments, oldest first. Raises DataLossError for what cannot be."""
    found: dict[int, Segment] = {}
    statement = sa.select(SEGMENTS).order_by(SEGMENTS.c.number, SEGMENTS.c.rewriting)
    for number, rewriting, entry in database.rows(statement):
        try:
            segment = msgspec.json.decode(bytes(entry), type=Segment)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _damaged(database, number, str(error)) from None
        if (segment.number, len(segment.rewritten_from)) != (number, rewriting):
            raise _damaged(database, number, "its entry is that of another one")
        found[number] = segment
    position = commit = 0
    for number, segment in enumerate(found.values(), 1):
        if (
            (segment.number, segment.first_position) != (number, position + 1)
            or segment.first_commit != commit + 1
            or not 0 < segment.last_commit - commit <= segment.last_position - position
            or len(segment.frontier) != segment.last_position.bit_count()
        ):
            raise damaged(database, segment, "its entry cannot follow on the one before")
        position, commit = segment.last_position, segment.last_commit
    return tuple(found.values())


def store_segment(connection: sa.Connection, entry: Segment, path: Path) -> None:
    """Insert a segment's entry and file. Raises IntegrityError when there is one of its number."""
    key = {"number": entry.number, "rewriting": len(entry.rewritten_from)}
    connection.execute(SEGMENTS.insert(), key | {"entry": msgspec.json.encode(entry)})
    with open(path, "rb") as file:
        part = 0
        while content := file.read(PART_BYTES):
            part += 1
            connection.execute(PARTS.insert(), key | {"part": part, "content": content})


def replace_segment(connection: sa.Connection, before: Segment, entry: Segment, path: Path) -> None:
    """Let a rewritten segment take the place of one, and of the messages of its commits."""
    store_segment(connection, entry, path)
    for table in (PARTS, SEGMENTS):
        connection.execute(
            table.delete().where(
                table.c.number == before.number,
                table.c.rewriting <= len(before.rewritten_from),
            )
        )
    connection.execute(
        COMMITS.update()
        .where(COMMITS.c.number.between(before.first_commit, before.last_commit))
        .values(message=None)
    )


def fetch_segment(database: Database, segment: Segment, path: Path) -> None:
    """Write a segment's file. Raises SegmentMovedError when the database has it no more."""
    statement = (
        sa.select(PARTS.c.content)
        .where(
            PARTS.c.number == segment.number,
            PARTS.c.rewriting == len(segment.rewritten_from),
        )
        .order_by(PARTS.c.part)
    )
    parts = database.connected("reading", lambda connection: connection.scalars(statement).all())
    if not parts:
        raise SegmentMovedError(segment)
    with translating("writing", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as file:
            file.writelines(parts)


class FetchedSegments(ClosedSegments):
    """The sealed segments of a database, each fetched into a folder when it is read first.

    A file that is missing there, or damaged, is fetched again.
    """

    def __init__(self, folder: Path, database: Database) -> None:
        super().__init__(folder)
        self._database = database
        self._fetching = threading.Lock()

    def check(self, segment: Segment) -> None:
        try:
            super().check(segment)
        except (SegmentMovedError, errors.DataLossError):
            with self._fetching:
                self._fetch(segment)

    def _fetch(self, segment: Segment) -> None:
        """Fetch a file, unless another thread has done so meanwhile."""
        with contextlib.suppress(SegmentMovedError, errors.DataLossError):
            super().check(segment)
            return
        fetch_segment(self._database, segment, self._folder / segment.file)
        try:
            super().check(segment)
        except errors.DataLossError:
            raise damaged(self._database, segment, "its file does not match its SHA-256") from None

    def keep_only(self, segments: Iterable[Segment]) -> None:
        """Remove the files of what was rewritten, which may hold what is erased."""
        names = {segment.file for segment in segments}
        with contextlib.suppress(OSError):
            for path in self._folder.glob("*.parquet"):
                if path.name not in names:
                    path.unlink(missing_ok=True)


def damaged(database: Database, segment: Segment, what: str) -> errors.DataLossError:
    """The error to raise for a segment that is not as it was stored."""
    return _damaged(database, segment.number, what)


def _damaged(database: Database, number: int, what: str) -> errors.DataLossError:
    return errors.DataLossError(
        f"{database.name}: segment {number} is damaged: {what}; run `eventstore verify` and "
        "restore it from a backup"
    )
