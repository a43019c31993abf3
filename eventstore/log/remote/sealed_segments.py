"""Sealed segments that a server keeps, and their files, which are fetched when they are read."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO
from uuid import UUID

import msgspec

from eventstore import errors
from eventstore.log.cache_file import written_whole
from eventstore.log.closed_segments import ClosedSegments, SegmentMovedError
from eventstore.log.manifest import Segment
from eventstore.log.merkle import Frontier
from eventstore.log.os_errors import translating
from eventstore.log.remote.keeper import Keeper
from eventstore.log.sealing import footer_of


def read_entry(name: str, number: int, entry: bytes, kept_as: str) -> Segment:
    """The entry of a segment of that number. Raises DataLossError for what is none.

    `kept_as` names what has it, for messages.
    """
    try:
        segment = msgspec.json.decode(entry, type=Segment)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _damaged(name, number, f"{kept_as} is no entry of a segment ({error})") from None
    # Only those in directories are merged.
    if segment.number != number or segment.first_number is not None:
        raise _damaged(name, number, f"{kept_as} is the entry of another one")
    return segment


def in_order(name: str, found: Iterable[Segment]) -> tuple[Segment, ...]:
    """The entries of all segments, the oldest first. Raises DataLossError where one is missing."""
    segments = tuple(found)
    position = commit = 0
    for number, segment in enumerate(segments, 1):
        if (
            (segment.number, segment.first_position) != (number, position + 1)
            or segment.first_commit != commit + 1
            or not 0 < segment.last_commit - commit <= segment.last_position - position
            or not _has_its_head(segment)
        ):
            raise damaged(name, segment, "its entry cannot follow on the one before")
        position, commit = segment.last_position, segment.last_commit
    return segments


def _has_its_head(segment: Segment) -> bool:
    """Whether the edge of the tree after a segment gives its tree head."""
    try:
        subtrees = [bytes.fromhex(head) for head in segment.frontier]
        return Frontier(segment.last_position, subtrees).head().hex() == segment.tree_head
    except ValueError:
        return False


@contextlib.contextmanager
def fetching(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that is fetched, which takes its place once it is complete."""
    with translating("writing", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as file:
            yield file


class FetchedSegments(ClosedSegments):
    """The sealed segments of a keeper, each fetched into a folder when it is read first.

    A file that is missing there, or damaged, is fetched again. One of another store is refused.
    """

    def __init__(self, folder: Path, keeper: Keeper, store_id: UUID) -> None:
        super().__init__(folder)
        self._keeper = keeper
        self._store_id = store_id
        self._fetching = threading.Lock()

    def check(self, segment: Segment) -> None:
        try:
            super().check(segment)
        except (SegmentMovedError, errors.DataLossError):
            with self._fetching:
                self._fetch(segment)

    def _fetch(self, segment: Segment) -> None:
        """Fetch a file, unless another thread has done so meanwhile."""
        with contextlib.suppress(SegmentMovedError, errors.DataLossError):
            super().check(segment)
            return
        self._keeper.fetch(segment, self._folder / segment.file)
        try:
            super().check(segment)
        except errors.DataLossError:
            what = f"{self._keeper.file_of(segment)} does not match its SHA-256"
            raise damaged(self._keeper.name, segment, what) from None
        told = footer_of(self._folder / segment.file).metadata or {}
        if told.get(b"eventstore.store_id") != str(self._store_id).encode():
            # Else it would be believed from now on.
            (self._folder / segment.file).unlink(missing_ok=True)
            what = f"{self._keeper.file_of(segment)} is of another store than {self._store_id}"
            raise damaged(self._keeper.name, segment, what)

    def keep_only(self, segments: Iterable[Segment]) -> None:
        """Remove the files of what was rewritten, which may hold what is erased."""
        names = {segment.file for segment in segments}
        with contextlib.suppress(OSError):
            for path in self._folder.glob("*.parquet"):
                if path.name not in names:
                    path.unlink(missing_ok=True)


def damaged(name: str, segment: Segment, what: str) -> errors.DataLossError:
    """The error to raise for a segment that is not as it was stored."""
    return _damaged(name, segment.number, what)


def _damaged(name: str, number: int, what: str) -> errors.DataLossError:
    return errors.DataLossError(
        f"{name}: segment {number} is damaged: {what}; run `eventstore verify` and restore it from "
        "a backup"
    )
