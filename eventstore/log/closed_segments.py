"""Read the segments that take no more commits, Parquet or not yet, and find one's way in them."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eventstore import errors
from eventstore.log import sealing
from eventstore.log.log import SealedFile
from eventstore.log.manifest import Segment
from eventstore.log.os_errors import translated
from eventstore.log.record import LATEST
from eventstore.times import Microseconds

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as parquet

_CACHED_COLUMNS_MAX = 4
_CACHED_FOOTERS_MAX = 64
"""Each takes a few hundred kilobytes in memory."""


class SegmentMovedError(Exception):
    """The segment's file is gone: it was sealed meanwhile, or it is lost. The manifest knows."""

    def __init__(self, segment: Segment) -> None:
        super().__init__(segment.file)
        self.segment = segment


class ClosedSegments:
    """The closed and sealed segments in a folder. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._columns: dict[tuple[int, int, str], pa.Int64Array] = {}
        self._footers: dict[str, parquet.FileMetaData] = {}
        """By the SHA-256 of the file, for who reads many single records."""
        self._mutex = threading.Lock()
        """Held for `_columns` and `_footers` alone, never while a file is read."""
        self._checked: dict[str, tuple[int, ...]] = {}

    def batches(
        self, segment: Segment, after: int, upto: int, columns: Sequence[str], *, derived: bool
    ) -> Iterator[pa.RecordBatch]:
        """The segment's records in (after, upto], all of whose positions it holds.

        Before the first batch it raises SegmentMovedError when the file is not there, at any time
        DataLossError when it is damaged.
        """
        path = self._folder / segment.file
        self.check(segment)
        first_row, end_row = after + 1 - segment.first_position, upto + 1 - segment.first_position
        try:
            if segment.sealed:
                from eventstore.log.columns import RECORD_SCHEMA

                known = [name for name in columns if name in RECORD_SCHEMA.names]
                footer = self._footers.get(segment.file_sha256)
                sealed = sealing.sealed_batches(path, first_row, end_row, known, footer)
                yield from _as_written(segment, path, after, upto, sealed)
                return
            from eventstore.log.columns import with_commitments

            groups = sealing.closed_batches(path, segment)
            rows = _rows(groups, first_row, end_row)
            for batch in _as_written(segment, path, after, upto, rows):
                yield from sealing.derived_batches(batch) if derived else (with_commitments(batch),)
        except errors.NotFoundError:
            raise SegmentMovedError(segment) from None

    def check(self, segment: Segment) -> None:
        """Compare the segment's file with the manifest, unless it is unchanged since last time.

        Raises what `batches` does.
        """
        path = self._folder / segment.file
        try:
            status = path.stat()
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if self._checked.get(segment.file) == stamp:
                return
            is_sound = sealing.file_sha256(path) == segment.file_sha256
        except FileNotFoundError:
            raise SegmentMovedError(segment) from None
        except OSError as error:
            raise translated(error, "reading", path) from None
        if not is_sound:
            raise errors.DataLossError(
                f"segment {segment.number} (positions {segment.first_position} to "
                f"{segment.last_position}) is damaged: {path}; run `eventstore verify` and restore "
                "it from a backup"
            )
        self._checked[segment.file] = stamp

    def stretch_of(self, segment: Segment, position: int) -> tuple[int, int]:
        """The first and last position of the row group of a sealed segment that holds one.

        Raises what `batches` does.
        """
        path, first = self._folder / segment.file, segment.first_position
        self.check(segment)
        footer = self._footers.get(segment.file_sha256)
        if footer is None:
            try:
                footer = sealing.footer_of(path)
            except errors.NotFoundError:
                raise SegmentMovedError(segment) from None
            with self._mutex:
                while len(self._footers) >= _CACHED_FOOTERS_MAX:
                    self._footers.pop(next(iter(self._footers)))
                self._footers[segment.file_sha256] = footer
        for group in range(footer.num_row_groups):
            end = first + footer.row_group(group).num_rows
            if position < end:
                return first, end - 1
            first = end
        raise _damaged(segment, path, f"it has no position {position}")

    def commit_end(self, segment: Segment, position: int) -> int:
        """The last position of the newest commit that ends at or before one in the segment."""
        if position == segment.last_position:
            return position
        commits = self._column(segment, "commit")
        row = position - segment.first_position
        number = commits[row].as_py()
        if commits[row + 1].as_py() != number:
            return position
        first_row = bisect.bisect_left(range(row), number, key=lambda i: commits[i].as_py())
        return segment.first_position + first_row - 1

    def position_at(self, segment: Segment, recorded_at: Microseconds) -> int:
        """The segment's last position recorded at or before a moment (µs)."""
        if recorded_at >= segment.last_recorded_at:
            return segment.last_position
        moments = self._column(segment, "recorded_at")
        rows = bisect.bisect_right(
            range(len(moments)), recorded_at, key=lambda i: moments[i].as_py()
        )
        return segment.first_position + rows - 1

    def recorded_at(self, segment: Segment, position: int) -> Microseconds:
        """When the record at a position of the segment was recorded (µs)."""
        if position == segment.last_position:
            return segment.last_recorded_at
        moments = self._column(segment, "recorded_at")
        return Microseconds(moments[position - segment.first_position].as_py())

    def _column(self, segment: Segment, name: str) -> pa.Int64Array:
        # Not by its number, which a merged segment takes over.
        key = (segment.first_position, segment.last_position, name)
        found = self._columns.get(key)
        if found is None:
            import pyarrow as pa

            batches = self.batches(
                segment, segment.first_position - 1, segment.last_position, [name], derived=False
            )
            column = pa.Table.from_batches([batch.select([name]) for batch in batches])[name]
            # Not by a cast, for which Arrow imports all its functions.
            chunks = [chunk.view(pa.int64()) for chunk in column.chunks]
            # A copy: a slice would keep all that was read with it.
            found = pa.concat_arrays(chunks)
            with self._mutex:
                while len(self._columns) >= _CACHED_COLUMNS_MAX:
                    self._columns.pop(next(iter(self._columns)))
                self._columns[key] = found
        return found


def _rows(batches: Iterable[pa.RecordBatch], first: int, end: int) -> Iterator[pa.RecordBatch]:
    """Rows [first, end) of consecutive batches."""
    row = 0
    for batch in batches:
        start, stop = max(first - row, 0), min(end - row, batch.num_rows)
        row += batch.num_rows
        if start < stop:
            yield batch.slice(start, stop - start)
        if row >= end:
            # What follows would be decoded for nothing.
            return


def sealed_files(folder: Path, segments: Iterable[Segment]) -> list[SealedFile]:
    """The files of those that are sealed."""
    return [
        SealedFile(
            folder / segment.file,
            segment.file_bytes,
            segment.file_sha256,
            segment.first_position,
            segment.last_position,
        )
        for segment in segments
        if segment.sealed
    ]


def _as_written(
    segment: Segment, path: Path, after: int, upto: int, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """The same batches, which are to hold the records in (after, upto].

    A file can match its SHA-256 in the manifest although no store has written it. Raises
    DataLossError unless the columns read can be those of these records.
    """
    position, recorded_at = after, 0
    for batch in filter(len, batches):
        names, rows = batch.schema.names, range(position + 1, position + 1 + len(batch))
        if "position" in names and _integers(batch, "position") != [*rows]:
            what = f"positions {rows[0]} to {rows[-1]} are numbered otherwise"
            raise _damaged(segment, path, what)
        if "recorded_at" in names:
            moments = _integers(batch, "recorded_at")
            if moments[0] < recorded_at or moments[-1] > LATEST or moments != sorted(moments):
                what = f"positions {rows[0]} to {rows[-1]} hold no times in order"
                raise _damaged(segment, path, what)
            recorded_at = moments[-1]
        position += len(batch)
        # Else a commit would go on in the next segment, to whoever reads both.
        is_last = position == segment.last_position
        if is_last and "tree_head" in names and not batch.column("tree_head")[-1].is_valid:
            raise _damaged(segment, path, "its last record is not the last of a commit")
        yield batch
    if position != upto:
        raise _damaged(segment, path, f"it has records up to position {position} of {upto}")


def _damaged(segment: Segment, path: Path, what: str) -> errors.DataLossError:
    return errors.DataLossError(
        f"segment {segment.number}, {path}, is damaged: {what}; run `eventstore verify` and "
        "restore it from a backup"
    )


def _integers(batch: pa.RecordBatch, name: str) -> list[int]:
    """The values of a column of 64 bits each, none of which is null."""
    column = batch.column(name)
    values = memoryview(column.buffers()[1]).cast("q")
    found: list[int] = values[column.offset : column.offset + len(column)].tolist()
    return found


def segment_of(segments: Sequence[Segment], position: int) -> Segment | None:
    """The segment that holds a position, None when it lies after or before all of them."""
    index = bisect.bisect_left(segments, position, key=lambda segment: segment.last_position)
    if index == len(segments) or position < segments[index].first_position:
        return None
    return segments[index]


def segment_at(segments: Sequence[Segment], recorded_at: Microseconds) -> Segment | None:
    """The last segment that begins at or before a moment (µs)."""
    starts = [segment.first_recorded_at for segment in segments]
    index = bisect.bisect_right(starts, recorded_at) - 1
    return segments[index] if index >= 0 else None
