"""The active segment's file, appended to by writers and recovered after death.

After the newest commit lies room for further ones: zeros. Syncing what was written over them takes
half as long as syncing a file that grew, whose size and blocks must be synced with it. The room is
given back when the segment ends or a writer closes it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from eventstore import errors
from eventstore.late_logger import late_logger
from eventstore.log.acknowledged import read_acknowledged
from eventstore.log.commit import encode_commit
from eventstore.log.commit_ends import BLOCK_COMMITS, write_commit_ends
from eventstore.log.followed_segment import SUSPECT, FollowedSegment
from eventstore.log.growing_digest import GrowingDigest
from eventstore.log.ipc_message import Envelope
from eventstore.log.ipc_stream import END_OF_STREAM, is_zero, walk_messages
from eventstore.log.manifest import Manifest
from eventstore.log.os_errors import translated
from eventstore.log.record import Commit

_LOGGER = late_logger("eventstore.log")

_ROOM = bytes(256 * 1024)
"""How much room is made at a time, in bytes."""

_ROOM_MESSAGE_BYTES_MAX = 16 * 1024
"""For longer messages, making room would take as long as it saves."""


class ActiveSegmentFile(FollowedSegment):
    """An active segment that is open, to append to under the writers' lock."""

    def __init__(self, folder: Path, manifest: Manifest, *, read_only: bool) -> None:
        super().__init__(folder, manifest, read_only=read_only)
        self._digest = GrowingDigest()
        """Of commits that are durable."""

    def append(self, commits: Sequence[Commit]) -> None:
        """Write commits and make them durable together. On failure none was added.

        Raises ResourceExhaustedError when the disk is full, OutcomeUnknownError when it is not
        known whether they will be there.
        """
        messages = [encode_commit(commit) for commit in commits]
        try:
            self._make_room(messages)
            self._write(b"".join(messages))
        except OSError as error:
            if self._take_back():
                raise translated(error, "appending to", self.path) from None
            raise self._outcome_unknown("appending to", error) from None
        try:
            self._sync()
        except OSError as error:
            if self._take_back():
                raise errors.UnavailableError(
                    f"syncing {self.path} failed: {_reason(error)}; the commit was taken back: "
                    "reopen the store before the next put"
                ) from None
            raise self._outcome_unknown("syncing", error) from None
        for message, commit in zip(messages, commits, strict=True):
            self.end += len(message)
            self._note_checksum(message)
            first, last = commit.first_position, commit.last_position
            self._note(self.end, Envelope(commit.number, last, commit.recorded_at, first))
            if len(self._ends.offsets) % BLOCK_COMMITS == 0:
                # Without it the next opening takes longer, and nothing else.
                with contextlib.suppress(OSError):
                    write_commit_ends(self.path.parent, self.number, self._ends)
            # Now, so that the put which closes the segment need not wait for all of it.
            self._digest.note_appended(self._descriptor, len(message), self.end)

    def append_end_of_stream(self) -> None:
        """Mark that no commit follows: readers then look into the manifest for the next segment.

        To be repeated where a writer may have died while doing it.
        """
        try:
            self._write(END_OF_STREAM)
            os.ftruncate(self._descriptor, self.end + len(END_OF_STREAM))
            os.fsync(self._descriptor)
        except OSError as error:
            self._take_back()
            self.is_ended = False
            raise translated(error, "closing", self.path) from None
        self.is_ended = True

    def take_back_end_of_stream(self) -> None:
        """Remove the marker, for commits to follow. Raises UnavailableError where that fails."""
        if not self._take_back():
            raise errors.UnavailableError(f"cutting {self.path} back failed; nothing was put")
        self.is_ended = False

    @property
    def unhashed_bytes(self) -> int:
        """How much of the file `sha256` has to read."""
        return self.end - self._digest.size

    def hashing(self) -> Callable[[], None]:
        """What hashes the commits that there are, to be called where no put waits for it."""
        self.refuse_closed()
        descriptor, digest, end = os.dup(self._descriptor), self._digest, self.end

        def hash_them() -> None:
            try:
                digest.extend(descriptor, end)
            finally:
                os.close(descriptor)

        return hash_them

    def sha256(self) -> str:
        """Of the file, in hexadecimal, once it has ended."""
        self._digest.extend(self._descriptor, self.end)
        return self._digest.followed_by(self._read(self.end, self.file_bytes()))

    def cut_torn_tail(self) -> None:
        """Remove what a writer left half-written when it died. Only under the writers' lock.

        Raises DataLossError when no dying writer can have left what follows the newest commit.
        """
        size = self.file_bytes()
        if self.is_ended or (size == self._room_end and self.is_up_to_date()):
            return
        acknowledged = read_acknowledged(self._acknowledged_path)
        data = memoryview(self._read(self.end, size))
        walk = walk_messages(data)
        if walk.ends or self._is_damaged(data, walk, self.end, acknowledged):
            raise self._damaged(self.last_position + 1, self.end)
        self._room_end = size
        if walk.ending in SUSPECT:
            _LOGGER.warning(
                "%s: cutting back what a writer left half-written after position %d",
                self.path,
                self.last_position,
            )
            os.ftruncate(self._descriptor, self.end)
            self._room_end = self.end
            os.fsync(self._descriptor)

    def give_back_room(self) -> None:
        """Let the file end after its newest commit. Only under the writers' lock."""
        if is_zero(memoryview(self._read(self.end, self.file_bytes()))):
            os.ftruncate(self._descriptor, self.end)
            self._room_end = self.end

    def _read_ends(self) -> None:
        self._digest = GrowingDigest()
        super()._read_ends()

    def _note(self, end: int, envelope: Envelope) -> None:
        self.newest = envelope
        self._ends.add(end, envelope.last_position, envelope.recorded_at)

    def _make_room(self, messages: Sequence[bytes]) -> None:
        """Make room for messages, if they are short ones."""
        size, needed = self.file_bytes(), sum(map(len, messages))
        if self.end + needed > size and needed <= _ROOM_MESSAGE_BYTES_MAX * len(messages):
            # Without it an append takes longer, and nothing else.
            with contextlib.suppress(OSError):
                self._room_end = size + os.pwrite(self._descriptor, _ROOM, size)

    def _take_back(self) -> bool:
        """Remove what was written after the newest commit; whether it is gone for good."""
        try:
            os.ftruncate(self._descriptor, self.end)
            self._room_end = self.end
            os.fsync(self._descriptor)
        except OSError as error:
            _LOGGER.warning("cutting %s back to byte %d failed: %s", self.path, self.end, error)
            return False
        return True

    def _outcome_unknown(self, doing: str, error: OSError) -> errors.OutcomeUnknownError:
        return errors.OutcomeUnknownError(
            f"{doing} {self.path} failed: {_reason(error)}; whether the commit was kept is not "
            "known: reopen the store before the next put"
        )


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or 0)
