"""Turn commits that a server keeps into a sealed segment, which it then has, too."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from eventstore import errors
from eventstore.log.cache_file import temporary_beside
from eventstore.log.commit import records_of
from eventstore.log.ipc_message import UndecodableError, message_envelope
from eventstore.log.ipc_stream import Messages
from eventstore.log.leaf import leaf_hashes
from eventstore.log.log import PositionConflictError
from eventstore.log.manifest import Segment, sealed_name
from eventstore.log.merkle import Frontier
from eventstore.log.os_errors import translating
from eventstore.log.record import Commit, Record
from eventstore.log.recorded import take_leaves, written_segment
from eventstore.log.remote.keeper import Keeper
from eventstore.log.sealing import (
    derived_batches,
    file_sha256,
    footer_of,
    grouped_batches,
    sealed_batches,
    write_parquet,
)
from eventstore.times import Microseconds

if TYPE_CHECKING:
    import pyarrow as pa


def seal_commits(
    keeper: Keeper, store_id: UUID, messages: Messages, before: Segment | None, folder: Path
) -> None:
    """Store the segment of some commits, which follow on the segment before.

    Where another process has stored one of that number first, its segment stays. The commits stay
    as well: taking them away would need a right that the store does without.
    """
    number = before.number + 1 if before else 1
    name = sealed_name(number)
    frontier = frontier_after(before)
    with translating("writing", folder):
        folder.mkdir(parents=True, exist_ok=True)
    with translating("writing", folder / name), temporary_beside(folder / name) as file:
        path = Path(file.name)
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
        if keeper.add_segment(entry, path):
            # Spares fetching it.
            with translating("moving into place", path):
                os.replace(path, folder / name)


def add_recorded(
    keeper: Keeper,
    store_id: UUID,
    commits: Sequence[Commit],
    before: Segment | None,
    folder: Path,
) -> None:
    """Store commits that another log has recorded as a segment, after the one before, and no more.

    Raises PositionConflictError when somebody else was faster, and what `take_leaves` does.
    """
    frontier = frontier_after(before)
    number, recorded_at = (before.last_commit, before.last_recorded_at) if before else (0, 0)
    take_leaves(
        *(store_id, commits, frontier), number=number, recorded_at=Microseconds(recorded_at)
    )
    folder.mkdir(parents=True, exist_ok=True)
    segment = before.number + 1 if before else 1
    with written_segment(folder, store_id, segment, commits, frontier) as (prepared, entry):
        if not keeper.add_recorded(commits, entry, prepared):
            raise PositionConflictError(f"{keeper.name} is further on than commit {number}")
        os.replace(prepared, folder / entry.file)


def frontier_after(segment: Segment | None) -> Frontier:
    """The edge of the tree at the end of a segment, or of an empty log."""
    if segment is None:
        return Frontier()
    return Frontier(segment.last_position, [bytes.fromhex(head) for head in segment.frontier])


def entry_of(
    path: Path, store_id: UUID, number: int, before: Segment | None
) -> tuple[Segment, int]:
    """The entry of a segment's file that somebody else wrote, and where its last commit begins.

    Raises DataLossError for a file that cannot follow on the segment before.
    """
    frontier = frontier_after(before)
    columns = [*Record.__struct_fields__, "tree_head"]
    rows = footer_of(path).num_rows
    first: Record | None = None
    last_commit = begins = 0
    for batch in sealed_batches(path, 0, rows, columns):
        _add_leaves(batch, store_id, frontier)
        for record in records_of(batch):
            first = first or record
            if record.commit != last_commit:
                last_commit, begins = record.commit, record.position
    position, commit = (before.last_position, before.last_commit) if before else (0, 0)
    if first is None or (first.position, first.commit) != (position + 1, commit + 1):
        raise errors.DataLossError(f"{path.name} has other commits than those that follow")
    return (
        Segment(
            number=number,
            sealed=True,
            file=sealed_name(number),
            file_bytes=path.stat().st_size,
            file_sha256=file_sha256(path),
            first_position=first.position,
            last_position=record.position,
            first_commit=first.commit,
            last_commit=record.commit,
            first_recorded_at=first.recorded_at,
            last_recorded_at=record.recorded_at,
            tree_head=frontier.head().hex(),
            frontier=tuple(subtree.hex() for subtree in frontier.subtrees),
        ),
        begins,
    )


def _groups(messages: Messages, store_id: UUID, frontier: Frontier) -> Iterator[pa.RecordBatch]:
    """The row groups of a segment; the leaves of its records are appended to the frontier.

    Raises DataLossError for commits that do not give their tree head.
    """
    try:
        for batch in grouped_batches(messages.data, [0, *messages.ends]):
            for group in derived_batches(batch):
                _add_leaves(group, store_id, frontier)
                yield group
    except UndecodableError as error:
        raise messages.damaged(error) from None


def _add_leaves(group: pa.RecordBatch, store_id: UUID, frontier: Frontier) -> None:
    """Append the leaves of records. Raises DataLossError unless they give their tree heads."""
    heads = group.column("tree_head").to_pylist()
    for leaf, head in zip(leaf_hashes(store_id, records_of(group)), heads, strict=True):
        frontier.append(leaf)
        if head is not None and head != frontier.head():
            raise errors.DataLossError(
                f"the records up to position {frontier.size} do not give the tree head of their "
                "commit: run `eventstore verify`"
            )
