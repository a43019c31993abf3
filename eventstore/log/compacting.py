"""Merge small sealed segments into large ones, in order of position: the same records and heads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, runtime_checkable
from uuid import UUID

import msgspec

from eventstore import errors
from eventstore.log.closed_segments import ClosedSegments
from eventstore.log.log import Log, Progress
from eventstore.log.manifest import Segment, sealed_name
from eventstore.log.sealing import write_parquet

if TYPE_CHECKING:
    import pyarrow as pa

TARGET_RECORDS: Final = 1_048_576
TARGET_BYTES: Final = 256 * 1024 * 1024

ROWS_PER_GROUP = 16_384
"""As many as FORMAT.md allows: engines read large files for whole row groups."""

_BYTES_PER_GROUP: Final = 16 * 1024 * 1024


_GROWS_FREELY: Final = 1 / 64
"""A file is rewritten for anything new until it has this share of a target."""


class Target(NamedTuple):
    """How large merged segments become at most. Those that reach half of either stay."""

    records: int = TARGET_RECORDS
    file_bytes: int = TARGET_BYTES

    def share(self, segments: Sequence[Segment]) -> float:
        """How much of a whole merged segment some are; above 1 they are too large for one."""
        return max(records_in(segments) / self.records, bytes_in(segments) / self.file_bytes)


class MergedSegments(msgspec.Struct, frozen=True):
    """Segments that were merged, or would be: from `first_number` to `number`, in that many files.

    `new_bytes` is the length of the merged file, None where nothing was written.
    """

    first_number: int
    number: int
    first_position: int
    last_position: int
    files: int
    old_bytes: int
    new_bytes: int | None = None


@runtime_checkable
class Compacts(Protocol):
    """A log whose sealed segments can be merged."""

    def compact(
        self, target: Target, progress: Progress | None = None, *, dry_run: bool = False
    ) -> list[MergedSegments]:
        """Merge neighbouring sealed segments until none are left to; what was merged, in order.

        With `dry_run` only what the first pass would merge. Others may append and read meanwhile.
        """


def compact(
    log: Log,
    progress: Progress | None = None,
    *,
    target_records: int | None = None,
    target_bytes: int | None = None,
    dry_run: bool = False,
) -> list[MergedSegments]:
    """Merge small sealed segments of a log: `MetadataStore.compact` says how."""
    target = Target(
        TARGET_RECORDS if target_records is None else target_records,
        TARGET_BYTES if target_bytes is None else target_bytes,
    )
    for name, value in zip(("target_records", "target_bytes"), target, strict=True):
        if not isinstance(value, int) or value < 1:
            raise errors.InvalidArgumentError(
                f"{name} is {value!r}: it has to be a whole number, 1 or more"
            )
    if not isinstance(log, Compacts):
        raise errors.UnimplementedError(
            f"{log.name} is in no directory, and only a store in one is compacted: copy it to "
            "one with `eventstore copy`, and compact that"
        )
    return log.compact(target, progress, dry_run=dry_run)


def records_in(segments: Sequence[Segment]) -> int:
    return segments[-1].last_position - segments[0].first_position + 1


def bytes_in(segments: Sequence[Segment]) -> int:
    return sum(segment.file_bytes for segment in segments)


def runs_to_merge(segments: Sequence[Segment], target: Target) -> Iterator[tuple[Segment, ...]]:
    """Neighbours that become one segment each, oldest first."""
    run: list[Segment] = []
    for segment in segments:
        is_small = segment.sealed and 2 * target.share([segment]) < 1
        if run and not (is_small and target.share([*run, segment]) <= 1):
            yield from _worth_merging(run, target)
            run = []
        if is_small:
            run.append(segment)
    yield from _worth_merging(run, target)


def _worth_merging(run: Sequence[Segment], target: Target) -> Iterator[tuple[Segment, ...]]:
    """What is left of a run without files that would be rewritten to grow by little.

    Else one that takes a little of what is new each night would be rewritten each night.
    """
    if len(run) < 2:
        return
    shares = [target.share([segment]) for segment in run]
    largest = max(shares)
    if largest < _GROWS_FREELY or 2 * (sum(shares) - largest) >= largest:
        yield tuple(run)
        return
    place = shares.index(largest)
    yield from _worth_merging(run[:place], target)
    yield from _worth_merging(run[place + 1 :], target)


def merged_files(run: Sequence[Segment], into: Segment | None = None) -> MergedSegments:
    """What is told of a run, and of what it became."""
    return MergedSegments(
        *(run[0].numbers.start, run[-1].number, run[0].first_position, run[-1].last_position),
        *(len(run), bytes_in(run), None if into is None else into.file_bytes),
    )


def prepared_merged(
    folder: Path,
    run: Sequence[Segment],
    store_id: UUID,
    written: Callable[[int], None],
) -> tuple[Path, Segment]:
    """Write some neighbours as one segment, durably, under a temporary name.

    Gives that name and the entry for the manifest. `written` is called with the number of rows of
    each row group. Raises SegmentMovedError where a file is missing, DataLossError where it is not
    as it was written.
    """
    from eventstore.log.columns import release_unused

    closed, number = ClosedSegments(folder), run[-1].number
    path = folder / f"{sealed_name(number)}.{os.urandom(8).hex()}.tmp"

    def told() -> Iterator[pa.RecordBatch]:
        for group in _groups(closed, run):
            yield group
            written(group.num_rows)

    digest = write_parquet(told(), path, store_id, number, lambda: _groups(closed, run))
    release_unused()
    return path, merged_entry(run, file_bytes=path.stat().st_size, file_sha256=digest)


def merged_entry(run: Sequence[Segment], *, file_bytes: int, file_sha256: str) -> Segment:
    """The entry of a segment that takes the place of some neighbours.

    Its name is that of no file before: each file that it replaces counts as a rewriting.
    """
    first, last = run[0], run[-1]
    rewritten_from = tuple(
        replaced for segment in run for replaced in (*segment.rewritten_from, segment.file_sha256)
    )
    return msgspec.structs.replace(
        last,
        file=sealed_name(last.number, len(rewritten_from)),
        file_bytes=file_bytes,
        file_sha256=file_sha256,
        first_position=first.first_position,
        first_commit=first.first_commit,
        first_recorded_at=first.first_recorded_at,
        rewritten_from=rewritten_from,
        first_number=first.numbers.start,
    )


def _groups(closed: ClosedSegments, run: Sequence[Segment]) -> Iterator[pa.RecordBatch]:
    """All records of a run as row groups of a merged segment."""
    from eventstore.log.columns import RECORD_SCHEMA, one_batch

    held: list[pa.RecordBatch] = []
    rows = size = 0
    for segment in run:
        first, last = segment.first_position, segment.last_position
        batches = closed.batches(segment, first - 1, last, RECORD_SCHEMA.names, derived=True)
        for batch in batches:
            batch = batch.replace_schema_metadata(None)
            if held and (
                rows + batch.num_rows > ROWS_PER_GROUP or size + batch.nbytes > _BYTES_PER_GROUP
            ):
                yield one_batch(held)
                held, rows, size = [], 0, 0
            held.append(batch)
            rows, size = rows + batch.num_rows, size + batch.nbytes
    yield one_batch(held)
