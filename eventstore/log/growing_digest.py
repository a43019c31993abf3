"""The SHA-256 of a file that is only appended to, worked out piece by piece as it grows."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os

PIECE_BYTES = 1024 * 1024
"""A piece takes 1 to 3 ms."""


class GrowingDigest:
    """Of the first bytes of a file, none of which may be changed afterwards.

    Two threads may extend it at once: what the one that is less far has hashed is dropped.
    """

    def __init__(self) -> None:
        self._known = (hashlib.sha256(), 0)
        self._appended = 0

    @property
    def size(self) -> int:
        """How many bytes were hashed."""
        return self._known[1]

    def note_appended(self, descriptor: int, size: int, end: int) -> None:
        """Note that `size` bytes were appended up to `end`; after every megabyte hash some more.

        What others appended is caught up with at the pace of what is noted, so that whoever appends
        little hashes nothing. What cannot be read now is left to `extend`.
        """
        self._appended += size
        if self._appended >= PIECE_BYTES:
            end = min(end, self.size + 2 * self._appended)
            self._appended = 0
            with contextlib.suppress(OSError):
                self.extend(descriptor, end)

    def extend(self, descriptor: int, end: int) -> None:
        """Hash what the file has before byte `end`. Raises OSError, having hashed nothing."""
        known, start = self._known
        digest = known.copy()
        while start < end:
            piece = os.pread(descriptor, min(PIECE_BYTES, end - start), start)
            if not piece:
                raise OSError(errno.EIO, f"the file ends at byte {start}, not {end}")
            digest.update(piece)
            start += len(piece)
        # At once: an interrupt can come between any two steps, and another thread may be at it.
        if start > self.size:
            self._known = (digest, start)

    def followed_by(self, rest: bytes) -> str:
        """The digest, in hexadecimal, of what was hashed and further bytes."""
        digest = self._known[0].copy()
        digest.update(rest)
        return digest.hexdigest()
