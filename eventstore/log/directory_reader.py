"""Read a log in a directory: the records, which segment has them, and where caches lie."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from eventstore import errors
from eventstore.log.closed_segments import (
    SegmentMovedError,
    sealed_files,
    segment_at,
    segment_of,
)
from eventstore.log.commit import commits_of, in_sequence
from eventstore.log.concealing import (
    columns_to_conceal,
    concealed_batches,
    concealed_commit,
)
from eventstore.log.creation import CACHE_FOLDER
from eventstore.log.erased import Erased
from eventstore.log.followed_directory import FollowedDirectory, opened
from eventstore.log.ipc_message import UndecodableError
from eventstore.log.ipc_stream import Messages
from eventstore.log.log import SealedFile, SegmentInfo
from eventstore.log.manifest import (
    IF_COPIED,
    MANIFEST_NAME,
    Segment,
    read_manifest,
)
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


class DirectoryReader(FollowedDirectory):
    """A log in a directory, to read. `DirectoryLog` adds the writing.

    Safe to use from several threads. What takes no more commits is read where no put waits for it.
    """

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
            found = self._active.commit_end(position)
            if found is not None:
                return Position(found)
            if position >= self._active.first_position:
                return Position(self._active.first_position - 1)
        if position < 1:
            return Position(0)
        end = self._in_segment(position, lambda s: self._closed.commit_end(s, position))
        return Position(end)

    def position_at(self, recorded_at: Microseconds) -> Position:
        with self._mutex:
            found = self._active.position_at(recorded_at)
            if found is not None:
                return Position(found)
            segment = segment_at(self._manifest.segments, recorded_at)
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
            if position >= self._active.first_position:
                return self._active.recorded_at(position)
        return self._in_segment(position, lambda s: self._closed.recorded_at(s, position))

    def segments(self) -> list[SegmentInfo]:
        with self._mutex:
            return [
                *(
                    SegmentInfo(
                        segment.number,
                        "sealed" if segment.sealed else "closed",
                        segment.first_position,
                        segment.last_position,
                        segment.file_bytes,
                        self._folder / segment.file,
                    )
                    for segment in self._manifest.segments
                ),
                SegmentInfo(
                    self._active.number,
                    "active",
                    self._active.first_position,
                    self._active.last_position,
                    self._active.end,
                    self._active.path,
                ),
            ]

    def check_closed(self) -> None:
        """Compare closed and sealed segments with the manifest. Raises DataLossError."""
        for segment in self._segments():
            self._in_segment(segment.first_position, self._closed.check)

    def sealed_files(self) -> list[SealedFile]:
        # From the disk, since another process may have sealed some.
        manifest = read_manifest(self.directory)
        if manifest.store_id != self.store_id:
            raise self._replaced(manifest)
        return sealed_files(self._folder, manifest.segments)

    def dense_ends(self, after: int = 0) -> Iterator[tuple[int, int]]:
        for segment in self._segments():
            if segment.last_position > after:
                if not segment.sealed:
                    return
                yield segment.last_position, segment.file_bytes

    def stretch_of(self, position: int) -> tuple[int, int]:
        segment = segment_of(self._segments(), position)
        if segment is None or not segment.sealed:
            return position, position
        return self._in_segment(position, lambda s: self._closed.stretch_of(s, position))

    def dataset(self, upto: int, columns: Sequence[str]) -> pyarrow.dataset.Dataset:
        parts: list[Path | Iterator[pa.RecordBatch]] = []
        end = 0
        for segment in takewhile(lambda segment: segment.sealed, self._segments()):
            path = self._in_segment(segment.first_position, self._checked_path)
            start, end = segment.first_position - 1, segment.last_position
            is_whole = not self._concealed.within(start + 1, end)
            parts.append(path if is_whole else self.scan(start, end, columns))
        return record_dataset([*parts, self.scan(end, max(end, upto), columns)], columns)

    def _checked_path(self, segment: Segment) -> Path:
        self._closed.check(segment)
        return self._folder / segment.file

    def cache_folder(self, *, make: bool = False) -> Path:
        folder = self.directory / CACHE_FOLDER
        if make and not folder.is_dir():
            if not (self.directory / MANIFEST_NAME).exists():
                raise FileNotFoundError(
                    errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(self.directory)
                )
            folder.mkdir(exist_ok=True)
        return folder

    def _segments(self) -> tuple[Segment, ...]:
        """The closed and sealed ones."""
        with self._mutex:
            return self._manifest.segments

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
                segment = segment_of(self._manifest.segments, after + 1)
                path = self._active.path if segment is None else self._folder / segment.file
                if segment is None:
                    with translating("reading", path):
                        messages = self._active.messages(after, upto)
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
                segment = segment_of(self._manifest.segments, position)
            assert segment is not None, f"position {position} is in no closed segment"
            try:
                with translating("reading", self._folder / segment.file):
                    return ask(segment)
            except SegmentMovedError as error:
                self._follow(error.segment)

    def _follow(self, moved: Segment) -> None:
        """Learn where a segment is that another process has sealed after we read the manifest."""
        with self._mutex, translating("reading", self.directory):
            if segment_of(self._manifest.segments, moved.first_position) == moved:
                self._reload_manifest()
            if segment_of(self._manifest.segments, moved.first_position) == moved:
                raise errors.DataLossError(
                    f"segment {moved.number} (positions {moved.first_position} to "
                    f"{moved.last_position}) is missing: {self._folder / moved.file}; {IF_COPIED}, "
                    "else restore it from a backup"
                )


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


def open_reader(directory: Path) -> DirectoryReader:
    """The log in a directory, for a caller that closes it. Raises what `opened` does."""
    return opened(directory, partial(DirectoryReader, directory, read_only=True))
