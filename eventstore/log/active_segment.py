"""The active segment's file: appended to by writers, followed by readers, recovered after death."""

from __future__ import annotations

import bisect
import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from eventstore import errors
from eventstore.log.acknowledged import Acknowledged, read_acknowledged
from eventstore.log.columns import ACTIVE_SCHEMA
from eventstore.log.ipc_stream import (
    END_OF_STREAM,
    Ending,
    Walk,
    has_valid_message,
    read_batches,
    walk_messages,
)
from eventstore.log.manifest import ActiveSegment as ManifestEntry
from eventstore.log.os_errors import translated
from eventstore.log.record import Commit

_LOGGER = logging.getLogger("eventstore.log")
_ZERO_CHECKSUM = bytes(32)


class ActiveSegmentFile:
    """One open active segment, and where each commit in it ends.

    Not safe to use from several threads; its owner holds a lock.
    """

    def __init__(self, folder: Path, entry: ManifestEntry, *, read_only: bool) -> None:
        self.number = entry.number
        self.path = folder / entry.file
        self.first_position = entry.first_position
        self.header_bytes = entry.header_bytes
        self._acknowledged_path = folder / "acknowledged"
        flags = os.O_RDONLY if read_only else os.O_RDWR | os.O_APPEND
        try:
            self._descriptor = os.open(self.path, flags | getattr(os, "O_BINARY", 0))
        except FileNotFoundError:
            raise errors.DataLossError(
                f"segment {self.number} is missing: the manifest names {self.path}"
            ) from None
        except OSError as error:
            raise translated(error, "opening", self.path) from None
        self.end = entry.header_bytes
        self.is_ended = False
        self._ends: list[int] = []
        self._last_positions: list[int] = []
        self._recorded_ats: list[int] = []
        header = os.pread(self._descriptor, entry.header_bytes, 0)
        if hashlib.sha256(header).hexdigest() != entry.header_sha256:
            self.close()
            raise errors.DataLossError(
                f"segment {self.number}, {self.path}: its header is damaged; the first commit "
                f"behind it starts at position {self.first_position}"
            )

    def close(self) -> None:
        os.close(self._descriptor)

    @property
    def last_position(self) -> int:
        return self._last_positions[-1] if self._last_positions else self.first_position - 1

    def file_bytes(self) -> int:
        return os.fstat(self._descriptor).st_size

    def catch_up(self) -> list[pa.RecordBatch]:
        """The commits appended since the last call. Stops before a message that is being written.

        Raises DataLossError when a commit that was acknowledged is damaged or gone.
        """
        size = self.file_bytes()
        if size == self.end or self.is_ended:
            return []
        if size < self.end:
            raise errors.DataLossError(
                f"segment {self.number}, {self.path}: it ends at byte {size}, but commits up to "
                f"byte {self.end} were read from it before: something cut it"
            )
        # Before the data: whatever is acknowledged by now is whole in what is read after.
        acknowledged = read_acknowledged(self._acknowledged_path)
        data = memoryview(self._read(self.end, size))
        walk = walk_messages(data)
        batches = self._absorb(data, walk)
        if walk.ending is Ending.END_OF_STREAM:
            self.is_ended = True
        elif walk.ending is not Ending.END_OF_FILE:
            self._refuse_damage(data, walk, size - len(data), acknowledged)
        return batches

    def append(self, message: bytes, commit: Commit) -> None:
        """Write one commit and make it durable. On failure the file is as it was.

        Raises ResourceExhaustedError when the disk is full, UnavailableError when the outcome is
        not known.
        """
        try:
            written = os.write(self._descriptor, message)
            while written < len(message):
                written += os.write(self._descriptor, message[written:])
        except OSError as error:
            self._cut(self.end)
            raise translated(error, "appending to", self.path) from None
        try:
            _sync_data(self._descriptor)
        except OSError as error:
            self._cut(self.end)
            raise errors.UnavailableError(
                f"syncing {self.path} failed: {os.strerror(error.errno or 0)}; the commit was "
                "taken back, reopen the store before the next put"
            ) from None
        self.end += len(message)
        self._note(self.end, commit.last_position, commit.recorded_at)

    def append_end_of_stream(self) -> None:
        """Mark that no commit follows: readers then look into the manifest for the next segment."""
        try:
            os.write(self._descriptor, END_OF_STREAM)
            os.fsync(self._descriptor)
        except OSError as error:
            self._cut(self.end)
            raise translated(error, "closing", self.path) from None
        self.is_ended = True

    def cut_torn_tail(self) -> None:
        """Remove what a writer left half-written when it died. Only under the writers' lock."""
        torn_bytes = self.file_bytes() - self.end
        if self.is_ended or torn_bytes <= 0:
            return
        _LOGGER.warning(
            "%s: cutting back %d bytes that a writer left half-written after position %d",
            self.path,
            torn_bytes,
            self.last_position,
        )
        self._cut(self.end)
        os.fsync(self._descriptor)

    def batches(self, after: int, upto: int) -> Iterator[pa.RecordBatch]:
        """One batch a commit: those that have records in (after, upto]."""
        first = bisect.bisect_right(self._last_positions, after)
        last = min(bisect.bisect_left(self._last_positions, upto) + 1, len(self._ends))
        if first >= last:
            return
        start = self._ends[first - 1] if first else self.header_bytes
        data = memoryview(self._read(start, self._ends[last - 1]))
        ends = [end - start for end in self._ends[first:last]]
        yield from read_batches(data, ends, 0)

    def commit_end(self, position: int) -> int | None:
        """The last position of the newest commit that ends at or before `position`."""
        index = bisect.bisect_right(self._last_positions, position) - 1
        return self._last_positions[index] if index >= 0 else None

    def position_at(self, recorded_at: int) -> int | None:
        """The last position of the newest commit recorded at or before a moment."""
        index = bisect.bisect_right(self._recorded_ats, recorded_at) - 1
        return self._last_positions[index] if index >= 0 else None

    def recorded_at(self, position: int) -> int:
        return self._recorded_ats[bisect.bisect_left(self._last_positions, position)]

    def reopen(self) -> None:
        """Give a forked child an open file of its own."""
        flags = os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(self.path, flags)

    def _note(self, end: int, last_position: int, recorded_at: int) -> None:
        self._ends.append(end)
        self._last_positions.append(last_position)
        self._recorded_ats.append(recorded_at)

    def _absorb(self, data: memoryview, walk: Walk) -> list[pa.RecordBatch]:
        start = self.end
        batches = read_batches(data, walk.ends, 0)
        if batches:
            table = pa.Table.from_batches(batches, ACTIVE_SCHEMA).select(
                ["position", "recorded_at", "tree_head"]
            )
            last_rows = table.filter(table["tree_head"].is_valid())
            positions = last_rows["position"].to_pylist()
            recorded_ats = last_rows["recorded_at"].cast(pa.int64()).to_pylist()
            for end, position, recorded_at in zip(walk.ends, positions, recorded_ats, strict=True):
                self._note(start + end, position, recorded_at)
        self.end = start + walk.stopped_at
        return batches

    def _refuse_damage(
        self, data: memoryview, walk: Walk, start: int, acknowledged: Acknowledged | None
    ) -> None:
        """Raise unless what the walk stopped at can be the tail of an interrupted write."""
        offset = start + walk.stopped_at
        is_acknowledged = (
            acknowledged is not None
            and acknowledged.segment == self.number
            and offset < acknowledged.end
        )
        # A write that a crash interrupted leaves a short message, or zeros in place of its end.
        is_whole_but_wrong = (
            walk.ending is Ending.DAMAGED and bytes(data[-len(_ZERO_CHECKSUM) :]) != _ZERO_CHECKSUM
        )
        if is_acknowledged or is_whole_but_wrong or has_valid_message(data, walk.stopped_at + 8):
            raise errors.DataLossError(
                f"segment {self.number}, {self.path}: the commit that starts at position "
                f"{self.last_position + 1} (byte {offset}) is damaged; run `eventstore verify` and "
                "restore the file from a backup"
            )

    def _read(self, start: int, end: int) -> bytes:
        parts = []
        while start < end:
            part = os.pread(self._descriptor, end - start, start)
            if not part:
                break
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _cut(self, end: int) -> None:
        try:
            os.ftruncate(self._descriptor, end)
        except OSError:
            _LOGGER.exception("cutting %s back to byte %d failed", self.path, end)


def _sync_data(descriptor: int) -> None:
    if hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:
        os.fsync(descriptor)
