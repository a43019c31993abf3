"""Make a store anew of commits that were recorded before, all of it sealed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

from eventstore.log.creation import LOG_FOLDER, start_segment
from eventstore.log.manifest import Manifest, Segment, write_manifest
from eventstore.log.merkle import Frontier
from eventstore.log.record import Commit
from eventstore.log.recorded import grouped, take_leaves, written_segment
from eventstore.log.sealing import move_into_place
from eventstore.log.syncing import sync_directory
from eventstore.times import Microseconds


def recreate(
    directory: Path, store_id: UUID, created_at: Microseconds, commits: Iterable[Commit]
) -> None:
    """Write the store of these commits into an empty directory, durably.

    The commits are all there are, in order, and may have records that are erased. Raises
    DataLossError when the records do not give a commit's tree head.
    """
    folder = directory / LOG_FOLDER
    folder.mkdir()
    segments: list[Segment] = []
    frontier = Frontier()
    number, recorded_at = 0, Microseconds(0)
    for some in grouped(commits):
        take_leaves(store_id, some, frontier, number=number, recorded_at=recorded_at)
        with written_segment(folder, store_id, len(segments) + 1, some, frontier) as written:
            prepared, entry = written
            move_into_place(prepared, folder / entry.file)
        segments.append(entry)
        number, recorded_at = entry.last_commit, entry.last_recorded_at
    active = start_segment(folder, store_id, len(segments) + 1, first_position=frontier.size + 1)
    sync_directory(folder)
    # Last: what has no manifest is no store.
    write_manifest(
        directory,
        Manifest(
            store_id=store_id,
            created_at=created_at,
            generation=1,
            segments=tuple(segments),
            active=active,
        ),
    )
    sync_directory(directory)
