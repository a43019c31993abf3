"""Where the commits of the active segment end, so that opening it need not read it whole.

Writers add a block for every 256 commits, never synced; what follows the last block is read from
the segment itself. Like the acknowledgement it helps, but nothing depends on it: a block that is
missing or damaged ends what is taken from the file, and the commits that it names are checked when
they are read.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from pathlib import Path
from typing import NamedTuple

from eventstore.log.regular_file import open_regular, read_regular
from eventstore.times import Microseconds

FILE_NAME = "commit-ends"
BLOCK_COMMITS = 256

_DIGEST_BYTES = 8
_HEAD_NUMBERS = 2
_BODY_NUMBERS = _HEAD_NUMBERS + 3 * BLOCK_COMMITS
_BLOCK_BYTES = _DIGEST_BYTES + 8 * _BODY_NUMBERS


class CommitEnds(NamedTuple):
    """Of each commit: the offset after it, its last position, and when it was recorded (µs)."""

    offsets: array[int]
    positions: array[int]
    recorded_ats: array[int]

    def add(self, offset: int, position: int, recorded_at: Microseconds) -> None:
        """Add the end of one more commit."""
        self.offsets.append(offset)
        self.positions.append(position)
        self.recorded_ats.append(recorded_at)

    def cut(self, commits: int) -> None:
        """Forget all but the first commits."""
        for column in self:
            del column[commits:]


def no_commits() -> CommitEnds:
    return CommitEnds(array("q"), array("q"), array("q"))


def read_commit_ends(folder: Path, segment: int) -> CommitEnds:
    """What the file says of the first commits of a segment; nothing if it is another segment's."""
    known = no_commits()
    try:
        data = read_regular(folder / FILE_NAME)
    except OSError:
        return known
    for start in range(0, len(data) - _BLOCK_BYTES + 1, _BLOCK_BYTES):
        body = data[start + _DIGEST_BYTES : start + _BLOCK_BYTES]
        numbers = array("q", body)
        is_whole = _digest(body) == data[start : start + _DIGEST_BYTES]
        if not is_whole or list(numbers[:_HEAD_NUMBERS]) != [segment, start // _BLOCK_BYTES]:
            break
        for index, column in enumerate(known):
            first = _HEAD_NUMBERS + index * BLOCK_COMMITS
            column.extend(numbers[first : first + BLOCK_COMMITS])
    return known


def write_commit_ends(folder: Path, segment: int, ends: CommitEnds) -> None:
    """Write the newest block of a segment whose number of commits is a multiple of a block's."""
    first = len(ends.offsets) - BLOCK_COMMITS
    block = first // BLOCK_COMMITS
    numbers = array("q", [segment, block])
    for column in ends:
        numbers.extend(column[first:])
    body = numbers.tobytes()
    descriptor = open_regular(folder / FILE_NAME, os.O_WRONLY | os.O_CREAT)
    try:
        os.pwrite(descriptor, _digest(body) + body, block * _BLOCK_BYTES)
    finally:
        os.close(descriptor)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_DIGEST_BYTES]
