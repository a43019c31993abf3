"""A log in object storage: commits in objects that are made only if there is none of a position."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

from eventstore import errors
from eventstore.log.log import Put
from eventstore.log.objects.bucket import Bucket
from eventstore.log.objects.keeper import (
    ObjectKeeper,
    is_copied,
    messages_of,
    newest_head_in,
)
from eventstore.log.objects.keys import commit_key, copied_commits, entry_key
from eventstore.log.record import Commit, Position
from eventstore.log.remote.keeper import CommitRow
from eventstore.log.remote.remote_log import SEGMENT_RECORDS_MAX, RemoteLog, is_of_erasure
from eventstore.times import Microseconds

SEGMENT_COMMITS_MAX: Final = 4_096
"""A machine that has nothing yet reads each commit after the newest segment by a request."""

_ONE_BY_ONE_MAX: Final = 4
"""After so many new commits it is asked for a list of them."""

_LOOKED_EVERY_SECONDS: Final = 60.0


class ObjectLog(RemoteLog):
    """A log below a prefix of a bucket."""

    _kept_in = "bucket"
    _keeps_together = True
    _segment_commits_max = SEGMENT_COMMITS_MAX

    def __init__(
        self,
        bucket: Bucket,
        store_id: UUID,
        created_at: Microseconds,
        *,
        cache_folder: Path | None = None,
        read_only: bool = False,
        segment_records_max: int = SEGMENT_RECORDS_MAX,
    ) -> None:
        """Of a store that is there: see `opening` for how one is found or made."""
        self._bucket = bucket
        self._objects = ObjectKeeper(bucket, store_id, created_at)
        self._ahead: tuple[int, bytes] | None = None
        """The first position and content of an object that was noticed and not yet taken."""
        self._looked_at = time.monotonic()
        super().__init__(
            self._objects,
            store_id,
            cache_folder=cache_folder,
            read_only=read_only,
            segment_records_max=segment_records_max,
        )

    def _open(self) -> None:
        self._ahead = None
        super()._open()

    def append_together(
        self,
        puts: Sequence[Put],
        *,
        expected_position: Position,
        kept: list[Commit] | None = None,
    ) -> list[Commit]:
        return self._append(puts, expected_position, kept)

    def is_being_written(self) -> bool:
        """Nobody waits for a lock."""
        return False

    def _newest(self) -> tuple[int, bytes]:
        """By the first position of an object of commits, or by the last one of a segment."""
        together = self._commits.newest_together
        return together or (self._commits.last_position, self._commits.newest[1])

    def _known_by(self, commits: Sequence[Commit]) -> int:
        return commits[0].first_position

    def _head_of(self, known_by: int) -> bytes | None:
        head = self._objects.head_of(known_by)
        if head is not None:
            return head
        segments = self._objects.segments()
        found = [s.tree_head for s in segments if s.last_position == known_by]
        return bytes.fromhex(found[0]) if found else None

    def _has_more(self) -> bool:
        position = self._commits.last_position
        ahead = self._ahead
        if ahead is None or ahead[0] != position + 1:
            message = self._bucket.get(commit_key(position + 1))
            if message is None or self._is_of_broken_copy(position + 1, message):
                return False
            self._ahead = (position + 1, message)
        # Another thread may have put it.
        self._is_behind = self._is_behind or position == self._commits.last_position
        return True

    def _catch_up(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == self._commits.last_position + 1:
            message: bytes | None = ahead[1]
            for _ in range(_ONE_BY_ONE_MAX):
                if message is None or not self._take(self._commits.last_position + 1, message):
                    self._is_behind = False
                    return
                message = self._bucket.get(commit_key(self._commits.last_position + 1))
            # Others may have sealed what follows.
            self._take_segments()
        is_whole = False
        while not is_whole:
            is_whole = True
            for position, message in self._objects.commits_after(self._commits.last_position):
                # An erased one does not tell where the next is, nor does a copied one.
                is_whole = is_whole and bool(message) and not is_copied(message)
                if position > self._commits.last_position and not self._take(position, message):
                    is_whole = True
                    break
        self._is_behind = False

    def _take(self, first_position: int, content: bytes) -> bool:
        """Take an object of commits, or the segment that has them; whether they are there.

        Where a copy was broken off they are nothing yet. Raises DataLossError where they are lost.
        """
        is_elsewhere = not content or is_copied(content)
        if not is_elsewhere:
            self._commits.add_together(first_position, messages_of(content))
        self._look_for_segments(is_erasing=is_elsewhere or is_of_erasure(content))
        if self._commits.last_position >= first_position:
            return True
        self._refuse_lost_object(first_position, content, len(self._known))
        return False

    def _is_of_broken_copy(self, first_position: int, content: bytes) -> bool:
        """Whether an object of commits says that a segment has them, which is not there.

        Raises DataLossError where they are lost.
        """
        if content and not is_copied(content):
            return False
        segments = self._objects.segments()
        if segments and segments[-1].last_position >= first_position:
            return False
        self._refuse_lost_object(first_position, content, len(segments))
        return True

    def _refuse_lost_object(self, first_position: int, content: bytes, segments: int) -> None:
        """Raise DataLossError for an object without commits, but for what a copy puts there."""
        if content != copied_commits(segments + 1):
            raise self._objects.lost(first_position)

    def _kept_as(self, number: int, begin: int) -> str:  # noqa: ARG002
        return f"the object {commit_key(begin)}"

    def _messages_again(self, first: int, first_positions: Sequence[int]) -> list[bytes]:
        found: list[bytes] = []
        for key, content in self._bucket.get_many(map(commit_key, first_positions)):
            if not content:
                raise self._missing(first, f"the object {key}")
            found += messages_of(content)
        return found

    def _insert(self, rows: Sequence[CommitRow], expected_position: int) -> None:
        self._refuse_lost()
        first_position = rows[0].first_position
        content = b"".join(row.message for row in rows)
        # Until it is known: an interrupt may come after it was sent.
        was_behind, self._is_behind = self._is_behind, True
        try:
            other = self._bucket.create(commit_key(first_position), content)
        except errors.OutcomeUnknownError:
            raise
        except errors.StatusError:
            self._is_behind = was_behind
            raise
        if other is not None and self._is_of_broken_copy(first_position, other):
            self._is_behind = was_behind
            raise errors.FailedPreconditionError(
                f"a copy to {self.name} is under way, or was broken off: go on with it; nothing "
                "was put"
            )
        if other is not None:
            self._ahead = (first_position, other)
            raise self._conflict(expected_position)
        self._is_behind = was_behind

    def _refuse_lost(self) -> None:
        """Raise DataLossError where the newest commit is gone: once a minute, before a put."""
        position = self._commits.last_position
        if not position or time.monotonic() < self._looked_at + _LOOKED_EVERY_SECONDS:
            return
        together = self._commits.newest_together
        key = commit_key(together[0]) if together else entry_key(self._known[-1].number)
        content = self._bucket.get(key)
        is_other = (
            together and content and (newest_head_in(together[0], content) or b"") != together[1]
        )
        if content is None or is_other:
            raise self._missing(self._commits.last_commit, f"the object {key}")
        if not content:
            # Others may have sealed and erased it.
            self._is_of_broken_copy(together[0] if together else position, content)
        self._looked_at = time.monotonic()
