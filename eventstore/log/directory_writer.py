"""Writes the log in a directory: under the writers' lock, segment after segment, and seals them."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from eventstore import errors
from eventstore.late_logger import late_logger
from eventstore.log import acknowledged, compacting, sealing
from eventstore.log.active_segment import ActiveSegmentFile
from eventstore.log.closed_segments import SegmentMovedError
from eventstore.log.compacting import MergedSegments, Target
from eventstore.log.creation import start_segment
from eventstore.log.destroying import rewrite_segments
from eventstore.log.directory_reader import DirectoryReader
from eventstore.log.erased import Erased
from eventstore.log.file_lock import exclusive, exclusive_in_time, is_at
from eventstore.log.followed_segment import Held
from eventstore.log.forking import no_fork_in_libraries
from eventstore.log.log import Answer, PositionConflictError, Progress, RewrittenFile
from eventstore.log.manifest import (
    Manifest,
    Segment,
    manifest_to_append_by,
    read_manifest,
    write_manifest,
)
from eventstore.log.merkle import Frontier
from eventstore.log.os_errors import translated, translating
from eventstore.log.regular_file import opened_to_read
from eventstore.log.writers_lock import NotLockedError

_LOGGER = late_logger("eventstore.log")

SEGMENT_BYTES_MAX = 32 * 1024 * 1024
SEGMENT_RECORDS_MAX = 65_536
"""An active segment that has reached either is closed before the next append, or soon after."""

_UNHASHED_BYTES_MAX = 4 * 1024 * 1024
"""A put hashes no more of a segment to close it, which takes 4 to 12 ms; the rest is hashed in the
background first. What others appended was not hashed here."""

_SEALING_LOCK_NAME = "sealing.lock"
SEALING_SECONDS_MAX = 60.0
"""How long a process that seals or erases is waited for while no file of the log changes: to read
one back takes some seconds."""
_ROTATIONS_MAX = 1_000


class DirectoryWriter(DirectoryReader):
    """A log in a directory as it is written to. `DirectoryLog` adds what every log offers.

    What puts a file in place, or changes one that is there, is called by `_write`, which holds the
    writers' lock.
    """

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        *,
        read_only: bool = False,
        segment_records_max: int,
    ) -> None:
        self._segment_records_max = segment_records_max
        self._rotates_soon = False
        super().__init__(directory, manifest, read_only=read_only)

    def after_fork_in_child(self) -> None:
        self._rotates_soon = False
        super().after_fork_in_child()

    def reserved(self, do: Callable[[], Answer]) -> Answer:
        if self.read_only:
            return do()
        path = self._active.path
        try:
            return self._lock.hold(path, lambda _: do())
        except NotLockedError as error:
            if not _is_missing(error.reason):
                raise translated(error.reason, "locking", path) from None
        # The append finds out why.
        return do()

    def is_being_written(self) -> bool:
        try:
            self._lock.hold(self._active.path, lambda _: None, wait=False)
        except NotLockedError as error:
            return isinstance(error.reason, BlockingIOError)
        return False

    def _write(self, do: Callable[[], Answer], *, wait: bool = True) -> Answer:
        """The answer of `do`, called under the writers' lock.

        All that was appended is known then, and no torn write follows it. Raises
        FailedPreconditionError when the store is no longer where it was opened, and without `wait`
        BlockingIOError when somebody else is writing.
        """
        for _ in range(_ROTATIONS_MAX):
            active = self._active
            # Before anything is opened again.
            active.refuse_closed()
            try:
                answers = self._lock.hold(
                    active.path, partial(self._do_if_ready, do, active), wait=wait
                )
            except NotLockedError as error:
                if isinstance(error.reason, BlockingIOError):
                    raise error.reason from None
                if not _is_missing(error.reason):
                    raise translated(error.reason, "locking", active.path) from None
                # Mostly because it was sealed meanwhile.
                with self._mutex:
                    self._catch_up()
                    if self._active is active:
                        raise self._moved() from None
                continue
            if answers:
                return answers[0]
            # Another writer has gone on to a further segment, which is the one to lock.
        raise errors.AbortedError(
            f"other writers rotated {self.directory} {_ROTATIONS_MAX} times in a row; nothing was "
            "put: retry"
        )

    def _do_if_ready(
        self, do: Callable[[], Answer], locked: ActiveSegmentFile, is_lock_opened: bool
    ) -> tuple[Answer] | None:
        """The answer of `do`; None when another segment than the one locked is to be."""
        with self._mutex:
            return (do(),) if self._is_ready_to_write(locked, is_lock_opened) else None

    def _settle(self) -> None:
        """Finish or take back what writers that died have left.

        If the disk does not allow it now, the next append does it.
        """
        try:
            self._write(
                lambda: sealing.remove_temporary_files(self.directory, self._folder), wait=False
            )
            if sealing.has_leftovers(self._folder, self._manifest):
                with exclusive(self.directory / _SEALING_LOCK_NAME, wait=False):
                    self._write(self._remove_leftovers, wait=False)
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

    def _refuse_moved(self, is_lock_opened: bool) -> None:
        """Raise unless the store's paths lead to the open files, and the manifest names them."""
        place = self._place
        if place.is_as_known() and not is_lock_opened:
            return
        # Something in the folder changed. The status is read only then: once it was read, Linux
        # gives the file a new time of change at the next write, which has to be synced, too.
        if not self._active.is_at_its_path(self._lock.descriptor):
            self._lock.close()
            raise self._moved()
        if not place.has_known_manifest():
            self._manifest = manifest_to_append_by(self.directory, self._manifest)
        path = self._folder / acknowledged.FILE_NAME
        if not is_at(path, self._acknowledged_descriptor):
            descriptor, self._acknowledged_descriptor = self._acknowledged_descriptor, -1
            os.close(descriptor)
            self._open_for_writing()
        place.remember()

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
            before = locked.end
            self._catch_up(Held.EXCLUSIVE)
            if self._active is not locked or locked.end != before:
                self._has_news = True
        if self._active is not locked:
            return False
        self._refuse_moved(is_lock_opened)
        locked.cut_torn_tail()
        if locked.is_ended and locked.newest is None:
            # Who was to put a sealed segment in its place did not get to it.
            locked.take_back_end_of_stream()
        elif locked.is_ended:
            locked.append_end_of_stream()
            self._start_next_segment()
        return True

    def _acknowledge(self, frontier: Frontier) -> None:
        acknowledged.write_acknowledged(
            self._acknowledged_descriptor, self._active.number, self._active.end, frontier
        )

    def _is_full(self, times: int = 1) -> bool:
        """Whether the active segment has reached its limits, or so many times as much."""
        active = self._active
        records = active.last_position - active.first_position + 1
        return (
            records >= times * self._segment_records_max or active.end >= times * SEGMENT_BYTES_MAX
        )

    def _rotate_without_waiting(self) -> None:
        """Rotate now if that takes a few milliseconds, else soon.

        Where it cannot be done in the background, the segment grows to twice its size.
        """
        if self._active.unhashed_bytes <= _UNHASHED_BYTES_MAX or self._is_full(times=2):
            self._rotate()
        elif not self._rotates_soon:
            # Under the mutex, which the thread takes first: it cannot end before this is noted.
            self._rotates_soon = self._submit(self._rotate_in_background)

    def _rotate_in_background(self) -> None:
        try:
            self._hash_ahead()
            self._write(lambda: self._rotate() if self._is_full() else None)
        except Exception as error:
            _LOGGER.warning("closing a segment in %s failed: %s", self.directory, error)
        finally:
            self._rotates_soon = False

    def _hash_ahead(self) -> None:
        """Hash what the active segment has by now, while others may put."""
        with self._mutex:
            hash_it = self._active.hashing()
        hash_it()

    def _rotate_what_is_new(self) -> None:
        if self.position >= self._active.first_position:
            self._rotate()

    def _rotate(self) -> None:
        self._active.append_end_of_stream()
        self._start_next_segment()
        self._submit(self._seal_closed_in_background)

    def _submit(self, work: Callable[[], None]) -> bool:
        """Have a thread do something that is to be done once; whether one will."""
        # At the interpreter's end nothing can be submitted: the next opening does it.
        with contextlib.suppress(RuntimeError):
            if self._sealer is None:
                from concurrent.futures import ThreadPoolExecutor

                # Here, so that the thread imports nothing before forks wait for it.
                no_fork_in_libraries()
                self._sealer = ThreadPoolExecutor(1, thread_name_prefix="eventstore-sealer")
            self._sealer.submit(work)
            return True
        return False

    def _start_next_segment(self) -> None:
        active = self._active
        assert active.newest is not None
        frontier = self._current_frontier()
        first = active.messages(active.first_position - 1, active.first_position).batches()[0]
        closed = Segment(
            number=active.number,
            sealed=False,
            file=active.path.name,
            file_bytes=active.file_bytes(),
            file_sha256=active.sha256(),
            first_position=active.first_position,
            last_position=active.last_position,
            first_commit=first["commit"][0].as_py(),
            last_commit=active.newest.number,
            first_recorded_at=active.recorded_at(active.first_position),
            last_recorded_at=active.newest.recorded_at,
            tree_head=frontier.head().hex(),
            frontier=tuple(subtree.hex() for subtree in frontier.subtrees),
        )
        self._go_on_after(closed, frontier)

    def _go_on_after(self, entry: Segment, frontier: Frontier) -> None:
        """Start the active segment after one, which the manifest names from then on."""
        active = self._active
        started = start_segment(
            self._folder,
            self.store_id,
            entry.number + 1,
            first_position=entry.last_position + 1,
        )
        # Another process may have sealed an older segment: its manifest is the one to build on.
        current = read_manifest(self.directory)
        manifest = msgspec.structs.replace(
            current,
            generation=current.generation + 1,
            segments=(*current.segments, entry),
            active=started,
        )
        successor = ActiveSegmentFile(self._folder, manifest, read_only=False)
        # Before anybody else hears of it.
        try:
            self._lock.move_to(successor.path, lambda: write_manifest(self.directory, manifest))
        except NotLockedError as error:
            successor.close()
            raise translated(error.reason, "locking", successor.path) from None
        except BaseException:
            successor.close()
            raise
        self._manifest, self._active = manifest, successor
        active.close()
        self._acknowledge(frontier)

    def _add_sealed(self, entry: Segment, prepared: Path, frontier: Frontier) -> None:
        """Let a segment, written durably, take the place of the active one, which is empty."""
        active = self._active
        if (active.number, active.newest) != (entry.number, None):
            raise PositionConflictError(f"the log is further on than at {entry.first_position - 1}")
        sealing.move_into_place(prepared, self._folder / entry.file)
        # Whoever has it open looks into the manifest from now on.
        active.append_end_of_stream()
        self._go_on_after(entry, frontier)
        active.path.unlink(missing_ok=True)

    # Sealing and rewriting, by one thread of one process at a time

    def _seal_closed_in_background(self) -> None:
        try:
            with no_fork_in_libraries():
                import pyarrow.parquet  # noqa: F401

                import eventstore.log.columns  # noqa: F401
            self._seal_closed()
        except Exception:
            # The closed segment stays valid as it is; the next rotation or seal tries again.
            _LOGGER.exception("sealing in %s failed", self.directory)

    def _seal_closed(self) -> None:
        """Seal every closed segment."""
        with (
            translating("sealing in", self._folder),
            self._sealing_mutex,
            self._alone_in_sealing(),
        ):
            for segment in read_manifest(self.directory).segments:
                if not segment.sealed:
                    self._seal_segment(segment)
            self._write(self._remove_leftovers)

    def _alone_in_sealing(self) -> io.FileIO:
        """The lock of who seals or erases. Raises UnavailableError when its holder hangs."""
        return exclusive_in_time(
            self.directory / _SEALING_LOCK_NAME,
            f"sealing segments of {self.directory} or erasing from them, and nothing has changed",
            SEALING_SECONDS_MAX,
            self._sizes,
        )

    def _sizes(self) -> dict[str, int]:
        """How long the files of the log are that puts do not write to."""
        sizes = {}
        with os.scandir(self._folder) as found:
            for entry in found:
                # One that is gone by now is no matter.
                with contextlib.suppress(FileNotFoundError):
                    if not entry.name.endswith(".arrows"):
                        sizes[entry.name] = entry.stat().st_size
        return sizes

    def _rewrite(self, erased: Erased, progress: Progress | None) -> list[RewrittenFile]:
        """Rewrite the sealed segments that still have any of what is erased."""
        with (
            translating("erasing in", self._folder),
            self._sealing_mutex,
            self._alone_in_sealing(),
        ):
            rewritten = rewrite_segments(self.directory, erased, self._put_in_place, progress)
            self._write(self._remove_leftovers)
        return rewritten

    def _merge(self, target: Target, progress: Progress | None) -> list[MergedSegments]:
        """Merge sealed segments, a run at a time, so that others can seal in between."""
        done: list[MergedSegments] = []
        rows = 0
        while True:
            with (
                translating("compacting in", self._folder),
                self._sealing_mutex,
                self._alone_in_sealing(),
            ):
                self._write(self._remove_leftovers)
                runs = [*compacting.runs_to_merge(read_manifest(self.directory).segments, target)]
                if not runs:
                    return done
                run, total = runs[0], rows + sum(map(compacting.records_in, runs))

                def written(more: int, total: int = total) -> None:
                    nonlocal rows
                    rows += more
                    if progress is not None:
                        progress(rows, total)

                merged = self._merge_run(run, written)
            if merged is not None:
                done.append(compacting.merged_files(run, merged))

    def _merge_run(self, run: Sequence[Segment], written: Callable[[int], None]) -> Segment | None:
        """The entry of what some segments became; None where others have changed them meanwhile."""
        try:
            prepared, merged = compacting.prepared_merged(self._folder, run, self.store_id, written)
        except SegmentMovedError as error:
            # Another may have rewritten it, since the lock on sealing can be removed.
            if error.segment not in read_manifest(self.directory).segments:
                return None
            raise errors.DataLossError(
                f"segment {error.segment.number} is missing: {self._folder / error.segment.file}; "
                "restore it from a backup"
            ) from None
        try:
            is_done = self._write(lambda: self._replace_run(run, merged, prepared))
        finally:
            with contextlib.suppress(OSError):
                prepared.unlink(missing_ok=True)
        # Puts go on meanwhile: giving back the room of long files takes long.
        for segment in run if is_done else ():
            (self._folder / segment.file).unlink(missing_ok=True)
        return merged if is_done else None

    def _replace_run(self, run: Sequence[Segment], merged: Segment, prepared: Path) -> bool:
        current = read_manifest(self.directory)
        # Another may have rewritten one, since the lock on sealing can be removed.
        if not {*run} <= {*current.segments}:
            return False
        sealing.move_into_place(prepared, self._folder / merged.file)
        self._name_instead(current, run, merged)
        return True

    def _name_instead(self, current: Manifest, run: Sequence[Segment], entry: Segment) -> None:
        """Let the manifest name one segment in the place of some."""
        segments = [
            entry if segment == run[-1] else segment
            for segment in current.segments
            if segment == run[-1] or segment not in run
        ]
        manifest = msgspec.structs.replace(
            current, generation=current.generation + 1, segments=tuple(segments)
        )
        write_manifest(self.directory, manifest)
        self._manifest = manifest

    def _remove_leftovers(self) -> None:
        sealing.remove_leftovers(self._folder, read_manifest(self.directory))

    def _seal_segment(self, segment: Segment) -> None:
        prepared, sealed = sealing.prepared(self._folder, segment, self.store_id)
        self._put_in_place(segment, sealed, prepared)

    def _put_in_place(self, segment: Segment, sealed: Segment, prepared: Path) -> None:
        """Let a file that was written durably take the place of a segment's."""
        try:
            # Open until puts go on: giving back the room of a long file takes long.
            with opened_to_read(self._folder / segment.file):
                self._write(lambda: self._replace_segment(segment, sealed, prepared))
        finally:
            with contextlib.suppress(OSError):
                prepared.unlink(missing_ok=True)

    def _replace_segment(self, segment: Segment, sealed: Segment, prepared: Path) -> None:
        current = read_manifest(self.directory)
        # Another may have sealed it, since the lock on sealing can be removed.
        if segment not in current.segments:
            return
        sealing.move_into_place(prepared, self._folder / sealed.file)
        self._name_instead(current, [segment], sealed)
        (self._folder / segment.file).unlink(missing_ok=True)


def _is_missing(reason: OSError) -> bool:
    return isinstance(reason, (FileNotFoundError, NotADirectoryError))
