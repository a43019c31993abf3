"""Make a store anew of commits that were recorded before, all of it sealed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

from eventstore import errors
from eventstore.log.creation import LOG_FOLDER, start_segment
from eventstore.log.leaf import leaf_hashes
from eventstore.log.manifest import Manifest, Segment, sealed_name, write_manifest
from eventstore.log.merkle import Frontier
from eventstore.log.record import Commit
from eventstore.log.sealing import derived_batches, file_sha256, move_into_place, write_parquet
from eventstore.log.syncing import sync_directory
from eventstore.times import Microseconds

if TYPE_CHECKING:
    import pyarrow as pa

_SEGMENT_RECORDS: Final = 65_536
"""About so many records become a segment, and of long ones as many as `_SEGMENT_BYTES` have."""

_SEGMENT_BYTES: Final = 32 * 1024 * 1024


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
    for some in grouped(commits):
        segments.append(_written(folder, store_id, len(segments) + 1, some, frontier))
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


def grouped(commits: Iterable[Commit]) -> Iterator[list[Commit]]:
    """The commits in groups, each of about so many records that it makes a segment."""
    some: list[Commit] = []
    records = size = 0
    for commit in commits:
        some.append(commit)
        records += len(commit.records)
        size += sum(len(record.payload or b"") for record in commit.records)
        if records >= _SEGMENT_RECORDS or size >= _SEGMENT_BYTES:
            yield some
            some, records, size = [], 0, 0
    if some:
        yield some


def _written(
    folder: Path, store_id: UUID, number: int, commits: Sequence[Commit], frontier: Frontier
) -> Segment:
    for commit in commits:
        frontier.extend(leaf_hashes(store_id, commit.records))
        if frontier.size != commit.last_position or frontier.head() != commit.tree_head:
            raise errors.DataLossError(
                f"the records up to commit {commit.number} do not give its tree head: they are not "
                "those that were put"
            )
    name = sealed_name(number)
    prepared = folder / f"{name}.{os.urandom(8).hex()}.tmp"
    write_parquet(derived_batches(_batch(commits)), prepared, store_id, number)
    move_into_place(prepared, folder / name)
    first, last = commits[0], commits[-1]
    return Segment(
        number=number,
        sealed=True,
        file=name,
        file_bytes=(folder / name).stat().st_size,
        file_sha256=file_sha256(folder / name),
        first_position=first.first_position,
        last_position=last.last_position,
        first_commit=first.number,
        last_commit=last.number,
        first_recorded_at=first.recorded_at,
        last_recorded_at=last.recorded_at,
        tree_head=last.tree_head.hex(),
        frontier=tuple(subtree.hex() for subtree in frontier.subtrees),
    )


def _batch(commits: Sequence[Commit]) -> pa.RecordBatch:
    """The records of commits in the columns of RECORD_SCHEMA that are not derived."""
    import pyarrow as pa

    from eventstore.log.columns import DERIVED_NAMES, RECORD_SCHEMA

    records = list(chain.from_iterable(commit.records for commit in commits))
    heads = [head for commit in commits for head in commit.tree_heads]
    fields = [field for field in RECORD_SCHEMA if field.name not in DERIVED_NAMES]
    arrays = [
        pa.array(
            heads
            if field.name == "tree_head"
            else [getattr(record, field.name) for record in records],
            field.type,
        )
        for field in fields
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
