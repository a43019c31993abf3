"""How far the active segment is known to be durable: written after each append, never synced.

It tells a torn tail from damage. What lies before the acknowledged end was once synced to disk, so
a message that is broken there was damaged afterwards; what is broken after it was never promised to
anyone. It also spares the next opening from computing the right edge of the Merkle tree again.
After a power loss it may be older than the segment, never newer.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from eventstore.late_logger import late_logger
from eventstore.log.merkle import HASH_BYTES, Frontier
from eventstore.log.regular_file import opened_to_read

_LOGGER = late_logger("eventstore.log")

FILE_NAME = "acknowledged"

_DIGEST_BYTES = 8
_BYTES_MAX = 8192


class Acknowledged(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """`end` is an offset in the file of segment `segment`; the rest is the tree's edge there."""

    segment: int
    end: int
    tree_size: int
    subtrees: list[bytes]

    def frontier(self) -> Frontier:
        """Raises ValueError when there can be no such edge."""
        # Hashes cut elsewhere give the same head, but a false one after the next record.
        if any(len(subtree) != HASH_BYTES for subtree in self.subtrees):
            raise ValueError(f"a subtree's head has {HASH_BYTES} bytes")
        return Frontier(self.tree_size, self.subtrees)


def write_acknowledged(descriptor: int, segment: int, end: int, frontier: Frontier) -> None:
    """Overwrite the acknowledgement. Readers tell a half-written one by its digest.

    Never raises OSError: what it acknowledges is durable, and must not be put again.
    """
    body = msgspec.msgpack.encode(Acknowledged(segment, end, frontier.size, frontier.subtrees))
    digest = hashlib.sha256(body).digest()[:_DIGEST_BYTES]
    try:
        os.pwrite(descriptor, len(body).to_bytes(4, "little") + digest + body, 0)
    except OSError as error:
        _LOGGER.warning(
            "acknowledging byte %d of segment %d failed (%s): the next opening takes longer",
            end,
            segment,
            error,
        )


def read_acknowledged(path: Path) -> Acknowledged | None:
    """None when there is none or it is unreadable: it helps, but nothing depends on it."""
    try:
        with opened_to_read(path) as file:
            data = file.read(_BYTES_MAX)
    except OSError:
        return None
    return parsed_acknowledged(data)


def parsed_acknowledged(data: bytes) -> Acknowledged | None:
    """What a file says; None when it is no whole acknowledgement."""
    size = int.from_bytes(data[:4], "little")
    body = data[4 + _DIGEST_BYTES : 4 + _DIGEST_BYTES + size]
    if hashlib.sha256(body).digest()[:_DIGEST_BYTES] != data[4 : 4 + _DIGEST_BYTES]:
        return None
    try:
        return msgspec.msgpack.decode(body, type=Acknowledged)
    except msgspec.MsgspecError:
        return None
