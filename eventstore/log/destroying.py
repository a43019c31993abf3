"""Rewrite sealed segments without what is erased, each whole: a Parquet file is never changed.

Its dictionaries and statistics would keep it otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from eventstore import errors
from eventstore.log import compacting, sealing
from eventstore.log.closed_segments import ClosedSegments, SegmentMovedError, segment_of
from eventstore.log.commit import records_of
from eventstore.log.concealing import concealed_batches
from eventstore.log.creation import LOG_FOLDER
from eventstore.log.erased import Erased, Spans
from eventstore.log.leaf import leaf_hashes
from eventstore.log.log import Progress, RewrittenFile
from eventstore.log.manifest import Manifest, Segment, read_manifest, sealed_name
from eventstore.log.merkle import Frontier
from eventstore.log.sealing import write_parquet

if TYPE_CHECKING:
    import pyarrow as pa

Replace = Callable[[Segment, Segment, Path], None]
"""Puts a file that was written durably, with its entry, in the place of a segment's."""


def rewrite_segments(
    directory: Path, erased: Erased, replace: Replace, progress: Progress | None
) -> list[RewrittenFile]:
    """Rewrite each sealed segment of a store that still has any of it: see `Log.destroy`.

    Only under the lock for sealing. Raises DataLossError for a segment that is damaged.
    """
    concerned = [
        segment
        for segment in read_manifest(directory).segments
        if erased.within(segment.first_position, segment.last_position)
    ]
    records = sum(segment.last_position - segment.first_position + 1 for segment in concerned)
    files, done = [], 0
    for segment in concerned:
        entry = _rewritten(directory, segment.first_position, erased, replace)
        # A segment without this was written as it is: what is erased was never in it.
        if entry.rewritten_from:
            files.append(RewrittenFile(entry.number, entry.rewritten_from[-1], entry.file_sha256))
        done += entry.last_position - entry.first_position + 1
        if progress is not None:
            progress(done, records)
    return files


def _rewritten(directory: Path, position: int, erased: Erased, replace: Replace) -> Segment:
    """The entry of the segment that holds a position, once it has nothing of what is erased."""
    closed = ClosedSegments(directory / LOG_FOLDER)
    missing = None
    while True:
        manifest = read_manifest(directory)
        segment = segment_of(manifest.segments, position)
        assert segment is not None, f"position {position} is in no closed segment"
        here = erased.within(segment.first_position, segment.last_position)
        try:
            if not is_left(closed, segment, here):
                return segment
            prepared, entry = _prepared(directory, closed, manifest, segment, here)
        except SegmentMovedError:
            # Another process may be rewriting it, since the lock for sealing can be removed.
            if segment == missing:
                raise errors.DataLossError(
                    f"segment {segment.number} is missing: "
                    f"{directory / LOG_FOLDER / segment.file}; restore it from a backup"
                ) from None
            missing = segment
            continue
        replace(segment, entry, prepared)


def is_left(closed: ClosedSegments, segment: Segment, erased: Erased) -> bool:
    """Whether the segment's file has any of what is erased of it."""
    names = ["commitment", "who_commitment"]
    after = segment.first_position - 1
    for batch in closed.batches(segment, after, segment.last_position, names, derived=False):
        here = erased.within(after + 1, after + batch.num_rows)
        if _lacks(batch.column("commitment"), here.content, after + 1) or _lacks(
            batch.column("who_commitment"), here.who, after + 1
        ):
            return True
        after += batch.num_rows
    return False


def _lacks(commitments: pa.Array, spans: Spans, first_position: int) -> bool:
    return any(
        commitments.slice(first - first_position, last - first + 1).null_count
        for first, last in spans
    )


def _prepared(
    directory: Path, closed: ClosedSegments, manifest: Manifest, segment: Segment, erased: Erased
) -> tuple[Path, Segment]:
    """Write the segment without what is erased, durably, under a temporary name.

    Gives that name and the segment's new entry for the manifest.
    """
    from eventstore.log.columns import RECORD_SCHEMA, release_unused

    first, last = segment.first_position, segment.last_position
    stored = closed.batches(segment, first - 1, last, RECORD_SCHEMA.names, derived=True)
    frontier = _frontier_before(manifest, segment)
    groups = _added_up(
        concealed_batches(stored, erased, first), manifest.store_id, frontier, segment
    )
    # Of a name that is known for temporary files.
    name = f"{sealed_name(segment.number)}.{os.urandom(8).hex()}.tmp"
    path = directory / LOG_FOLDER / name
    digest = write_parquet(groups, path, manifest.store_id, segment.number)
    release_unused()
    if frontier.head().hex() != segment.tree_head:
        path.unlink(missing_ok=True)
        raise errors.DataLossError(
            f"segment {segment.number}, {directory / LOG_FOLDER / segment.file}, is damaged: its "
            "records do not give its tree head; run `eventstore verify` and restore it from a "
            "backup"
        )
    rewritten_from = (*segment.rewritten_from, segment.file_sha256)
    return path, msgspec.structs.replace(
        segment,
        file=sealed_name(segment.number, len(rewritten_from)),
        file_bytes=path.stat().st_size,
        file_sha256=digest,
        rewritten_from=rewritten_from,
    )


def _frontier_before(manifest: Manifest, segment: Segment) -> Frontier:
    before = segment_of(manifest.segments, segment.first_position - 1)
    if before is None:
        return Frontier()
    return Frontier(before.last_position, [bytes.fromhex(head) for head in before.frontier])


def _added_up(
    groups: Iterable[pa.RecordBatch], store_id: UUID, frontier: Frontier, segment: Segment
) -> Iterator[pa.RecordBatch]:
    """The same groups, as short as they are written; their leaves are appended to the frontier."""
    is_merged = segment.first_number is not None
    rows = compacting.ROWS_PER_GROUP if is_merged else sealing.ROWS_PER_GROUP
    for group in groups:
        frontier.extend(leaf_hashes(store_id, records_of(group)))
        for start in range(0, group.num_rows, rows):
            yield group.slice(start, rows)
