"""The log in a directory of files, shared by any number of processes."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pyarrow as pa

from eventstore import errors
from eventstore.log import acknowledged, sealing
from eventstore.log.active_segment import ActiveSegmentFile, Held
from eventstore.log.closed_segments import (
    ClosedSegments,
    SegmentMovedError,
    merged_batches,
    segment_at,
    segment_of,
)
from eventstore.log.columns import ACTIVE_SCHEMA, RECORD_SCHEMA, with_derived_columns
from eventstore.log.commit import commits_of, encode_commit, make_commit, records_of
from eventstore.log.creation import LOG_FOLDER, create_store, start_segment
from eventstore.log.file_lock import exclusive, is_at
from eventstore.log.forking import renew_in_children
from eventstore.log.leaf import leaf_hashes
from eventstore.log.log import (
    PositionConflictError,
    Progress,
    SegmentInfo,
    SignedHead,
    VerifyReport,
)
from eventstore.log.manifest import (
    MANIFEST_NAME,
    Manifest,
    Segment,
    read_manifest,
    write_manifest,
)
from eventstore.log.merkle import Frontier
from eventstore.log.os_errors import translated, translating
from eventstore.log.record import Commit, Draft, Record
from eventstore.log.writers_lock import WritersLock

_LOGGER = logging.getLogger("eventstore.log")
_Answer = TypeVar("_Answer")

SEGMENT_BYTES_MAX = 32 * 1024 * 1024
SEGMENT_RECORDS_MAX = 65_536
"""An active segment that has reached either is closed before the next append."""

_SEALING_LOCK_NAME = "sealing.lock"
_ROTATIONS_MAX = 1_000
_OPENING_WAIT_SECONDS = 10.0
_OPENING_POLL_SECONDS = 0.01

_KNOWN = frozenset(
    (
        "_active",
        "_closed",
        "_commit_number",
        "_frontier",
        "_last_recorded_at",
        "_manifest",
        "_outcome_unknown",
        "_place",
    )
)
"""What a log knows of its files, which a forked child has to learn anew."""


class DirectoryLog:
    """A log kept in a directory. Safe to use from several threads and processes at once.

    Appends of all processes are ordered by a lock that is held for the append alone; readers take
    no lock. See FORMAT.md for the files.
    """

    directory: Path

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        *,
        read_only: bool = False,
        segment_records_max: int = SEGMENT_RECORDS_MAX,
    ) -> None:
        self.directory = directory
        self.store_id = manifest.store_id
        self.read_only = read_only
        self._segment_records_max = segment_records_max
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
        self._manifest = manifest
        self._frontier: Frontier | None = None
        self._closed = ClosedSegments(self._folder)
        self._outcome_unknown = False
        self._place = (0, 0, 0)
        """Device, number and time of change of the log's folder when its files were found in it."""
        if not self.read_only:
            self._open_for_writing()
        self._commit_number = manifest.segments[-1].last_commit if manifest.segments else 0
        self._last_recorded_at = manifest.segments[-1].last_recorded_at if manifest.segments else 0
        # Before the data: whatever is acknowledged by now is in what is read after.
        known = acknowledged.read_acknowledged(self._folder / acknowledged.FILE_NAME)
        try:
            self._active = ActiveSegmentFile(
                self._folder, manifest.active, read_only=self.read_only
            )
        except BaseException:
            self._close_descriptors()
            raise
        self._take_newest()
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

    def __getattr__(self, name: str) -> Any:
        # Only of what is missing: in a forked child, which opens the log again at its first use.
        if name not in _KNOWN or "_mutex" not in self.__dict__:
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
            _with_newest_manifest(self.directory, self._open_same)
        except BaseException:
            for name in _KNOWN:
                self.__dict__.pop(name, None)
            raise

    def _open_same(self, manifest: Manifest) -> None:
        if manifest.store_id != self.store_id:
            raise self._replaced(manifest)
        self._open(manifest)

    @classmethod
    def create(
        cls, directory: Path, *, segment_records_max: int = SEGMENT_RECORDS_MAX
    ) -> DirectoryLog:
        """Make an empty log in a directory that does not exist or is empty.

        Raises AlreadyExistsError when there is a store, FailedPreconditionError when there is
        anything else.
        """
        manifest = create_store(directory)
        return cls(directory, manifest, segment_records_max=segment_records_max)

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        read_only: bool = False,
        segment_records_max: int = SEGMENT_RECORDS_MAX,
    ) -> DirectoryLog:
        """Open the log in a directory.

        Raises NotFoundError when there is none, DataLossError when it is damaged,
        FailedPreconditionError when its format is newer than this version reads.
        """
        if not (directory / MANIFEST_NAME).is_file():
            raise errors.NotFoundError(
                f"there is no store at {directory}: check the path, or create one"
            )
        return _with_newest_manifest(
            directory,
            partial(cls, directory, read_only=read_only, segment_records_max=segment_records_max),
        )

    @property
    def position(self) -> int:
        return self._active.last_position

    @property
    def commit_number(self) -> int:
        return self._commit_number

    def refresh(self) -> bool:
        # Mostly there is nothing new, which is told without waiting for others.
        if not self._has_news and self._active.is_up_to_date():
            return False
        with self._mutex, translating("reading", self._folder):
            before, has_news = self.position, self._has_news
            self._has_news = False
            self._catch_up()
            return has_news or self.position != before

    @contextlib.contextmanager
    def reserved(self) -> Iterator[None]:
        if self.read_only:
            yield
            return
        path = self._active.path
        try:
            self._lock.acquire(path)
        except FileNotFoundError:
            # The append finds out why.
            yield
            return
        except OSError as error:
            raise translated(error, "locking", path) from None
        try:
            yield
        finally:
            self._lock.release()

    def append(
        self,
        drafts: Sequence[Draft],
        *,
        expected_position: int,
        actor: str | None = None,
        reason: str | None = None,
        request_id: str | None = None,
    ) -> Commit:
        if not drafts:
            raise ValueError("a commit needs at least one draft")
        if self.read_only:
            raise errors.FailedPreconditionError(
                f"the store {self.directory} was opened to read only: open it for writing to put"
            )
        if self._outcome_unknown:
            raise errors.UnavailableError(
                f"an earlier sync of {self.directory} failed: reopen the store to put again"
            )
        with translating("appending in", self._folder), self._writing():
            if self.position != expected_position:
                raise PositionConflictError(
                    f"the log is at position {self.position}, not {expected_position}"
                )
            if self._is_full():
                self._rotate()
            frontier = self._current_frontier().copy()
            commit = make_commit(
                self.store_id,
                drafts,
                frontier,
                number=self._commit_number + 1,
                recorded_at=max(time.time_ns() // 1000, self._last_recorded_at),
                actor=actor,
                reason=reason,
                request_id=request_id,
            )
            try:
                self._active.append(encode_commit(commit), commit)
            except errors.UnavailableError:
                self._outcome_unknown = True
                raise
            self._frontier = frontier
            self._commit_number = commit.number
            self._last_recorded_at = commit.recorded_at
            self._acknowledge(frontier)
        return commit

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

    def check_closed(self) -> None:
        with self._mutex:
            for segment in self._manifest.segments:
                self._in_segment(segment.first_position, self._closed.check)

    def seal(self) -> None:
        if self.read_only:
            raise errors.FailedPreconditionError(
                f"the store {self.directory} was opened to read only: open it for writing to seal"
            )
        with translating("sealing in", self._folder), self._writing():
            if self.position >= self._active.first_position:
                self._rotate()
        self._seal_closed()

    def verify(
        self,
        progress: Progress | None = None,
        *,
        after: int = 0,
        upto: int | None = None,
        signed_heads: Sequence[SignedHead] = (),
    ) -> VerifyReport:
        from eventstore.log.verification import verify_directory

        return verify_directory(
            self.directory, progress, after=after, upto=upto, signed_heads=signed_heads
        )

    def close(self) -> None:
        if self._sealer is not None:
            self._sealer.shutdown(wait=True)
            self._sealer = None
        if self._is_closed:
            return
        if not self.read_only and self._acknowledged_descriptor >= 0:
            # Room that is not given back is there for the next writer.
            with (
                contextlib.suppress(OSError, errors.StatusError),
                self._writing(wait=False),
            ):
                self._active.give_back_room()
        with self._mutex:
            self._close_descriptors()
            if "_active" in self.__dict__:
                self._active.close()
        self._is_closed = True

    # For a copy of the whole log, of a handle that takes no more notice of others

    @property
    def manifest(self) -> Manifest:
        """The manifest whose active segment this log has open."""
        return self._manifest

    def active_bytes(self) -> bytes:
        """The active segment up to the newest commit that is known."""
        return self._active.content()

    def acknowledge_copy(self, descriptor: int) -> None:
        """Write the acknowledgement of what `active_bytes` gives into an open file."""
        acknowledged.write_acknowledged(
            descriptor, self._active.number, self._active.end, self._current_frontier()
        )

    # Following what is on disk

    def _refuse_shortened(self, known: acknowledged.Acknowledged | None) -> None:
        """Raise when the active segment ends before what a writer has acknowledged."""
        active = self._active
        if known is not None and known.segment == active.number and known.end > active.end:
            raise errors.DataLossError(
                f"segment {active.number}, {active.path}: the commit that starts at position "
                f"{active.last_position + 1} is missing, though it was acknowledged; restore the "
                f"file from a backup, or remove {self._folder / acknowledged.FILE_NAME} to go on "
                "without it"
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
                self._take_newest()
                self._frontier = None
            # An ended segment whose successor is not in the manifest yet: a rotation is under way.
            if not (self._active.is_ended and self._reload_manifest()):
                return
            # What is held is the lock of the segment before.
            held = Held.NOTHING

    def _take_newest(self) -> None:
        newest = self._active.newest
        if newest is not None:
            self._commit_number, self._last_recorded_at = newest.number, newest.recorded_at

    def _reload_manifest(self) -> bool:
        """Take over a newer manifest; whether the active segment is another one now."""
        manifest = read_manifest(self.directory)
        if manifest.store_id != self.store_id:
            raise self._replaced(manifest)
        if manifest.generation == self._manifest.generation:
            return False
        self._manifest = manifest
        if manifest.active.number == self._active.number:
            return False
        successor = ActiveSegmentFile(self._folder, manifest.active, read_only=self.read_only)
        self._active.close()
        self._active = successor
        newest = manifest.segments[-1]
        self._commit_number = newest.last_commit
        self._last_recorded_at = newest.last_recorded_at
        self._take_newest()
        self._frontier = None
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
            yield from merged_batches(batches) if "tree_head" in columns else batches
            after = end

    def _active_batches(self, after: int, upto: int, *, derived: bool) -> list[pa.RecordBatch]:
        with translating("reading", self._active.path):
            merged = pa.Table.from_batches(list(self._active.batches(after, upto)))
        first = merged["position"][0].as_py()
        merged = merged.slice(after + 1 - first, upto - after).combine_chunks()
        return [with_derived_columns(b) if derived else b for b in merged.to_batches()]

    def _in_segment(self, position: int, ask: Callable[[Segment], _Answer]) -> _Answer:
        """Ask the closed or sealed segment that holds `position`.

        Another process may seal it between our look into the manifest and the read.
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
                        "restore it from a backup"
                    ) from None

    # Writing, all of it under the writers' lock

    @contextlib.contextmanager
    def _writing(self, *, wait: bool = True) -> Iterator[None]:
        """Hold the writers' lock, knowing all that was appended, with no half-done write behind it.

        Raises FailedPreconditionError when the store is no longer where it was opened, and unless
        it shall `wait` BlockingIOError when somebody else is writing.
        """
        for _ in range(_ROTATIONS_MAX):
            active = self._active
            # Before anything is opened anew.
            active.file_bytes()
            try:
                is_opened = self._lock.acquire(active.path, wait=wait)
            except FileNotFoundError:
                # Mostly because it was sealed meanwhile.
                with self._mutex:
                    self._catch_up()
                    if self._active is active:
                        raise self._moved() from None
                continue
            except BlockingIOError:
                raise
            except OSError as error:
                raise translated(error, "locking", active.path) from None
            try:
                with self._mutex:
                    if self._is_ready_to_write(active, is_opened):
                        yield
                        return
            finally:
                self._lock.release()
            # Another writer has gone on to a further segment, which is the one to lock.
        raise errors.AbortedError(
            f"other writers rotated {self.directory} {_ROTATIONS_MAX} times in a row; nothing was "
            "put: retry"
        )

    def _open_for_writing(self) -> None:
        try:
            self._acknowledged_descriptor = os.open(
                self._folder / acknowledged.FILE_NAME, os.O_RDWR | os.O_CREAT, 0o666
            )
        except OSError as error:
            self._close_descriptors()
            raise translated(error, "opening for writing", self.directory) from None

    def _settle(self) -> None:
        """Finish or take back what writers that died have left.

        Where the disk does not allow it now, the next append does it.
        """
        try:
            with self._writing(wait=False):
                sealing.remove_temporary_files(self.directory, self._folder)
            if sealing.has_leftovers(self._folder, self._manifest):
                with (
                    exclusive(self.directory / _SEALING_LOCK_NAME, wait=False),
                    self._writing(wait=False),
                ):
                    sealing.remove_leftovers(self._folder, read_manifest(self.directory))
        except BlockingIOError:
            # Whoever is at work does it.
            pass
        except (
            OSError,
            errors.ResourceExhaustedError,
            errors.PermissionDeniedError,
            errors.UnavailableError,
        ) as error:
            _LOGGER.warning("cleaning up in %s failed: %s", self.directory, error)

    def _close_descriptors(self) -> None:
        self._lock.close()
        # First out of sight: the number may be another file's once it is closed.
        descriptor, self._acknowledged_descriptor = self._acknowledged_descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _refuse_moved(self, is_lock_opened: bool) -> None:
        """Raise unless the open files are what the store's paths lead to."""
        try:
            status = os.stat(self._folder)
        except OSError:
            raise self._moved() from None
        place = (status.st_dev, status.st_ino, status.st_mtime_ns)
        if place == self._place and not is_lock_opened:
            return
        # Something in the folder changed. Asked for only then: Linux gives a file a new time of
        # change with the next write after its status was asked for, which is to be synced, too.
        if not self._active.is_at_its_path(self._lock.descriptor):
            self._lock.close()
            raise self._moved()
        path = self._folder / acknowledged.FILE_NAME
        if not is_at(path, self._acknowledged_descriptor):
            os.close(self._acknowledged_descriptor)
            self._open_for_writing()
        self._place = place

    def _replaced(self, manifest: Manifest) -> errors.StatusError:
        return errors.FailedPreconditionError(
            f"{self.directory} holds another store now ({manifest.store_id}): open it again"
        )

    def _moved(self) -> errors.StatusError:
        return errors.FailedPreconditionError(
            f"{self._active.path} is not the file that was opened: the store {self.directory} was "
            "moved, removed or replaced while it was open; nothing was put, open it again where it "
            "is now"
        )

    def _is_ready_to_write(self, locked: ActiveSegmentFile, is_lock_opened: bool) -> bool:
        """Catch up, finish a rotation that a dead writer left, and cut its torn tail.

        False when that led to another segment than the one that is locked.
        """
        if self._active is locked:
            before = self.position
            self._catch_up(Held.EXCLUSIVE)
            self._has_news = self._has_news or self.position != before
        if self._active is not locked:
            return False
        self._refuse_moved(is_lock_opened)
        locked.cut_torn_tail()
        if locked.is_ended:
            locked.append_end_of_stream()
            self._start_next_segment()
        return True

    def _acknowledge(self, frontier: Frontier) -> None:
        acknowledged.write_acknowledged(
            self._acknowledged_descriptor, self._active.number, self._active.end, frontier
        )

    def _is_full(self) -> bool:
        active = self._active
        records = active.last_position - active.first_position + 1
        return records >= self._segment_records_max or active.end >= SEGMENT_BYTES_MAX

    def _rotate(self) -> None:
        self._active.append_end_of_stream()
        self._start_next_segment()
        if self._sealer is None:
            self._sealer = ThreadPoolExecutor(1, thread_name_prefix="eventstore-sealer")
        self._sealer.submit(self._seal_closed_in_background)

    def _start_next_segment(self) -> None:
        active = self._active
        path = active.path
        digest = sealing.file_sha256(path)
        table = sealing.read_closed(path)
        frontier = self._current_frontier()
        moments = table["recorded_at"].cast(pa.int64())
        closed = Segment(
            number=active.number,
            sealed=False,
            file=path.name,
            file_bytes=active.file_bytes(),
            file_sha256=digest,
            first_position=active.first_position,
            last_position=active.last_position,
            first_commit=table["commit"][0].as_py(),
            last_commit=table["commit"][-1].as_py(),
            first_recorded_at=moments[0].as_py(),
            last_recorded_at=moments[-1].as_py(),
            tree_head=frontier.head().hex(),
            frontier=tuple(subtree.hex() for subtree in frontier.subtrees),
        )
        started = start_segment(
            self._folder,
            self.store_id,
            active.number + 1,
            first_position=active.last_position + 1,
        )
        # Another process may have sealed an older segment: its manifest is the one to build on.
        current = read_manifest(self.directory)
        manifest = msgspec.structs.replace(
            current,
            generation=current.generation + 1,
            segments=(*current.segments, closed),
            active=started,
        )
        successor = ActiveSegmentFile(self._folder, started, read_only=False)
        # Before anybody else hears of it.
        try:
            with self._lock.moving_to(successor.path):
                write_manifest(self.directory, manifest)
        except OSError as error:
            successor.close()
            raise translated(error, "locking", successor.path) from None
        except errors.StatusError:
            successor.close()
            raise
        self._manifest = manifest
        self._active.close()
        self._active = successor
        self._acknowledge(frontier)

    def _current_frontier(self) -> Frontier:
        """The right edge of the tree at the newest commit."""
        if self._frontier is None:
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
            frontier.extend(leaf_hashes(self.store_id, records_of(batch)))
        return frontier

    # Sealing

    def _seal_closed_in_background(self) -> None:
        try:
            self._seal_closed()
        except Exception:
            # The closed segment stays valid as it is; the next rotation or seal tries again.
            _LOGGER.exception("sealing in %s failed", self.directory)

    def _seal_closed(self) -> None:
        """Seal every closed segment. One thread of one process does so at a time."""
        with (
            translating("sealing in", self._folder),
            self._sealing_mutex,
            exclusive(self.directory / _SEALING_LOCK_NAME),
        ):
            for segment in read_manifest(self.directory).segments:
                if not segment.sealed:
                    self._seal_segment(segment)
            with self._writing():
                sealing.remove_leftovers(self._folder, read_manifest(self.directory))

    def _seal_segment(self, segment: Segment) -> None:
        prepared, sealed = sealing.prepared(self._folder, segment, self.store_id)
        try:
            with self._writing():
                current = read_manifest(self.directory)
                # Another may have sealed it, for the lock on sealing can be removed.
                if segment in current.segments:
                    sealing.move_into_place(prepared, self._folder / sealed.file)
                    manifest = msgspec.structs.replace(
                        current,
                        generation=current.generation + 1,
                        segments=tuple(sealed if s == segment else s for s in current.segments),
                    )
                    write_manifest(self.directory, manifest)
                    self._manifest = manifest
                    (self._folder / segment.file).unlink(missing_ok=True)
        finally:
            with contextlib.suppress(OSError):
                prepared.unlink(missing_ok=True)


def _with_newest_manifest(directory: Path, opened: Callable[[Manifest], _Answer]) -> _Answer:
    """What comes of opening a store by its manifest, read again while writers replace it."""
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
