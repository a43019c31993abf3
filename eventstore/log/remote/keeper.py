"""What keeps a log for many machines: its commits one by one, and its sealed segments as files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from eventstore.log.closed_segments import ClosedSegments
from eventstore.log.log import Finding
from eventstore.log.manifest import Manifest, Segment
from eventstore.log.record import Commit
from eventstore.times import Microseconds


class CommitRow(NamedTuple):
    """A commit as it is kept: its message, and what that says.

    The head is b"" where it is told by the message alone.
    """

    number: int
    first_position: int
    last_position: int
    recorded_at: Microseconds
    tree_head: bytes
    message: bytes


class Keeper(Protocol):
    """A database or a bucket. What it raises are `eventstore.errors` classes."""

    @property
    def name(self) -> str:
        """Where the log is kept, for messages."""

    @property
    def place(self) -> str:
        """The same and what else tells it from other places; nothing secret."""

    def now(self) -> Microseconds:
        """The time by the keeper's clock."""

    def created_at(self) -> Microseconds:
        """When the store was made."""

    def segments(self) -> tuple[Segment, ...]:
        """The entries of all sealed segments, oldest first. DataLossError for what cannot be."""

    def messages_after(self, segment: Segment | None) -> Iterator[bytes]:
        """The messages of all commits that follow a segment, in order; b"" for emptied ones."""

    def file_of(self, segment: Segment) -> str:
        """What has a segment's file there, for messages."""

    def url_of(self, segment: Segment) -> str | None:
        """The URL at which other tools read a segment's file; None where they cannot."""

    def fetch(self, segment: Segment, path: Path) -> None:
        """Write a segment's file. Raises SegmentMovedError where it is kept no more."""

    def add_segment(self, entry: Segment, path: Path) -> bool:
        """Keep a further segment, whose file was written; whether nobody else was faster.

        The commits stay as they are.
        """

    def add_recorded(self, commits: Sequence[Commit], entry: Segment, path: Path) -> bool:
        """Keep a segment of commits that were in none; whether nobody else was faster."""

    def replace_segment(self, before: Segment, entry: Segment, path: Path) -> None:
        """Let a rewritten segment take the place of one."""

    def refuse_no_right(self) -> None:
        """Raise PermissionDeniedError where it is known, and nothing may be erased."""

    def finish_erasing(self, segments: Sequence[Segment], first_positions: Iterable[int]) -> None:
        """Empty what is left beside rewritten segments, of the commits that begin there."""

    def faults(
        self, closed: ClosedSegments, manifest: Manifest, tell: Callable[[str], None]
    ) -> Iterator[Finding]:
        """What the commits say that the segments, which are sound, do not.

        `tell` is called with what was not checked, and why.
        """

    def close(self) -> None:
        """Release connections."""
