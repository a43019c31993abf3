"""Read a log that consists of segments, which take no more commits, and a tail, which does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from eventstore import errors
from eventstore.log.closed_segments import (
    ClosedSegments,
    SegmentMovedError,
    segment_at,
    segment_of,
)
from eventstore.log.commit import commits_of, in_sequence
from eventstore.log.concealing import (
    columns_to_conceal,
    concealed_batches,
    concealed_commit,
)
from eventstore.log.erased import Erased
from eventstore.log.ipc_message import UndecodableError
from eventstore.log.ipc_stream import Messages
from eventstore.log.manifest import Segment
from eventstore.log.os_errors import translating
from eventstore.log.record import Commit, Position, Record
from eventstore.log.record_dataset import record_dataset
from eventstore.log.sealing import derived_batches, grouped_batches
from eventstore.times import Microseconds

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset

_Answer = TypeVar("_Answer")
_Part = TypeVar("_Part")


_STRETCH_RECORDS = 65_536
"""Whoever folds many records at once holds about so many in memory."""


class Tail(Protocol):
    """The commits after the newest segment; its methods are called under the log's mutex.

    `path` is for messages: where they are read.
    """

    path: Path

    @property
    def first_position(self) -> int:
        """The position that its first record has, or would have."""

    def messages(self, after: int, upto: int) -> Messages:
        """The first of the commits that have records in (after, upto], of which there are some."""

    def commit_end(self, position: int) -> int | None:
        """The last position of its newest commit that ends at or before `position`."""

    def position_at(self, recorded_at: Microseconds) -> int | None:
        """The last position of its newest commit recorded at or before a moment."""

    def recorded_at(self, position: int) -> Microseconds:
        """When the record at one of its positions was recorded."""


class SegmentedReader:
    """The reading half of a log. Safe to use from several threads.

    What takes no more commits is read where no put waits for it.
    """

    _mutex: threading.RLock
    _closed: ClosedSegments
    _concealed = Erased()

    def conceal(self, erased: Erased) -> None:
        self._concealed = erased

    def commits(self, after: int = 0, upto: int | None = None) -> Iterator[Commit]:
        columns = [*Record.__struct_fields__, "tree_head"]
        start, end = (
            self.commit_end(after),
            self.commit_end(self.position if upto is None else upto),
        )
        commits = self._stored(
            start,
            end,
            lambda messages, _after, _upto: messages.commits(),
            lambda segment, after, upto: commits_of(
                self._closed.batches(segment, after, upto, columns, derived=False)
            ),
        )
        for commit in in_sequence(commits):
            if commit.first_position > after:
                yield concealed_commit(commit, self._concealed) if self._concealed else commit

    def scan(
        self, after: int = 0, upto: int | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        from eventstore.log.columns import RECORD_SCHEMA, needs_derived_columns

        names = list(columns) if columns is not None else RECORD_SCHEMA.names
        is_derived = needs_derived_columns(names)

        def of_segment(segment: Segment, after: int, upto: int) -> Iterator[pa.RecordBatch]:
            erased = self._concealed.within(after + 1, upto)
            needed = columns_to_conceal(names) if erased else names
            batches = self._closed.batches(segment, after, upto, needed, derived=is_derived)
            return concealed_batches(batches, erased, after + 1) if erased else batches

        def of_messages(messages: Messages, after: int, upto: int) -> Iterator[pa.RecordBatch]:
            batches = _decoded(messages, after, upto, derived=is_derived)
            erased = self._concealed
            return concealed_batches(batches, erased, after + 1) if erased else batches

        for batch in self._stored(after, upto, of_messages, of_segment):
            yield batch.select(names)

    def commit_end(self, position: int) -> Position:
        with self._mutex:
            found = self._tail.commit_end(position)
            if found is not None:
                return Position(found)
            if position >= self._tail.first_position:
                return Position(self._tail.first_position - 1)
        if position < 1:
            return Position(0)
        end = self._in_segment(position, lambda s: self._closed.commit_end(s, position))
        return Position(end)

    def position_at(self, recorded_at: Microseconds) -> Position:
        with self._mutex:
            found = self._tail.position_at(recorded_at)
            if found is not None:
                return Position(found)
            segment = segment_at(self._segments(), recorded_at)
        if segment is None:
            return Position(0)
        end = self._in_segment(
            segment.first_position, lambda s: self._closed.position_at(s, recorded_at)
        )
        return Position(end)

    def recorded_at(self, position: int) -> Microseconds:
        with self._mutex:
            if not 1 <= position <= self.position:
                raise errors.InvalidArgumentError(
                    f"there is no position {position}: the log has 1 to {self.position}"
                )
            if position >= self._tail.first_position:
                return self._tail.recorded_at(position)
        return self._in_segment(position, lambda s: self._closed.recorded_at(s, position))

    def dense_ends(self, after: int = 0) -> Iterator[tuple[int, int]]:
        for segment in self._segments():
            if segment.last_position > after:
                if not segment.sealed:
                    return
                yield from self._ends_within(segment, after)

    def _ends_within(self, segment: Segment, after: int) -> Iterator[tuple[int, int]]:
        """Where stretches of a sealed segment end; a merged one has several."""
        records = segment.last_position - segment.first_position + 1
        start, reached = max(after, segment.first_position - 1), 0
        for middle in range(start, segment.last_position - _STRETCH_RECORDS, _STRETCH_RECORDS):
            end = self.commit_end(middle + _STRETCH_RECORDS)
            if end > start:
                size = segment.file_bytes * (end - segment.first_position + 1) // records
                yield end, max(size - reached, 1)
                start, reached = end, size
        yield segment.last_position, max(segment.file_bytes - reached, 1)

    def stretch_of(self, position: int) -> tuple[int, int]:
        segment = segment_of(self._segments(), position)
        if segment is None or not segment.sealed:
            return position, position
        return self._in_segment(position, lambda s: self._closed.stretch_of(s, position))

    def dataset(self, upto: int, columns: Sequence[str]) -> pyarrow.dataset.Dataset:
        while True:
            segments = self._checked_sealed()
            end = segments[-1].last_position if segments else 0
            parts = [self._part_of(segment, columns) for segment in segments]
            parts.append(self.scan(end, max(end, upto), columns))
            try:
                return record_dataset(parts, columns)
            except FileNotFoundError:
                # It was rewritten since it was checked; the next check follows it, or tells of it.
                continue

    def _checked_sealed(self) -> list[Segment]:
        """The sealed segments up to the first that is not: each record once, whoever merges."""
        found: list[Segment] = []
        end = 0
        while (known := segment_of(self._segments(), end + 1)) is not None and known.sealed:
            segment = self._in_segment(end + 1, self._checked)
            # It may have taken the place of some that were looked at before.
            while found and found[-1].last_position >= segment.first_position:
                found.pop()
            found.append(segment)
            end = segment.last_position
        return found

    def _checked(self, segment: Segment) -> Segment:
        self._closed.check(segment)
        return segment

    def _part_of(self, segment: Segment, columns: Sequence[str]) -> Path | Iterator[pa.RecordBatch]:
        """The segment's file, or its records where any of them is concealed."""
        start, end = segment.first_position - 1, segment.last_position
        is_whole = not self._concealed.within(start + 1, end)
        return self._place_of(segment) if is_whole else self.scan(start, end, columns)

    # What a kind of log says of itself

    @property
    def position(self) -> Position:
        """The newest record that this log has seen, 0 when empty."""
        raise NotImplementedError

    @property
    def _tail(self) -> Tail:
        raise NotImplementedError

    def _segments(self) -> tuple[Segment, ...]:
        """The closed and sealed ones that are known, oldest first."""
        raise NotImplementedError

    def _place_of(self, segment: Segment) -> Path:
        """Where the file of a segment is."""
        raise NotImplementedError

    def _follow(self, moved: Segment) -> None:
        """Learn where a segment is whose file was gone; DataLossError where it is nowhere."""
        raise NotImplementedError

    def _stored(
        self,
        after: int,
        upto: int | None,
        of_messages: Callable[[Messages, int, int], Iterator[_Part]],
        of_segment: Callable[[Segment, int, int], Iterator[_Part]],
    ) -> Iterator[_Part]:
        """What has the records in (after, upto], of messages and of closed or sealed segments."""
        upto = self.position if upto is None else min(upto, self.position)
        while after < upto:
            with self._mutex:
                segment = segment_of(self._segments(), after + 1)
                path = self._tail.path if segment is None else self._place_of(segment)
                if segment is None:
                    with translating("reading", path):
                        messages = self._tail.messages(after, upto)
            try:
                # Decoded where no put waits for it.
                with translating("reading", path):
                    if segment is None:
                        end = min(upto, messages.last_position)
                        yield from of_messages(messages, after, end)
                    else:
                        end = min(upto, segment.last_position)
                        yield from of_segment(segment, after, end)
            except SegmentMovedError as error:
                self._follow(error.segment)
            else:
                after = end

    def _in_segment(self, position: int, ask: Callable[[Segment], _Answer]) -> _Answer:
        """Ask the closed or sealed segment that holds `position`; not under the mutex."""
        while True:
            with self._mutex:
                segment = segment_of(self._segments(), position)
            assert segment is not None, f"position {position} is in no closed segment"
            try:
                with translating("reading", self._place_of(segment)):
                    return ask(segment)
            except SegmentMovedError as error:
                self._follow(error.segment)


def _decoded(
    messages: Messages, after: int, upto: int, *, derived: bool
) -> Iterator[pa.RecordBatch]:
    """The records in (after, upto] that messages have."""
    from eventstore.log.columns import with_commitments

    try:
        for batch in grouped_batches(messages.data, [0, *messages.ends]):
            first = batch["position"][0].as_py()
            start, end = max(after + 1 - first, 0), min(upto + 1 - first, batch.num_rows)
            if start < end:
                batch = batch.slice(start, end - start)
                yield from derived_batches(batch) if derived else (with_commitments(batch),)
    except UndecodableError as error:
        raise messages.damaged(error) from None
