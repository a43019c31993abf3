"""Turn commits of a SQL database into a sealed segment, which it then has, too."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import sqlalchemy as sa

from eventstore import errors
from eventstore.log.cache_file import TEMPORARY_SUFFIX
from eventstore.log.commit import records_of
from eventstore.log.file_lock import try_exclusive
from eventstore.log.ipc_message import UndecodableError, message_envelope
from eventstore.log.ipc_stream import Messages
from eventstore.log.leaf import leaf_hashes
from eventstore.log.log import PositionConflictError
from eventstore.log.manifest import Segment, sealed_name
from eventstore.log.merkle import Frontier
from eventstore.log.os_errors import translating
from eventstore.log.record import Commit
from eventstore.log.recorded import take_leaves, written_segment
from eventstore.log.sealing import derived_batches, file_sha256, grouped_batches, write_parquet
from eventstore.log.sql.database import Database
from eventstore.log.sql.schema import COMMITS
from eventstore.log.sql.sealed_segments import store_segment
from eventstore.times import Microseconds

if TYPE_CHECKING:
    import pyarrow as pa


def seal_commits(
    database: Database, store_id: UUID, messages: Messages, before: Segment | None, folder: Path
) -> None:
    """Store the segment of some commits, which follow on the segment before.

    Where another process has stored one of that number first, its segment stays. The rows of the
    commits stay as well: taking them away would need a right that the store does without.
    """
    number = before.number + 1 if before else 1
    name = sealed_name(number)
    frontier = frontier_after(before)
    path = folder / f"{name}.{os.urandom(8).hex()}{TEMPORARY_SUFFIX}"
    with translating("writing", path):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with translating("writing", path), open(path, "xb") as held:
            # As `written_whole` does.
            with contextlib.suppress(OSError):
                try_exclusive(held.fileno())
            write_parquet(_groups(messages, store_id, frontier), path, store_id, number)
            starts = [0, *messages.ends]
            first = message_envelope(messages.data[: starts[1]])
            last = message_envelope(messages.data[starts[-2] :])
            entry = Segment(
                number=number,
                sealed=True,
                file=name,
                file_bytes=path.stat().st_size,
                file_sha256=file_sha256(path),
                first_position=first.first_position,
                last_position=last.last_position,
                first_commit=first.number,
                last_commit=last.number,
                first_recorded_at=first.recorded_at,
                last_recorded_at=last.recorded_at,
                tree_head=frontier.head().hex(),
                frontier=tuple(subtree.hex() for subtree in frontier.subtrees),
            )
            try:
                with database.transaction("sealing in") as connection:
                    store_segment(connection, entry, path)
            except sa.exc.IntegrityError:
                return
            # Spares fetching it.
            with translating("moving into place", path):
                os.replace(path, folder / name)
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def add_recorded(
    database: Database,
    store_id: UUID,
    commits: Sequence[Commit],
    before: Segment | None,
    folder: Path,
) -> None:
    """Store commits that another log has recorded as a segment, after the one before, and no more.

    Their rows have no messages. Raises PositionConflictError when somebody else was faster, and
    what `take_leaves` does.
    """
    frontier = frontier_after(before)
    number, recorded_at = (before.last_commit, before.last_recorded_at) if before else (0, 0)
    take_leaves(
        *(store_id, commits, frontier), number=number, recorded_at=Microseconds(recorded_at)
    )
    folder.mkdir(parents=True, exist_ok=True)
    segment = before.number + 1 if before else 1
    prepared, entry = written_segment(folder, store_id, segment, commits, frontier)
    try:
        with database.transaction("copying into") as connection:
            insert_recorded(connection, commits, entry, prepared)
        os.replace(prepared, folder / entry.file)
    except sa.exc.IntegrityError:
        raise PositionConflictError(f"{database.name} is further on than commit {number}") from None
    finally:
        with contextlib.suppress(OSError):
            prepared.unlink(missing_ok=True)


def insert_recorded(
    connection: sa.Connection, commits: Iterable[Commit], entry: Segment, path: Path
) -> None:
    """Insert a segment, and rows of its commits, which have no messages. Raises IntegrityError."""
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
    store_segment(connection, entry, path)


def frontier_after(segment: Segment | None) -> Frontier:
    """The edge of the tree at the end of a segment, or of an empty log."""
    if segment is None:
        return Frontier()
    return Frontier(segment.last_position, [bytes.fromhex(head) for head in segment.frontier])


def _groups(messages: Messages, store_id: UUID, frontier: Frontier) -> Iterator[pa.RecordBatch]:
    """The row groups of a segment; the leaves of its records are appended to the frontier.

    Raises DataLossError for commits that do not give their tree head.
    """
    try:
        for batch in grouped_batches(messages.data, [0, *messages.ends]):
            for group in derived_batches(batch):
                for leaf, head in zip(
                    leaf_hashes(store_id, records_of(group)),
                    group.column("tree_head").to_pylist(),
                    strict=True,
                ):
                    frontier.append(leaf)
                    if head is not None and head != frontier.head():
                        raise errors.DataLossError(
                            f"the records up to position {frontier.size} do not give the tree head "
                            "of their commit: run `eventstore verify`"
                        )
                yield group
    except UndecodableError as error:
        raise messages.damaged(error) from None
