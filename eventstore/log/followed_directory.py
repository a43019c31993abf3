"""A log in a directory: opened, here and in forked children, and followed as others append."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from eventstore import errors
from eventstore.log import acknowledged
from eventstore.log.active_segment import ActiveSegmentFile
from eventstore.log.closed_segments import ClosedSegments
from eventstore.log.commit import in_sequence
from eventstore.log.creation import LOG_FOLDER
from eventstore.log.followed_segment import Held
from eventstore.log.forking import open_at_first_use, renew_in_children
from eventstore.log.ipc_message import Envelope
from eventstore.log.leaf import leaf_hashes
from eventstore.log.manifest import (
    IF_COPIED,
    MANIFEST_NAME,
    Manifest,
    read_manifest,
)
from eventstore.log.merkle import Frontier
from eventstore.log.no_store import refuse_encrypted_backup
from eventstore.log.os_errors import translated, translating
from eventstore.log.record import Position
from eventstore.log.regular_file import is_irregular, open_regular
from eventstore.log.store_place import StorePlace
from eventstore.log.writers_lock import WritersLock

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_Answer = TypeVar("_Answer")

_OPENING_WAIT_SECONDS = 10.0
_OPENING_POLL_SECONDS = 0.01

_KNOWN = frozenset(
    (
        "_active",
        "_closed",
        "_frontier",
        "_manifest",
        "_has_failed",
        "_place",
    )
)
"""What a log knows of its files, which a forked child has to learn again."""


class FollowedDirectory:
    """What a log in a directory has open and knows of what others append.

    Nobody takes a lock for that. See FORMAT.md for the files.
    """

    directory: Path
    content_epoch = 0

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        *,
        read_only: bool,
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
        self._manifest = manifest
        self._frontier: Frontier | None = None
        self._closed = ClosedSegments(self._folder)
        self._has_failed = False
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
            _with_newest_manifest(self.directory, self._open_same)
        except BaseException:
            for name in _KNOWN:
                self.__dict__.pop(name, None)
            raise

    def _open_same(self, manifest: Manifest) -> None:
        if manifest.store_id != self.store_id:
            raise self._replaced(manifest)
        self._open(manifest)

    @property
    def name(self) -> str:
        return os.fspath(self.directory)

    @property
    def position(self) -> Position:
        return Position(self._active.last_position)

    @property
    def commit_number(self) -> int:
        return self._newest_commit().number

    def is_still_at(self, position: Position, content_epoch: int) -> bool:
        active = self._active
        return (
            active.last_position == position
            and content_epoch == self.content_epoch
            and not self._has_news
            and active.is_up_to_date()
        )

    def refresh(self) -> bool:
        # Mostly there is nothing new, and that can be told without waiting for others.
        if self.is_still_at(self.position, self.content_epoch):
            return False
        with self._mutex, translating("reading", self._folder):
            before = self.position
            try:
                self._catch_up()
            finally:
                # Told by the next call if this one fails.
                self._has_news = self._has_news or self.position != before
            has_news, self._has_news = self._has_news, False
            return has_news

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

    def _newest_commit(self) -> Envelope:
        """The newest commit that is known; zeros when there is none."""
        active = self._active
        return active.newest or active.preceding

    def _reload_manifest(self) -> bool:
        """Take over a newer manifest; whether the active segment is another one now."""
        manifest = read_manifest(self.directory)
        if manifest.store_id != self.store_id:
            raise self._replaced(manifest)
        active = self._active
        if manifest.generation < self._manifest.generation:
            return False
        if manifest.active.number == active.number:
            self._manifest = manifest
            return False
        successor = ActiveSegmentFile(self._folder, manifest, read_only=self.read_only)
        # At once: whoever is interrupted in between would not find the one by the other.
        self._manifest, self._active, self._frontier = manifest, successor, None
        active.close()
        return True

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
        if self.position >= self._active.first_position:
            *_, newest = self._active.messages(self.position - 1, self.position).commits()
            return newest.tree_head
        segments = self._manifest.segments
        return bytes.fromhex(segments[-1].tree_head) if segments else None

    def _recomputed_frontier(self) -> Frontier:
        segments = self._manifest.segments
        frontier = Frontier()
        if segments:
            subtrees = [bytes.fromhex(subtree) for subtree in segments[-1].frontier]
            frontier = Frontier(segments[-1].last_position, subtrees)
        while frontier.size < self.position:
            messages = self._active.messages(frontier.size, self.position)
            for commit in in_sequence(messages.commits()):
                frontier.extend(leaf_hashes(self.store_id, commit.records))
        return frontier

    # For a copy of the whole log by a handle that no longer takes notice of others

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

    # Descriptors

    def close(self) -> None:
        """Release what is open."""
        if self._is_closed:
            return
        with self._mutex:
            self._close_descriptors()
            if "_active" in self.__dict__:
                self._active.close()
        self._is_closed = True

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


def opened(directory: Path, open_by: Callable[[Manifest], _Answer]) -> _Answer:
    """The log in a directory, opened by its manifest.

    Raises NotFoundError when there is none, DataLossError when it is damaged, and
    FailedPreconditionError when its format is newer than this version reads.
    """
    with translating("opening", directory):
        manifest = directory / MANIFEST_NAME
        is_there = manifest.is_file() or is_irregular(manifest)
    if not is_there:
        refuse_encrypted_backup(directory)
        raise errors.NotFoundError(
            f"there is no store at {directory}: check the path, or create one"
        )
    return _with_newest_manifest(directory, open_by)


def _with_newest_manifest(directory: Path, open_by: Callable[[Manifest], _Answer]) -> _Answer:
    """The result of opening a store by its manifest, read again while writers replace it."""
    while True:
        manifest = read_manifest(directory)
        try:
            return open_by(manifest)
        except errors.DataLossError:
            # Writers may have gone on to another segment since the manifest was read. They go on
            # at their own pace, so that this ends.
            if read_manifest(directory).generation == manifest.generation:
                raise
        except OSError as error:
            raise translated(error, "opening", directory) from None
