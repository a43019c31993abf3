"""The commits and sealed segments of a log, in the tables of a SQL database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import sqlalchemy as sa

from eventstore.log.closed_segments import ClosedSegments, SegmentMovedError
from eventstore.log.commit import has_valid_checksum
from eventstore.log.ipc_message import UndecodableError, commit_of_message, message_envelope
from eventstore.log.log import Finding
from eventstore.log.manifest import Manifest, Segment
from eventstore.log.record import Commit
from eventstore.log.remote.sealed_segments import damaged, fetching, in_order, read_entry
from eventstore.log.remote.verification import commits_in
from eventstore.log.sql.database import Database
from eventstore.log.sql.schema import COMMITS, LOG, PART_BYTES, PARTS, SEGMENTS
from eventstore.times import Microseconds

if TYPE_CHECKING:
    from eventstore.log.sql.segment_bucket import SegmentBucket

_ROWS_MAX: Final = 2_000


class SqlKeeper:
    """What `Keeper` describes, in a database that has the tables.

    Where segments have a bucket, their files are put there before there are rows that name them.
    """

    def __init__(self, database: Database, bucket: SegmentBucket | None = None) -> None:
        self.database = database
        self._bucket = bucket
        self.name = database.name
        self.place = database.place

    def now(self) -> Microseconds:
        return self.database.now()

    def created_at(self) -> Microseconds:
        (created_at,) = self.database.rows(sa.select(LOG.c.created_at))[0]
        return Microseconds(created_at)

    def segments(self) -> tuple[Segment, ...]:
        found: dict[int, Segment] = {}
        statement = sa.select(SEGMENTS).order_by(SEGMENTS.c.number, SEGMENTS.c.rewriting)
        for number, rewriting, entry in self.database.rows(statement):
            kept_as = f"the row of {SEGMENTS.name}, number {number},"
            segment = read_entry(self.name, number, bytes(entry), kept_as)
            if len(segment.rewritten_from) != rewriting:
                raise damaged(self.name, segment, "its entry is that of another one")
            found[number] = segment
        return in_order(self.name, found.values())

    def messages_after(self, segment: Segment | None) -> Iterator[bytes]:
        for row in self._rows(segment.last_commit if segment is not None else 0):
            yield bytes(row.message or b"")

    def file_of(self, segment: Segment) -> str:
        return self.url_of(segment) or f"{PARTS.name}, number {segment.number}"

    def url_of(self, segment: Segment) -> str | None:
        return self._bucket.url_of(segment) if self._bucket is not None else None

    def fetch(self, segment: Segment, path: Path) -> None:
        if self._bucket is not None:
            self._bucket.fetch(segment, path)
            return
        statement = (
            sa.select(PARTS.c.content)
            .where(
                PARTS.c.number == segment.number,
                PARTS.c.rewriting == len(segment.rewritten_from),
            )
            .order_by(PARTS.c.part)
        )
        parts = self.database.connected("reading", lambda c: c.scalars(statement).all())
        if not parts:
            raise SegmentMovedError(segment)
        with fetching(path) as file:
            file.writelines(parts)

    def add_segment(self, entry: Segment, path: Path) -> bool:
        parts = self._parts_of(entry, path)
        try:
            with self.database.transaction("sealing in") as connection:
                store_segment(connection, entry, parts)
        except sa.exc.IntegrityError:
            return False
        return True

    def add_recorded(self, commits: Sequence[Commit], entry: Segment, path: Path) -> bool:
        parts = self._parts_of(entry, path)
        try:
            with self.database.transaction("copying into") as connection:
                insert_recorded(connection, commits, entry, parts)
        except sa.exc.IntegrityError:
            return False
        return True

    def replace_segment(self, before: Segment, entry: Segment, path: Path) -> None:
        """At once, together with the messages of its commits."""
        parts = self._parts_of(entry, path)
        with self.database.transaction("erasing in") as connection:
            store_segment(connection, entry, parts)
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

    def refuse_no_right(self) -> None:
        with self.database.transaction("erasing in") as connection:
            # There are none of these.
            connection.execute(COMMITS.update().where(COMMITS.c.number < 0).values(message=None))
            for table in (PARTS, SEGMENTS):
                connection.execute(table.delete().where(table.c.number < 0))
        if self._bucket is not None:
            self._bucket.refuse_no_right()

    def finish_erasing(self, segments: Sequence[Segment], first_positions: Iterable[int]) -> None:  # noqa: ARG002
        """In the database nothing is left: what is replaced is so at once."""
        if self._bucket is not None:
            self._bucket.remove_others(segments)

    def faults(
        self,
        closed: ClosedSegments,
        manifest: Manifest,
        tell: Callable[[str], None],
    ) -> Iterator[Finding]:
        if self._bucket is not None:
            yield from _faults_of_others(self._bucket, manifest, tell)
        commit = 0
        for segment in manifest.segments:
            commit = segment.last_commit
            rows = self._rows(segment.first_commit - 1, commit)
            for row, stored in zip_longest(rows, commits_in(closed, segment)):
                fault = _fault(row, stored)
                if fault is not None:
                    commit = stored.number if stored is not None else row.number
                    what = f"commit {commit}: {fault}"
                    yield Finding(what, segment=segment.number, commit=commit)
                    return
        for row in self._rows(commit):
            commit += 1
            fault = _fault_of_row(row, commit)
            if fault is not None:
                yield Finding(f"commit {commit}: {fault}", commit=commit)
                return

    def close(self) -> None:
        self.database.close()

    def _parts_of(self, entry: Segment, path: Path) -> Path | None:
        """A segment's file if it is to be kept in parts, None once it is put elsewhere."""
        if self._bucket is None:
            return path
        self._bucket.put(entry, path)
        return None

    def _rows(self, after: int, upto: int | None = None) -> Iterator[sa.Row[tuple[object, ...]]]:
        """The rows of the commits whose numbers lie in (after, upto], in order."""
        while True:
            statement = sa.select(COMMITS).where(COMMITS.c.number > after)
            if upto is not None:
                statement = statement.where(COMMITS.c.number <= upto)
            rows = self.database.rows(statement.order_by(COMMITS.c.number).limit(_ROWS_MAX))
            yield from rows
            if len(rows) < _ROWS_MAX:
                return
            after = rows[-1].number


def insert_recorded(
    connection: sa.Connection, commits: Iterable[Commit], entry: Segment, parts: Path | None
) -> None:
    """Insert a segment, and rows of its commits, which have no messages: as `store_segment`."""
    rows = [
        {
            "number": commit.number,
            "first_position": commit.first_position,
            "last_position": commit.last_position,
            "recorded_at": commit.recorded_at,
            "tree_head": commit.tree_head,
            "message": None,
        }
        for commit in commits
    ]
    connection.execute(COMMITS.insert(), rows)
    store_segment(connection, entry, parts)


def store_segment(connection: sa.Connection, entry: Segment, parts: Path | None) -> None:
    """Insert a segment's entry, and a file in parts. IntegrityError when its number is taken."""
    key = {"number": entry.number, "rewriting": len(entry.rewritten_from)}
    connection.execute(SEGMENTS.insert(), key | {"entry": msgspec.json.encode(entry)})
    if parts is None:
        return
    with open(parts, "rb") as file:
        part = 0
        while content := file.read(PART_BYTES):
            part += 1
            connection.execute(PARTS.insert(), key | {"part": part, "content": content})


def _faults_of_others(
    bucket: SegmentBucket, manifest: Manifest, tell: Callable[[str], None]
) -> Iterator[Finding]:
    """Objects that no row names. In the place of rewritten ones they may have what is erased."""
    for key, segment in bucket.others(manifest.segments):
        if segment.rewritten_from:
            yield Finding(
                f"the object {bucket.name}/{key} is of no segment: open the store to write, which "
                "goes on with an erasure that was interrupted",
                segment=segment.number,
            )
        else:
            tell(
                f"the object {bucket.name}/{key}, which nothing names: the next erasing removes it"
            )


def _fault(row: Any, stored: Commit | None) -> str | None:
    """What is wrong with the row of a commit that a segment has."""
    if row is None or stored is None or row.number != stored.number:
        return "it has no row, or more than one"
    said = (row.first_position, row.last_position, row.recorded_at, bytes(row.tree_head))
    known = (stored.first_position, stored.last_position, stored.recorded_at, stored.tree_head)
    if said != known:
        return "its row says something else than its sealed segment"
    if row.message is None:
        return None
    message = bytes(row.message)
    if not has_valid_checksum(memoryview(message)):
        return "its message does not match its checksum"
    if commit_of_message(message) != stored:
        return "its message has something else than its sealed segment"
    return None


def _fault_of_row(row: Any, number: int) -> str | None:
    """What is wrong with the row of a commit that is in no segment; its message is sound."""
    if row.message is None:
        return "its row has no message, and no segment has it"
    try:
        envelope = message_envelope(memoryview(bytes(row.message)))
    except UndecodableError as error:
        return str(error)
    said = (row.number, row.last_position, row.recorded_at, row.first_position)
    if tuple(envelope) != said or row.number != number:
        return "its row says something else than its message"
    commit = commit_of_message(bytes(row.message))
    if commit is None or commit.tree_head != bytes(row.tree_head):
        return "its row has another tree head than its message"
    return None
