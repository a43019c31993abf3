"""Read the Arrow IPC stream of an active or closed segment, message by message.

The stream is a schema message, then one record batch message per commit. A closed segment ends in
the end-of-stream marker, an active one in room for further commits: zeros. Arrow itself does not
notice a flipped bit, so every message is checked against its own checksum before anything in it is
believed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from enum import Enum
from typing import TYPE_CHECKING

import msgspec

from eventstore import errors
from eventstore.log.commit import commits_of, has_valid_checksum
from eventstore.log.ipc_message import (
    CHECKSUM_BYTES,
    UndecodableError,
    commit_of_message,
    is_compressed,
    lacks_values,
    message_envelope,
    says_more,
)
from eventstore.log.record import Commit
from eventstore.log.record_check import envelope_fault

if TYPE_CHECKING:
    import pyarrow as pa

END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"

NO_MESSAGE = bytes(8)
"""What is found in place of the start of a message where room is left."""

_CONTINUATION = 0xFFFFFFFF
_CONTINUATION_BYTES = b"\xff\xff\xff\xff"
_NO_CHECKSUM = bytes(CHECKSUM_BYTES)
_SECTOR_BYTES = 512
"""Disks write this much or nothing."""

_PREFIX = struct.Struct("<Ii")
_ALIGNMENT = 8
# The fields of a flatbuffer table are found over its vtable: `bodyLength` is the fourth of Message.
_BODY_LENGTH_SLOT = 4 + 2 * 3


class Ending(Enum):
    """What a walk over the messages stopped at."""

    END_OF_FILE = "end of file"
    END_OF_STREAM = "end-of-stream marker"
    ROOM = "room for further commits"
    INCOMPLETE = "a message that is not whole"
    DAMAGED = "a message that does not match its checksum"


class Walk(msgspec.Struct, frozen=True):
    """The whole and valid messages from an offset on.

    `ends` are the offsets at which they end, ascending; `stopped_at` is where the walk stopped.
    """

    ends: list[int]
    stopped_at: int
    ending: Ending


def schema_message(metadata: dict[str, str]) -> bytes:
    """The header of a segment: the schema with `metadata` attached."""
    from eventstore.log.columns import ACTIVE_SCHEMA

    return ACTIVE_SCHEMA.with_metadata(metadata).serialize().to_pybytes()  # type: ignore[no-any-return]


def schema_message_bytes(data: memoryview) -> int:
    """The length of the header, which has no body, at the start of a stream."""
    return _PREFIX.size + int.from_bytes(data[4:8], "little")


def walk_messages(
    data: memoryview, offset: int = 0, visit: Callable[[int], None] | None = None
) -> Walk:
    """Walk from the start of a message to the first thing that is not a whole and valid one.

    `visit` is called with the number of messages so far, after each.
    """
    ends: list[int] = []
    while True:
        if offset == len(data):
            return Walk(ends, offset, Ending.END_OF_FILE)
        if data[offset : offset + len(END_OF_STREAM)] == END_OF_STREAM:
            return Walk(ends, offset, Ending.END_OF_STREAM)
        if data[offset : offset + len(NO_MESSAGE)] == NO_MESSAGE and is_zero(data[offset:]):
            return Walk(ends, offset, Ending.ROOM)
        end = _message_end(data, offset)
        if end is None or end > len(data):
            return Walk(ends, offset, Ending.INCOMPLETE)
        if not has_valid_checksum(data[offset:end]):
            return Walk(ends, offset, Ending.DAMAGED)
        ends.append(end)
        offset = end
        if visit is not None:
            visit(len(ends))


def can_be_torn(data: memoryview, walk: Walk, start: int) -> bool:
    """Whether what a walk over the file from byte `start` on stopped at can be a torn write.

    A write that a crash interrupted leaves a short message, or zeros where a sector of it did not
    reach the disk, and no valid message after it but those that were written together with it.
    Anything else was damaged afterwards.
    """
    offset = walk.stopped_at
    following = [*_valid_messages(data, offset + _ALIGNMENT)]
    if following:
        return _can_be_of_one_write(data, offset, following, start)
    end = _message_end(data, offset)
    if walk.ending is Ending.INCOMPLETE or end is None:
        return True
    if data[end - CHECKSUM_BYTES : end] == _NO_CHECKSUM:
        return True
    return _lacks_a_sector(data, offset, end, start)


def starts_like_a_message(data: memoryview, offset: int) -> bool:
    """Whether the first four bytes of a message, as far as they are there, are right."""
    start = bytes(data[offset : offset + len(_CONTINUATION_BYTES)])
    return _CONTINUATION_BYTES.startswith(start)


def is_zero(data: memoryview) -> bool:
    # Bytes are compared as a whole, views number by number.
    return bytes(data) == bytes(len(data))


def _can_be_of_one_write(
    data: memoryview, offset: int, following: list[tuple[int, int]], start: int
) -> bool:
    """Whether one write can have held what lies from an offset on, of which sectors are lacking.

    The first commit of a write has an even time, and the others one more. What was synced before a
    write began cannot have been torn: if a whole message that follows begins one, it is damage.
    """
    try:
        moments = {message_envelope(data[first:end]).recorded_at for first, end in following}
    except UndecodableError:
        return False
    if len(moments) > 1 or any(moment % 2 == 0 for moment in moments):
        return False
    for first, end in following:
        if offset < first and not _lacks_a_sector(data, offset, first, start):
            return False
        offset = end
    return True


def _lacks_a_sector(data: memoryview, first: int, end: int, start: int) -> bool:
    """Whether a sector of the file is zero, as far as it is in a part of the data."""
    sectors = range(first - (start + first) % _SECTOR_BYTES, end, _SECTOR_BYTES)
    return any(
        is_zero(data[max(sector, first) : min(sector + _SECTOR_BYTES, end)]) for sector in sectors
    )


def _valid_messages(data: memoryview, offset: int) -> Iterator[tuple[int, int]]:
    """Where whole and valid messages start and end, at or after `offset`."""
    content = bytes(data)
    start = content.find(_CONTINUATION_BYTES, offset)
    while start >= 0:
        end = _message_end(data, start) if start % _ALIGNMENT == 0 else None
        if end is not None and end <= len(data) and has_valid_checksum(data[start:end]):
            yield start, end
            start = content.find(_CONTINUATION_BYTES, end)
        else:
            start = content.find(_CONTINUATION_BYTES, start + 1)


def read_batches(data: memoryview, ends: list[int], start: int) -> list[pa.RecordBatch]:
    """The record batches of consecutive messages, the first of which starts at `start`.

    A checksum says that a message is as it was written, not that it was written by a store: what
    is read here holds what Arrow relies on. Raises UndecodableError.
    """
    import pyarrow as pa

    from eventstore.log.columns import ACTIVE_SCHEMA

    batches = []
    for number, end in enumerate(ends):
        message = data[start:end]
        try:
            batch = pa.ipc.read_record_batch(pa.py_buffer(message), ACTIVE_SCHEMA)
            batch.validate(full=True)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UndecodableError(str(error), number) from None
        if lacks_values(message):
            raise UndecodableError("a value is missing that every record has", number)
        if says_more(message) or is_compressed(message):
            raise UndecodableError("its message is not one that a store writes", number)
        batches.append(batch)
        start = end
    return batches


class Messages(msgspec.Struct, frozen=True):
    """The whole and valid messages of consecutive commits, the last of which ends at a position.

    `first_index` counts those before them in the segment; `damaged_commit` makes the error for one.
    """

    data: memoryview
    ends: list[int]
    last_position: int
    first_index: int
    damaged_commit: Callable[[int, str], errors.DataLossError]

    def commits(self) -> Iterator[Commit]:
        """The commits, which Arrow reads only where one was not written as stores write them."""
        start = 0
        for number, end in enumerate(self.ends):
            commit = commit_of_message(self.data[start:end])
            if commit is None or any(map(envelope_fault, commit.records)):
                yield from commits_of(self.batches()[number:])
                return
            yield commit
            start = end

    def batches(self) -> list[pa.RecordBatch]:
        """One batch a commit."""
        try:
            return read_batches(self.data, self.ends, 0)
        except UndecodableError as error:
            raise self.damaged(error) from None

    def damaged(self, error: UndecodableError) -> errors.DataLossError:
        """What to raise where one of them cannot be decoded."""
        return self.damaged_commit(self.first_index + error.number, error.reason)


def _message_end(data: memoryview, offset: int) -> int | None:
    """Where the message at `offset` says that it ends; None when it makes no sense."""
    try:
        continuation, metadata_bytes = _PREFIX.unpack_from(data, offset)
        if continuation != _CONTINUATION or metadata_bytes <= 0:
            return None
        metadata = offset + _PREFIX.size
        table: int = metadata + struct.unpack_from("<I", data, metadata)[0]
        vtable: int = table - struct.unpack_from("<i", data, table)[0]
        slot: int = struct.unpack_from("<H", data, vtable + _BODY_LENGTH_SLOT)[0]
        body_bytes: int = struct.unpack_from("<q", data, table + slot)[0] if slot else 0
    except (struct.error, ValueError):
        return None
    end: int = metadata + metadata_bytes + body_bytes
    return end if body_bytes >= 0 and end % _ALIGNMENT == 0 else None
