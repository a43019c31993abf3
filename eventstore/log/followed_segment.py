"""The active segment's file as it is followed: where its commits end, and which are noticed."""

from __future__ import annotations

import bisect
import contextlib
import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Callable
from enum import Enum
from operator import lt
from pathlib import Path

from eventstore import errors
from eventstore.late_logger import late_logger
from eventstore.log.acknowledged import FILE_NAME, Acknowledged, read_acknowledged
from eventstore.log.commit import has_valid_checksum
from eventstore.log.commit_ends import (
    FILE_NAME as COMMIT_ENDS_NAME,
)
from eventstore.log.commit_ends import (
    no_commits,
    read_commit_ends,
)
from eventstore.log.file_lock import is_at, try_shared
from eventstore.log.ipc_message import (
    CHECKSUM_BYTES,
    Envelope,
    UndecodableError,
    message_envelope,
)
from eventstore.log.ipc_stream import (
    END_OF_STREAM,
    NO_MESSAGE,
    Ending,
    Messages,
    Walk,
    can_be_torn,
    walk_messages,
)
from eventstore.log.manifest import IF_COPIED, ActiveSegment, Manifest
from eventstore.log.os_errors import translated, translating
from eventstore.log.record import LATEST
from eventstore.log.regular_file import open_regular, read_between
from eventstore.log.syncing import sync_content
from eventstore.times import Microseconds

_LOGGER = late_logger("eventstore.log")

_END_BYTES = CHECKSUM_BYTES + len(NO_MESSAGE)
SUSPECT = (Ending.INCOMPLETE, Ending.DAMAGED)
"""What a writer may have left that died, or is damage."""

_SURE = (Ending.ROOM, Ending.END_OF_STREAM)
_SECOND_LOOK_SECONDS = 0.02

_MESSAGES_MAX = 512
_MESSAGES_BYTES_MAX = 4 * 1024 * 1024
"""How many commits are read at a time: so many Arrow batches take 5 MB, so many bytes 15 ms."""

_READ_BYTES = 64 * 1024
"""How much is read first when something was appended; mostly it is enough."""


class Held(Enum):
    """How much of the segment's lock a reader holds, and so whether anybody can be writing."""

    NOTHING = "nothing"
    SHARED = "shared"
    EXCLUSIVE = "exclusive"


class FollowedSegment:
    """An active segment that is open. `ActiveSegmentFile` adds the appending.

    A commit is taken notice of once it is durable: its writer has acknowledged it, or it was synced
    here while nobody wrote. So none is ever taken back.

    Not safe to use from several threads; its owner holds a lock.
    """

    def __init__(self, folder: Path, manifest: Manifest, *, read_only: bool) -> None:
        entry = manifest.active
        self.number = entry.number
        self.path = folder / entry.file
        self.first_position = entry.first_position
        self.header_bytes = entry.header_bytes
        self._acknowledged_path = folder / FILE_NAME
        try:
            self._descriptor = open_regular(self.path, os.O_RDONLY if read_only else os.O_RDWR)
        except FileNotFoundError:
            raise errors.DataLossError(
                f"segment {self.number} is missing: the manifest names {self.path}; {IF_COPIED}, "
                "else restore it from a backup"
            ) from None
        except OSError as error:
            raise translated(error, "opening", self.path) from None
        self.end = entry.header_bytes
        self.is_ended = False
        self.has_unacknowledged = False
        """Whether commits follow of which it is not known that they are durable."""
        self.newest: Envelope | None = None
        """The newest commit in the file that was seen."""
        self.preceding = _newest_before(manifest)
        self._ends = no_commits()
        self._believed = 0
        """How many of the first commits' ends another writer has told."""
        self._room_end = 0
        """Where the file ends, if nothing but zeros is known to follow the newest commit."""
        try:
            with translating("reading", self.path):
                self._read_header(entry)
                self._take_known_ends()
        except BaseException:
            self.close()
            raise

    def _read_header(self, entry: ActiveSegment) -> None:
        header = self._read(0, entry.header_bytes)
        if hashlib.sha256(header).hexdigest() != entry.header_sha256:
            raise errors.DataLossError(
                f"segment {self.number}, {self.path}: its header is damaged; the first commit "
                f"after it starts at position {self.first_position}"
            )
        self._note_checksum(header)

    def close(self) -> None:
        # First out of sight: the number may be another file's once it is closed.
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def is_at_its_path(self, lock_descriptor: int) -> bool:
        """Whether the path leads to this file, and the lock is on it."""
        return is_at(self.path, self._descriptor, lock_descriptor)

    @property
    def last_position(self) -> int:
        return self._ends.positions[-1] if self._ends.positions else self.first_position - 1

    def refuse_closed(self) -> None:
        """Raise FailedPreconditionError when the file was closed."""
        if self._descriptor < 0:
            raise errors.FailedPreconditionError(
                f"the store of {self.path} is closed: open it again"
            )

    def file_bytes(self) -> int:
        if self._descriptor < 0:
            self.refuse_closed()
        # Not by its status: once that was read, Linux (since 6.13) gives the file a new time of
        # change at the next write, which then has to be synced, too.
        return os.lseek(self._descriptor, 0, os.SEEK_END)

    def is_up_to_date(self) -> bool:
        """Whether the newest known commit is still the newest; False when that cannot be told."""
        try:
            found = os.pread(self._descriptor, _END_BYTES, self.end - CHECKSUM_BYTES)
            return found == self._unchanged or (found == self._checksum and self._ends_here())
        except OSError:
            return False

    def settle(self) -> bool:
        """Take notice of unacknowledged commits unless somebody is writing; whether any were there.

        Their writer has died, or the acknowledgement was lost with the machine's power.
        """
        try:
            try:
                # Nobody writes where nothing can be locked.
                with contextlib.suppress(OSError):
                    if not try_shared(self._descriptor):
                        return False
                return self.catch_up(Held.SHARED)
            finally:
                self._unlock()
        finally:
            # Once more, since an interrupt can come as that is called.
            self._unlock()

    def _unlock(self) -> None:
        with contextlib.suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def catch_up(self, held: Held = Held.NOTHING) -> bool:
        """Notice what was appended since the last call; whether anything was.

        Stops before a message that is being written, and, unless the lock is shared or held, before
        one that is not known to be durable. Raises DataLossError when a commit that was
        acknowledged is damaged or gone, and what a failing disk raises when one cannot be made
        durable.
        """
        size = self.file_bytes()
        if size < self.end:
            raise errors.DataLossError(
                f"segment {self.number}, {self.path}: it ends at byte {size}, but commits up to "
                f"byte {self.end} were read from it before: something cut it"
            )
        self.has_unacknowledged = False
        if self.is_ended:
            # Its writer takes the marker back where it cannot be made durable, and goes on.
            marker = self._read(self.end, self.end + len(END_OF_STREAM))
            self.is_ended = marker == END_OF_STREAM
        if self.is_ended or self.is_up_to_date():
            return False
        if self._read(self.end - CHECKSUM_BYTES, self.end) != self._checksum:
            raise errors.DataLossError(
                f"segment {self.number}, {self.path}: what ends at byte {self.end} is not what was "
                "read there before: something replaced it; open the store again"
            )
        # Before the data: whatever is acknowledged by now is whole in what is read next.
        acknowledged = read_acknowledged(self._acknowledged_path)
        start = self.end
        data, walk = self._walk_from(start)
        is_damaged = self._is_damaged(data, walk, start, acknowledged)
        if is_damaged:
            # A writer may have been stopped while it copied the last bytes of a message.
            time.sleep(_SECOND_LOOK_SECONDS)
            data, walk = self._walk_from(start)
            is_damaged = self._is_damaged(data, walk, start, acknowledged)
        if is_damaged:
            self._absorb(data, walk.ends)
            raise self._damaged(self.last_position + 1, self.end)
        ends = walk.ends
        if ends and walk.ending is not Ending.END_OF_STREAM:
            ends = self._durable(data, ends, held)
        self._absorb(data, ends)
        self.is_ended = walk.ending is Ending.END_OF_STREAM
        return bool(ends)

    def content(self) -> bytes:
        """The file up to the newest commit that is known."""
        return self._read(0, self.end)

    def messages(self, after: int, upto: int) -> Messages:
        """The first of the commits that have records in (after, upto], of which there are some."""
        while True:
            offsets, positions = self._ends.offsets, self._ends.positions
            first = bisect.bisect_right(positions, after)
            start = offsets[first - 1] if first else self.header_bytes
            last = min(
                bisect.bisect_left(positions, upto) + 1,
                first + _MESSAGES_MAX,
                max(bisect.bisect_right(offsets, start + _MESSAGES_BYTES_MAX), first + 1),
                len(offsets),
            )
            data = memoryview(self._read(start, offsets[last - 1]))
            ends = [end - start for end in offsets[first:last]]
            # Whatever was known of them before: the file may have changed since.
            if self._check(data, ends, first):
                return Messages(data, ends, positions[last - 1], first, self._damaged_commit)

    def commit_end(self, position: int) -> int | None:
        """The last position of the newest commit that ends at or before `position`."""
        index = self._found(lambda: bisect.bisect_right(self._ends.positions, position) - 1)
        return self._ends.positions[index] if index >= 0 else None

    def position_at(self, recorded_at: Microseconds) -> int | None:
        """The last position of the newest commit recorded at or before a moment."""
        index = self._found(lambda: bisect.bisect_right(self._ends.recorded_ats, recorded_at) - 1)
        return self._ends.positions[index] if index >= 0 else None

    def recorded_at(self, position: int) -> Microseconds:
        index = self._found(lambda: bisect.bisect_left(self._ends.positions, position) - 1) + 1
        return Microseconds(self._ends.recorded_ats[index])

    def _found(self, search: Callable[[], int]) -> int:
        """Which commit a search finds; it and the one after are compared with what was known."""
        index = search()
        for number in (index, index + 1):
            if 0 <= number < self._believed:
                start = self._ends.offsets[number - 1] if number else self.header_bytes
                end = self._ends.offsets[number]
                if not self._check(memoryview(self._read(start, end)), [end - start], number):
                    return search()
        return index

    def _note_checksum(self, known: bytes | memoryview) -> None:
        """Note the last bytes of what is known: a commit's checksum, which is its identity."""
        self._checksum = bytes(known[-CHECKSUM_BYTES:])
        self._unchanged = self._checksum + NO_MESSAGE

    def _durable(self, data: memoryview, ends: list[int], held: Held) -> list[int]:
        """Those of the whole and valid messages after the newest commit that are durable."""
        # Read after the data: a writer acknowledges what it has written and synced before.
        acknowledged = read_acknowledged(self._acknowledged_path)
        known_end = self.header_bytes
        if acknowledged is not None and acknowledged.segment >= self.number:
            is_past = acknowledged.segment > self.number
            known_end = self.end + ends[-1] if is_past else acknowledged.end
        durable = ends[: bisect.bisect_right(ends, known_end - self.end)]
        if len(durable) == len(ends):
            return ends
        if held is Held.NOTHING:
            self.has_unacknowledged = True
            return durable
        try:
            if held is Held.EXCLUSIVE:
                # A failed sync may have left it in memory alone, where no later sync sees it.
                self._write(bytes(data[: ends[-1]]))
            self._sync()
        except OSError as error:
            raise translated(error, "syncing", self.path) from None
        return ends

    def _absorb(self, data: memoryview, ends: list[int]) -> None:
        """Take notice of whole messages after the newest commit: of all, or of none if it fails.

        An interrupt can come between any two steps.
        """
        if not ends:
            return
        start, begin = self.end, 0
        known, newest = len(self._ends.offsets), self.newest
        try:
            for end in ends:
                before, newest = newest or self.preceding, message_envelope(data[begin:end])
                _refuse_gap(before, newest)
                self._ends.add(start + end, newest.last_position, newest.recorded_at)
                begin = end
            checksum = bytes(data[begin - CHECKSUM_BYTES : begin])
            unchanged = checksum + NO_MESSAGE
            self.end, self.newest, self._checksum, self._unchanged = (
                start + begin,
                newest,
                checksum,
                unchanged,
            )
        except UndecodableError as error:
            damaged = self._damaged_commit(len(self._ends.offsets), error.reason)
            self._ends.cut(known)
            raise damaged from None
        except BaseException:
            self._ends.cut(known)
            raise

    def _take_known_ends(self) -> None:
        """Begin after what earlier writers noted of the commits' ends, if it fits the file."""
        known = read_commit_ends(self.path.parent, self.number)
        places = [self.header_bytes, *known.offsets, self.file_bytes() + 1]
        if not known.offsets or not all(map(lt, places, places[1:])):
            return
        data = memoryview(self._read(known.offsets[-2], known.offsets[-1]))
        if not has_valid_checksum(data):
            return
        try:
            newest = message_envelope(data)
        except UndecodableError:
            # Named when the segment is read, which it is from its start on then.
            return
        if newest[1:3] == (known.positions[-1], known.recorded_ats[-1]):
            self.newest, self._ends = newest, known
            self._note_checksum(data)
            self.end = known.offsets[-1]
            self._believed = len(known.offsets)

    def _check(self, data: memoryview, ends: list[int], first: int) -> bool:
        """Check commits, the first of which has an index, as they were read just now.

        False when what other writers noted of the commits' ends is not what the segment says; the
        ends are then known from the segment alone.
        """
        start = 0
        for index, end in enumerate(ends, start=first):
            message = data[start:end]
            is_whole = has_valid_checksum(message)
            if index < self._believed and not (is_whole and self._is_told(message, index)):
                self._read_ends()
                return False
            if not is_whole:
                raise self._damaged_commit(index)
            start = end
        return True

    def _is_told(self, message: memoryview, index: int) -> bool:
        told = (self._ends.positions[index], self._ends.recorded_ats[index])
        try:
            return message_envelope(message)[1:3] == told
        except UndecodableError:
            return False

    def _read_ends(self) -> None:
        """Take the commits' ends from the segment itself."""
        _LOGGER.warning(
            "%s does not say what the segment does: reading the segment",
            self.path.parent / COMMIT_ENDS_NAME,
        )
        known_end, before = self.end, (self._ends, self._believed, self.newest, self.end)
        last_position, checksums = self.last_position, (self._checksum, self._unchanged)
        data, walk = self._walk_from(self.header_bytes)
        try:
            self._ends, self._believed, self.newest, self.end = (
                no_commits(),
                0,
                None,
                self.header_bytes,
            )
            self._absorb(data, [end for end in walk.ends if self.end + end <= known_end])
            if self.last_position < last_position:
                raise self._damaged(self.last_position + 1, self.end)
        except BaseException:
            self._ends, self._believed, self.newest, self.end = before
            self._checksum, self._unchanged = checksums
            raise

    def _walk_from(self, start: int) -> tuple[memoryview, Walk]:
        """The file's bytes from an offset on, as far as they are needed, and a walk over them."""
        size = self.file_bytes()
        data = memoryview(self._read(start, min(start + _READ_BYTES, size)))
        walk = walk_messages(data)
        if walk.ending not in _SURE and start + len(data) < size:
            data = memoryview(self._read(start, size))
            walk = walk_messages(data)
        return data, walk

    def _is_damaged(
        self, data: memoryview, walk: Walk, start: int, acknowledged: Acknowledged | None
    ) -> bool:
        """Whether a walk stopped at what no running or interrupted write can have left."""
        is_acknowledged = (
            acknowledged is not None
            and acknowledged.segment == self.number
            and start + walk.stopped_at < acknowledged.end
        )
        return walk.ending in SUSPECT and (is_acknowledged or not can_be_torn(data, walk, start))

    def _damaged_commit(self, index: int, reason: str = "") -> errors.DataLossError:
        position = self._ends.positions[index - 1] if index else self.first_position - 1
        offset = self._ends.offsets[index - 1] if index else self.header_bytes
        return self._damaged(position + 1, offset, reason)

    def _damaged(self, position: int, offset: int, reason: str = "") -> errors.DataLossError:
        return errors.DataLossError(
            f"segment {self.number}, {self.path}: the commit that starts at position {position} "
            f"(byte {offset}) is damaged{reason and f' ({reason})'}; run `eventstore verify` and "
            "restore the file from a backup"
        )

    def _read(self, start: int, end: int) -> bytes:
        self.refuse_closed()
        return read_between(self._descriptor, start, end)

    def _ends_here(self) -> bool:
        """Whether the file ends where the newest commit does."""
        return os.lseek(self._descriptor, 0, os.SEEK_END) == self.end

    def _write(self, message: bytes) -> None:
        written = os.pwrite(self._descriptor, message, self.end)
        while written < len(message):
            # A full disk takes part of it and refuses the rest.
            more = os.pwrite(self._descriptor, message[written:], self.end + written)
            if not more:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            written += more
        self._room_end = max(self._room_end, self.end + written)

    def _sync(self) -> None:
        """Make what was written durable."""
        sync_content(self._descriptor)


def _newest_before(manifest: Manifest) -> Envelope:
    """The commit before the first of the active segment; zeros when there is none."""
    if not manifest.segments:
        return Envelope(0, 0, Microseconds(0), 0)
    last = manifest.segments[-1]
    return Envelope(
        last.last_commit, last.last_position, last.last_recorded_at, last.first_position
    )


def _refuse_gap(before: Envelope, commit: Envelope) -> None:
    """Raise UndecodableError unless a commit can follow the one before it."""
    if (
        commit.number != before.number + 1
        or commit.first_position != before.last_position + 1
        or not before.recorded_at <= commit.recorded_at <= LATEST
    ):
        raise UndecodableError(
            f"it says commit {commit.number}, positions {commit.first_position} to "
            f"{commit.last_position}, recorded at {commit.recorded_at}, after commit "
            f"{before.number}, position {before.last_position}, recorded at {before.recorded_at}"
        )
