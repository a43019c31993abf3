"""The log in memory, with the same records and hashes, for tests and throw-away stores."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from eventstore import errors
from eventstore.log.commit import make_commit
from eventstore.log.concealing import concealed_commit, refuse_what_stays
from eventstore.log.erased import Erased
from eventstore.log.forking import renew_in_children
from eventstore.log.leaf import leaf_hashes
from eventstore.log.log import (
    Answer,
    PositionConflictError,
    Progress,
    RewrittenFile,
    SealedFile,
    SegmentInfo,
    SignedHead,
    VerifyReport,
)
from eventstore.log.merkle import Frontier
from eventstore.log.record import Commit, Draft, Position
from eventstore.log.record_dataset import record_dataset
from eventstore.log.recorded import take_leaves
from eventstore.log.whole_commits import batches_of, verified
from eventstore.long_work import long_work
from eventstore.times import Microseconds, now_in_microseconds

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset


class MemoryLog:
    """A log that is gone with its process. Safe to use from several threads."""

    name = "in memory"
    directory = None
    content_epoch = 0

    def __init__(self, store_id: UUID | None = None) -> None:
        self.store_id = store_id or uuid4()
        self._concealed = Erased()
        self._frontier = Frontier()
        self._commits: list[Commit] = []
        self._last_positions: list[Position] = []
        self._mutex = threading.Lock()
        renew_in_children(self)

    def after_fork_in_child(self) -> None:
        """Keep the whole commits, and forget one that another thread was adding."""
        self._mutex = threading.Lock()
        del self._commits[len(self._last_positions) :]
        if self._frontier.size != self.position:
            self._frontier = Frontier()
            for commit in self._commits:
                self._frontier.extend(leaf_hashes(self.store_id, commit.records))

    @property
    def position(self) -> Position:
        return self._last_positions[-1] if self._last_positions else Position(0)

    @property
    def commit_number(self) -> int:
        return len(self._commits)

    def refresh(self) -> bool:
        return False

    def now(self) -> Microseconds:
        return now_in_microseconds()

    def is_still_at(self, position: Position, content_epoch: int) -> bool:
        return (self.position, self.content_epoch) == (position, content_epoch)

    def reserved(self, do: Callable[[], Answer]) -> Answer:
        return do()

    def append(
        self,
        drafts: Sequence[Draft],
        *,
        expected_position: Position,
        actor: str | None = None,
        reason: str | None = None,
        request_id: str | None = None,
    ) -> Commit:
        if not drafts:
            raise ValueError("a commit needs at least one draft")
        with self._mutex:
            if self.position != expected_position:
                raise PositionConflictError(
                    f"the log is at position {self.position}, not {expected_position}"
                )
            before = self._commits[-1].recorded_at if self._commits else Microseconds(0)
            frontier = self._frontier.copy()
            commit = make_commit(
                self.store_id,
                drafts,
                frontier,
                number=len(self._commits) + 1,
                recorded_at=max(now_in_microseconds(), before),
                actor=actor,
                reason=reason,
                request_id=request_id,
            )
            self._frontier = frontier
            self._commits.append(commit)
            # Last, because readers and forked children go by it.
            self._last_positions.append(Position(commit.last_position))
            return commit

    def append_recorded(self, commits: Sequence[Commit], *, expected_position: Position) -> None:
        if not commits:
            raise ValueError("there are no commits to append")
        with self._mutex:
            if self.position != expected_position:
                raise PositionConflictError(
                    f"the log is at position {self.position}, not {expected_position}"
                )
            before = self._commits[-1].recorded_at if self._commits else Microseconds(0)
            frontier = self._frontier.copy()
            number = len(self._commits)
            take_leaves(self.store_id, commits, frontier, number=number, recorded_at=before)
            self._frontier = frontier
            for commit in commits:
                self._commits.append(commit)
                self._last_positions.append(Position(commit.last_position))

    def commits(self, after: int = 0, upto: int | None = None) -> Iterator[Commit]:
        upto = self.position if upto is None else upto
        for commit in self._touching(after, upto):
            if commit.first_position > after and commit.last_position <= upto:
                yield concealed_commit(commit, self._concealed) if self._concealed else commit

    def scan(
        self, after: int = 0, upto: int | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        upto = self.position if upto is None else min(upto, self.position)
        erased = self._concealed
        touching = (concealed_commit(commit, erased) for commit in self._touching(after, upto))
        return batches_of(touching, after, upto, columns)

    def commit_end(self, position: int) -> Position:
        index = bisect.bisect_right(self._last_positions, position) - 1
        return self._last_positions[index] if index >= 0 else Position(0)

    def position_at(self, recorded_at: Microseconds) -> Position:
        index = bisect.bisect_right(self._commits, recorded_at, key=lambda c: c.recorded_at) - 1
        return self._last_positions[index] if index >= 0 else Position(0)

    def recorded_at(self, position: int) -> Microseconds:
        if not 1 <= position <= self.position:
            raise errors.InvalidArgumentError(
                f"there is no position {position}: the log has 1 to {self.position}"
            )
        return self._commits[bisect.bisect_left(self._last_positions, position)].recorded_at

    def segments(self) -> list[SegmentInfo]:
        return [SegmentInfo(1, "active", 1, self.position, 0, None)]

    def sealed_files(self) -> list[SealedFile]:
        raise errors.FailedPreconditionError("a store in memory has no files: use a directory")

    def dense_ends(self, after: int = 0) -> Iterator[tuple[int, int]]:  # noqa: ARG002
        return iter(())

    def stretch_of(self, position: int) -> tuple[int, int]:
        return position, position

    def dataset(self, upto: int, columns: Sequence[str]) -> pyarrow.dataset.Dataset:
        return record_dataset([self.scan(0, upto, columns)], columns)

    def cache_folder(self, *, make: bool = False) -> None:  # noqa: ARG002
        return None

    def seal(self) -> None:
        """Nothing to do: there are no files."""

    def conceal(self, erased: Erased) -> None:
        self._concealed = erased

    def destroy(self, erased: Erased, progress: Progress | None = None) -> list[RewrittenFile]:
        refuse_what_stays(self, erased)
        with self._mutex:
            for place, commit in enumerate(self._commits):
                self._commits[place] = concealed_commit(commit, erased)
        if progress is not None:
            progress(self.position, self.position)
        return []

    @long_work("Verifying")
    def verify(
        self,
        progress: Progress | None = None,
        *,
        after: int = 0,  # noqa: ARG002
        upto: int | None = None,  # noqa: ARG002
        signed_heads: Sequence[SignedHead] = (),
    ) -> VerifyReport:
        """One segment, so that a range is all of it."""
        return verified(self.store_id, self._commits, self.position, signed_heads, progress)

    def backup(self, path: Path, progress: Progress | None = None) -> VerifyReport:  # noqa: ARG002
        raise errors.FailedPreconditionError(
            "a store in memory has no files to back up: open one in a directory"
        )

    def close(self) -> None:
        """Nothing to release."""

    def _touching(self, after: int, upto: int) -> list[Commit]:
        """The commits that have records in (after, upto]."""
        first = bisect.bisect_right(self._last_positions, after)
        last = bisect.bisect_left(self._last_positions, upto) + 1
        return self._commits[first:last] if after < upto else []
