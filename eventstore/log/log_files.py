"""The files of a log in a directory: opened, followed and read, here and in forked children."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from eventstore import errors
from eventstore.log import acknowledged
from eventstore.log.active_segment import ActiveSegmentFile, Held
from eventstore.log.closed_segments import (
    ClosedSegments,
    SegmentMovedError,
    segment_at,
    segment_of,
)
from eventstore.log.commit import commits_of
from eventstore.log.creation import LOG_FOLDER
from eventstore.log.forking import open_at_first_use, renew_in_children
from eventstore.log.leaf import leaf_hashes
from eventstore.log.log import (
    SegmentInfo,
)
from eventstore.log.manifest import (
    IF_COPIED,
    Manifest,
    Segment,
    read_manifest,
    refuse_impossible,
)
from eventstore.log.merkle import Frontier
from eventstore.log.os_errors import translated, translating
from eventstore.log.record import Commit, Record
from eventstore.log.regular_file import open_regular
from eventstore.log.store_place import StorePlace
from eventstore.log.writers_lock import WritersLock

if TYPE_CHECKING:
    import pyarrow as pa

_Answer = TypeVar("_Answer")

_OPENING_WAIT_SECONDS = 10.0
_OPENING_POLL_SECONDS = 0.01

_KNOWN = frozenset(
    (
        "_active",
        "_closed",
        "_frontier",
        "_manifest",
        "_outcome_unknown",
        "_place",
    )
)
"""What a log knows of its files, which a forked child has to learn again."""


class LogFiles:
    """What a log in a directory has open and knows. `DirectoryLog` adds the writing.

    Readers take no lock. See FORMAT.md for the files.
    """

    directory: Path

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        *,
        read_only: bool = False,
    ) -> None:
        self.directory = directory
        self.store_id = manifest.store_id
        self.read_only = read_only
        self._folder = directory / LOG_FOLDER
        self._mutex = threading.RLock()
        self._sealer: ThreadPoolExecutor | None = None
        self._sealing_mutex = threading.Lock()
        self._lock = WritersLock()
        self._acknowledged_descriptor = -1
        self._is_closed = False
        self._has_news = False
        """Whether a writer of this process noticed what others appended, and no reader did yet."""
        self._open(manifest)
        renew_in_children(self)

    def _open(self, manifest: Manifest) -> None:
        refuse_impossible(self.directory, manifest)
        self._manifest = manifest
        self._frontier: Frontier | None = None
        self._closed = ClosedSegments(self._folder)
        self._outcome_unknown = False
        self._place = StorePlace(self.directory, self._folder)
        if not self.read_only:
            self._open_for_writing()
        # Before the data: whatever is acknowledged by now is in what is read after.
        known = acknowledged.read_acknowledged(self._folder / acknowledged.FILE_NAME)
        try:
            self._active = ActiveSegmentFile(self._folder, manifest, read_only=self.read_only)
        except BaseException:
            self._close_descriptors()
            raise
        try:
            self._catch_up()
            self._wait_for_acknowledgement()
            self._refuse_shortened(known)
            if not self.read_only:
                self._settle()
        except BaseException:
            self._close_descriptors()
            self._active.close()
            raise

    def after_fork_in_child(self) -> None:
        """Forget what is open and known: it is opened again when it is asked for."""
        self._mutex = threading.RLock()
        self._sealing_mutex = threading.Lock()
        self._sealer = None
        self._lock.after_fork_in_child()
        active = self.__dict__.pop("_active", None)
        self._close_descriptors()
        if active is not None:
            active.close()
        for name in _KNOWN:
            self.__dict__.pop(name, None)
        open_at_first_use(self)

    def open_missing(self, name: str) -> Any:
        """Open the log of a forked child, which does so at its first use."""
        if name not in _KNOWN:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        with self._mutex:
            if name not in self.__dict__:
                self._open_again()
            return self.__dict__[name]

    def _open_again(self) -> None:
        if self._is_closed:
            raise errors.FailedPreconditionError(
                f"the store {self.directory} is closed: open it again"
            )
        try:
            with_newest_manifest(self.directory, self._open_same)
        except BaseException:
            for name in _KNOWN:
                self.__dict__.pop(name, None)
            raise

    def _open_same(self, manifest: Manifest) -> None:
        if manifest.store_id != self.store_id:
            raise self._replaced(manifest)
        self._open(manifest)

    @property
    def position(self) -> int:
        return self._active.last_position

    @property
    def commit_number(self) -> int:
        return self._newest_commit()[0]

    def refresh(self) -> bool:
        # Mostly there is nothing new, and that can be told without waiting for others.
        if not self._has_news and self._active.is_up_to_date():
            return False
        with self._mutex, translating("reading", self._folder):
            before, has_news = self.position, self._has_news
            self._has_news = False
            self._catch_up()
            return has_news or self.position != before

    def commits(self, after: int = 0, upto: int | None = None) -> Iterator[Commit]:
        columns = [*Record.__struct_fields__, "tree_head"]
        start, end = (
            self.commit_end(after),
            self.commit_end(self.position if upto is None else upto),
        )
        for batch in self._stored_batches(start, end, columns):
            for commit in commits_of(batch):
                if commit.first_position > after:
                    yield commit

    def scan(
        self, after: int = 0, upto: int | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        from eventstore.log.columns import ACTIVE_SCHEMA, RECORD_SCHEMA

        names = list(columns) if columns is not None else RECORD_SCHEMA.names
        is_derived = not set(names) <= set(ACTIVE_SCHEMA.names)
        for batch in self._stored_batches(after, upto, names, derived=is_derived):
            yield batch.select(names)

    def commit_end(self, position: int) -> int:
        with self._mutex:
            found = self._active.commit_end(position)
            if found is not None:
                return found
            if position >= self._active.first_position:
                return self._active.first_position - 1
            if position < 1:
                return 0
            return self._in_segment(position, partial(self._closed.commit_end, position=position))

    def position_at(self, recorded_at: int) -> int:
        with self._mutex:
            found = self._active.position_at(recorded_at)
            if found is not None:
                return found
            segment = segment_at(self._manifest.segments, recorded_at)
            if segment is None:
                return 0
            ask = partial(self._closed.position_at, recorded_at=recorded_at)
            return self._in_segment(segment.first_position, ask)

    def recorded_at(self, position: int) -> int:
        with self._mutex:
            if not 1 <= position <= self.position:
                raise errors.InvalidArgumentError(
                    f"there is no position {position}: the log has 1 to {self.position}"
                )
            if position >= self._active.first_position:
                return self._active.recorded_at(position)
            return self._in_segment(position, partial(self._closed.recorded_at, position=position))

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

    # Following what is on disk

    def _refuse_shortened(self, known: acknowledged.Acknowledged | None) -> None:
        """Raise when the active segment ends before what a writer has acknowledged."""
        active = self._active
        if known is not None and known.segment == active.number and known.end > active.end:
            raise errors.DataLossError(
                f"segment {active.number}, {active.path}: the commit that starts at position "
                f"{active.last_position + 1} is missing, though it was acknowledged; {IF_COPIED}, "
                f"else restore the file from a backup, or remove "
                f"{self._folder / acknowledged.FILE_NAME} to go on without it"
            )

    def _wait_for_acknowledgement(self) -> None:
        """Without an acknowledgement, find a moment at which nobody writes."""
        path = self._folder / acknowledged.FILE_NAME
        waiting_until = time.monotonic() + _OPENING_WAIT_SECONDS
        while self._active.has_unacknowledged and acknowledged.read_acknowledged(path) is None:
            if time.monotonic() > waiting_until:
                raise errors.UnavailableError(
                    f"{path} is missing or damaged, and another process has been writing to "
                    f"{self._active.path} for {_OPENING_WAIT_SECONDS:.0f} s: see whether it hangs, "
                    "and open the store again"
                )
            time.sleep(_OPENING_POLL_SECONDS)
            self._catch_up()

    def _catch_up(self, held: Held = Held.NOTHING) -> None:
        while True:
            active = self._active
            is_moved = active.catch_up(held)
            if active.has_unacknowledged:
                is_moved = active.settle() or is_moved
            if is_moved:
                self._frontier = None
            # An ended segment whose successor is not in the manifest yet: a rotation is under way.
            if not (self._active.is_ended and self._reload_manifest()):
                return
            # What is held is the lock of the segment before.
            held = Held.NOTHING

    def _newest_commit(self) -> tuple[int, int]:
        """The number of the newest commit that is known and its time; zeros when there is none."""
        newest = self._active.newest
        if newest is not None:
            return newest.number, newest.recorded_at
        closed = self._manifest.segments[-1:]
        return (closed[0].last_commit, closed[0].last_recorded_at) if closed else (0, 0)

    def _reload_manifest(self) -> bool:
        """Take over a newer manifest; whether the active segment is another one now."""
        manifest = read_manifest(self.directory)
        if manifest.store_id != self.store_id:
            raise self._replaced(manifest)
        active = self._active
        if manifest.generation < self._manifest.generation:
            return False
        refuse_impossible(self.directory, manifest)
        if manifest.active.number == active.number:
            self._manifest = manifest
            return False
        successor = ActiveSegmentFile(self._folder, manifest, read_only=self.read_only)
        # At once: whoever is interrupted in between would not find the one by the other.
        self._manifest, self._active, self._frontier = manifest, successor, None
        active.close()
        return True

    def _stored_batches(
        self, after: int, upto: int | None, columns: list[str], *, derived: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """The records in (after, upto], at most one batch a segment if `tree_head` is asked for."""
        upto = self.position if upto is None else min(upto, self.position)
        while after < upto:
            with self._mutex:
                segment = segment_of(self._manifest.segments, after + 1)
                if segment is None:
                    batches = self._active_batches(after, upto, derived=derived)
                    end = upto
                else:
                    end = min(upto, segment.last_position)
                    ask = partial(
                        self._closed.batches,
                        after=after,
                        upto=end,
                        columns=columns,
                        derived=derived,
                    )
                    batches = self._in_segment(after + 1, ask)
            if "tree_head" in columns and batches:
                from eventstore.log.columns import one_batch

                # A commit may lie across row groups.
                batches = [one_batch(batches)]
            yield from batches
            after = end

    def _active_batches(self, after: int, upto: int, *, derived: bool) -> list[pa.RecordBatch]:
        import pyarrow as pa

        from eventstore.log.columns import with_derived_columns

        with translating("reading", self._active.path):
            merged = pa.Table.from_batches(list(self._active.batches(after, upto)))
        first = merged["position"][0].as_py()
        merged = merged.slice(after + 1 - first, upto - after).combine_chunks()
        return [with_derived_columns(b) if derived else b for b in merged.to_batches()]

    def _in_segment(self, position: int, ask: Callable[[Segment], _Answer]) -> _Answer:
        """Ask the closed or sealed segment that holds `position`.

        Another process may seal it after we read the manifest and before we read the segment.
        """
        while True:
            segment = segment_of(self._manifest.segments, position)
            assert segment is not None, f"position {position} is in no closed segment"
            try:
                with translating("reading", self._folder / segment.file):
                    return ask(segment)
            except SegmentMovedError:
                generation = self._manifest.generation
                self._reload_manifest()
                if self._manifest.generation == generation:
                    raise errors.DataLossError(
                        f"segment {segment.number} (positions {segment.first_position} to "
                        f"{segment.last_position}) is missing: {self._folder / segment.file}; "
                        f"{IF_COPIED}, else restore it from a backup"
                    ) from None

    # The right edge of the tree, which appending needs

    def _current_frontier(self) -> Frontier:
        """The right edge of the tree at the newest commit."""
        if self._frontier is None or self._frontier.size != self.position:
            self._frontier = self._acknowledged_frontier() or self._recomputed_frontier()
        return self._frontier

    def _acknowledged_frontier(self) -> Frontier | None:
        """What the last writer left, if it is of the newest commit and gives its tree head."""
        known = acknowledged.read_acknowledged(self._folder / acknowledged.FILE_NAME)
        if known is None or known.tree_size != self.position or not self.position:
            return None
        try:
            frontier = known.frontier()
        except ValueError:
            return None
        return frontier if frontier.head() == self._newest_head() else None

    def _newest_head(self) -> bytes | None:
        batches = list(self._active.batches(self.position - 1, self.position))
        if batches:
            head: bytes = batches[-1].column("tree_head")[-1].as_py()
            return head
        segments = self._manifest.segments
        return bytes.fromhex(segments[-1].tree_head) if segments else None

    def _recomputed_frontier(self) -> Frontier:
        segments = self._manifest.segments
        frontier = Frontier()
        if segments:
            subtrees = [bytes.fromhex(subtree) for subtree in segments[-1].frontier]
            frontier = Frontier(segments[-1].last_position, subtrees)
        for batch in self._active.batches(frontier.size, self.position):
            for commit in commits_of(batch):
                frontier.extend(leaf_hashes(self.store_id, commit.records))
        return frontier

    # Descriptors

    def _open_for_writing(self) -> None:
        try:
            self._acknowledged_descriptor = open_regular(
                self._folder / acknowledged.FILE_NAME, os.O_RDWR | os.O_CREAT
            )
        except OSError as error:
            self._close_descriptors()
            raise translated(error, "opening for writing", self.directory) from None

    def _close_descriptors(self) -> None:
        self._lock.close()
        # First out of sight: the number may be another file's once it is closed.
        descriptor, self._acknowledged_descriptor = self._acknowledged_descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _replaced(self, manifest: Manifest) -> errors.StatusError:
        return errors.FailedPreconditionError(
            f"{self.directory} holds another store now ({manifest.store_id}): open it again"
        )

    def _settle(self) -> None:
        raise NotImplementedError


def with_newest_manifest(directory: Path, opened: Callable[[Manifest], _Answer]) -> _Answer:
    """The result of opening a store by its manifest, read again while writers replace it."""
    while True:
        manifest = read_manifest(directory)
        try:
            return opened(manifest)
        except errors.DataLossError:
            # Writers may have gone on to another segment since the manifest was read. They go on
            # at their own pace, so that this ends.
            if read_manifest(directory).generation == manifest.generation:
                raise
        except OSError as error:
            raise translated(error, "opening", directory) from None
