"""A log that a server keeps: commits one by one, whose key refuses the second writer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Final
from uuid import UUID

from eventstore import errors
from eventstore.late_logger import late_logger
from eventstore.log.cache_file import remove_abandoned
from eventstore.log.closed_segments import sealed_files
from eventstore.log.commit import encode_commit, make_commit
from eventstore.log.concealing import refuse_what_stays
from eventstore.log.erased import Erased
from eventstore.log.forking import no_fork_in_libraries, open_at_first_use, renew_in_children
from eventstore.log.leaf import leaf_hashes
from eventstore.log.log import (
    Answer,
    PositionConflictError,
    Progress,
    Put,
    RewrittenFile,
    SealedFile,
    SegmentInfo,
    SignedHead,
    VerifyReport,
)
from eventstore.log.manifest import Segment
from eventstore.log.merkle import Frontier
from eventstore.log.os_errors import translating
from eventstore.log.record import ERASURE, Commit, Draft, Position
from eventstore.log.recorded import are_few, take_leaves
from eventstore.log.remote.keeper import CommitRow, Keeper
from eventstore.log.remote.sealed_segments import FetchedSegments
from eventstore.log.remote.sealing import add_recorded, seal_commits
from eventstore.log.remote.tail import RemoteTail
from eventstore.log.segmented_reader import SegmentedReader, Tail
from eventstore.log.temporary_folder import TemporaryFolder
from eventstore.log.user_cache import UserCaches, open_user_caches
from eventstore.log.worker import Worker
from eventstore.long_work import long_work
from eventstore.times import Microseconds, now_in_microseconds

_LOGGER = late_logger("eventstore.log")

SEGMENT_BYTES_MAX: Final = 32 * 1024 * 1024
SEGMENT_RECORDS_MAX: Final = 65_536
"""The commits after the newest segment are sealed once they have reached either."""

_FIRST_SEALING_WAIT_SECONDS: Final = 10.0
_LONGEST_SEALING_WAIT_SECONDS: Final = 3_600.0

_KNOWN: Final = ("_commits", "_known", "_closed", "_folder", "_is_behind")
"""What a log knows of its keeper: a forked child has to learn it again."""

_ERASURE: Final = ERASURE.encode()


def is_of_erasure(message: bytes) -> bool:
    """Whether a commit's message may have a record of an erasure."""
    return _ERASURE in message


class RemoteLog(SegmentedReader):
    """All of a log but for how commits are asked for and kept, which the methods at the end are.

    Safe to use from several threads and processes at once. Its sealed segments are copied into a
    folder when they are read. That and the projections are kept for later processes below
    `cache_folder`, or where the user's caches usually are.
    """

    directory = None
    content_epoch = 0
    _closed: FetchedSegments

    def __init__(
        self,
        keeper: Keeper,
        store_id: UUID,
        *,
        cache_folder: Path | None = None,
        read_only: bool = False,
        segment_records_max: int = SEGMENT_RECORDS_MAX,
    ) -> None:
        """Of a store that is there: see `opening` for how one is found or made.

        Of one that is damaged and opened to read only, `verify` tells what is wrong; all else
        raises DataLossError.
        """
        self.store_id = store_id
        self.name = keeper.name
        self.read_only = read_only
        self._keeper = keeper
        self._chosen = cache_folder
        self._caches: UserCaches | None = None
        self._segment_records_max = segment_records_max
        self._mutex = threading.RLock()
        self._sealing_mutex = threading.Lock()
        self._sealer = Worker("eventstore-sealer", lambda: None)
        self._seals_at = 0.0
        self._sealing_wait = _FIRST_SEALING_WAIT_SECONDS
        """So long after sealing has failed in the background it is tried there again."""
        self._temporary: TemporaryFolder | None = None
        self._has_news = False
        """Whether a writer of this process read what others appended, and no reader did yet."""
        try:
            self._open()
        except BaseException as error:
            if not isinstance(error, errors.DataLossError) or not read_only:
                self.close()
                raise
            self._forget()
        renew_in_children(self)

    def _open(self) -> None:
        """Read what there is, as if nothing were known of it."""
        self._folder = self._place_for_files() / "segments"
        remove_abandoned(self._folder)
        self._closed = FetchedSegments(self._folder, self._keeper, self.store_id)
        self._known: tuple[Segment, ...] = ()
        self._commits = RemoteTail(
            *(self._folder, self.name, self.store_id, None, self._messages_again, self._kept_as)
        )
        self._is_behind = False
        """Whether the keeper is known to have more than was read."""
        self._asks_again_at = self._segment_records_max
        self._take_segments()
        self._catch_up()

    def _place_for_files(self) -> Path:
        """A folder to keep files in: the user's, or one that goes with this log."""
        self._caches = open_user_caches(
            self.store_id, self._keeper.place, self._head_of, self._chosen
        )
        if self._caches is not None:
            return self._caches.folder
        self._temporary = TemporaryFolder()
        return self._temporary.path

    def after_fork_in_child(self) -> None:
        """Forget what is known, which another thread may have been changing."""
        self._mutex = threading.RLock()
        self._sealing_mutex = threading.Lock()
        self._sealer.leave_to_the_parent()
        if self._temporary is not None:
            self._temporary.leave_to_the_parent()
        self._forget()

    def _forget(self) -> None:
        """Know nothing of the keeper, until something is asked."""
        for name in _KNOWN:
            self.__dict__.pop(name, None)
        open_at_first_use(self)

    def open_missing(self, name: str) -> Any:
        """Read the log at its first use."""
        if name not in _KNOWN:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        with self._mutex:
            if name not in self.__dict__:
                self._open()
            return self.__dict__[name]

    @property
    def position(self) -> Position:
        return Position(self._commits.last_position)

    @property
    def commit_number(self) -> int:
        return self._commits.last_commit

    def now(self) -> Microseconds:
        return min(now_in_microseconds(), self._keeper.now())

    def is_still_at(self, position: Position, content_epoch: int) -> bool:
        if (
            self._commits.last_position != position
            or content_epoch != self.content_epoch
            or self._has_news
        ):
            return False
        return not self._has_more()

    def refresh(self) -> bool:
        with self._mutex:
            self._is_behind = self._is_behind or self._has_more()
            before = self.position
            try:
                if self._is_behind:
                    self._catch_up()
                    if self.position == before:
                        # Others were to have more: what keeps it may have been set back.
                        self._has_more()
            finally:
                # Told by the next call if this one fails.
                self._has_news = self._has_news or self.position != before
            has_news, self._has_news = self._has_news, False
            return has_news

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
        put = Put(drafts, actor, reason, request_id)
        return self._append([put], expected_position)[0]

    def _append(
        self,
        puts: Sequence[Put],
        expected_position: Position,
        kept: list[Commit] | None = None,
    ) -> list[Commit]:
        """Append a commit for each put: see `AppendsTogether`."""
        if not puts or not all(put.drafts for put in puts):
            raise ValueError("a commit needs at least one draft")
        self._refuse_read_only("put")
        with self._mutex:
            if self.position != expected_position or self._is_behind:
                raise self._conflict(expected_position)
            frontier = self._commits.frontier.copy()
            recorded_at = max(now_in_microseconds(), self._commits.last_recorded_at)
            commits = [
                make_commit(
                    self.store_id,
                    put.drafts,
                    frontier,
                    number=number,
                    recorded_at=recorded_at,
                    actor=put.actor,
                    reason=put.reason,
                    request_id=put.request_id,
                )
                for number, put in enumerate(puts, start=self._commits.last_commit + 1)
            ]
            try:
                self._put(commits, frontier)
            except Exception:
                raise
            except BaseException as interruption:
                if kept is not None:
                    kept += self._kept_of(commits, interruption)
                raise
            return commits

    def _kept_of(self, commits: Sequence[Commit], interruption: BaseException) -> Sequence[Commit]:
        """Those of commits that are kept, though putting them was interrupted: all or none."""
        try:
            is_kept = self._head_of(self._known_by(commits)) == commits[-1].tree_head
        except errors.StatusError as error:
            raise errors.OutcomeUnknownError(
                f"a put was broken off ({interruption!r}), and then {error.message}; whether the "
                "commit was kept is not known: look for it before you put it once more"
            ) from interruption
        return commits if is_kept else []

    def append_recorded(self, commits: Sequence[Commit], *, expected_position: Position) -> None:
        if not commits:
            raise ValueError("there are no commits to append")
        self._refuse_read_only("copy into it")
        if are_few(commits):
            with self._mutex:
                self._append_few(commits, expected_position)
            return
        self.seal()
        with self._sealing_mutex, translating("writing", self._folder):
            with self._mutex:
                if self.position != expected_position or self._size() or self._is_behind:
                    raise self._conflict(expected_position)
                before = self._known[-1] if self._known else None
            try:
                add_recorded(self._keeper, self.store_id, commits, before, self._folder)
            finally:
                self._take_segments()

    def _append_few(self, commits: Sequence[Commit], expected_position: Position) -> None:
        if self.position != expected_position or self._is_behind:
            raise self._conflict(expected_position)
        frontier = self._commits.frontier
        take_leaves(
            *(self.store_id, commits, frontier.copy()),
            number=self._commits.last_commit,
            recorded_at=Microseconds(self._commits.last_recorded_at),
        )
        for some in [commits] if self._keeps_together else [[commit] for commit in commits]:
            frontier = frontier.copy()
            for commit in some:
                frontier.extend(leaf_hashes(self.store_id, commit.records))
            self._put(some, frontier)

    def _put(self, commits: Sequence[Commit], frontier: Frontier) -> None:
        """Append commits together, at whose end the frontier is."""
        rows = [
            CommitRow(
                commit.number,
                commit.first_position,
                commit.last_position,
                commit.recorded_at,
                commit.tree_head,
                encode_commit(commit),
            )
            for commit in commits
        ]
        self._insert(rows, rows[0].first_position - 1)
        self._commits.take(rows, frontier)
        if self._is_full() and not self._sealer.is_busy() and monotonic() >= self._seals_at:
            self._sealer.submit(self._seal_in_background)

    def segments(self) -> list[SegmentInfo]:
        with self._mutex:
            sealed = [
                SegmentInfo(
                    segment.number,
                    "sealed",
                    segment.first_position,
                    segment.last_position,
                    segment.file_bytes,
                    self._keeper.url_of(segment) or self._place_of(segment),
                )
                for segment in self._known
            ]
            tail = self._commits
            return [
                *sealed,
                SegmentInfo(
                    len(sealed) + 1,
                    "active",
                    tail.first_position,
                    tail.last_position,
                    tail.message_bytes,
                    None,
                ),
            ]

    def sealed_files(self) -> list[SealedFile]:
        # Another process may have sealed some.
        self._take_segments()
        segments = self._known
        urls = [url for segment in segments if (url := self._keeper.url_of(segment))]
        if segments and not urls:
            for segment in segments:
                self._in_segment(segment.first_position, self._closed.check)
            return sealed_files(self._folder, self._known)
        files = sealed_files(self._folder, segments)
        return [file._replace(path=url) for file, url in zip(files, urls, strict=True)]

    def cache_folder(self, *, make: bool = False) -> Path | None:
        if self._caches is None:
            return None
        if make:
            self._caches.note(*self._newest())
        return self._caches.folder

    def seal(self) -> None:
        self._refuse_read_only("seal")
        self.refresh()
        with self._sealing_mutex:
            self._take_segments()
            upto = self._commits.last_commit
            while self._commits.first_commit <= upto:
                self._seal_some(upto)

    @long_work("Erasing")
    def destroy(self, erased: Erased, progress: Progress | None = None) -> list[RewrittenFile]:
        from eventstore.log.remote.destroying import rewrite_kept

        self._refuse_read_only("erase")
        if not erased:
            self._keeper.refuse_no_right()
            return []
        self.refresh()
        if erased.within(self._commits.first_position, self.position):
            self.seal()
        refuse_what_stays(self, erased)
        with self._sealing_mutex:
            self._take_segments()
            try:
                files = rewrite_kept(self._keeper, self.store_id, self._known, erased, progress)
            finally:
                self._take_segments()
            positions = erased.content.union(erased.who).positions()
            begins = (self.commit_end(position - 1) + 1 for position in positions)
            self._keeper.finish_erasing(self._known, begins)
            return files

    @long_work("Verifying")
    def verify(
        self,
        progress: Progress | None = None,
        *,
        after: int = 0,
        upto: int | None = None,
        signed_heads: Sequence[SignedHead] = (),
    ) -> VerifyReport:
        from eventstore.log.remote.verification import verify_kept

        return verify_kept(
            self._keeper,
            self.store_id,
            progress,
            after=after,
            upto=upto,
            signed_heads=signed_heads,
        )

    def backup(self, path: Path, progress: Progress | None = None) -> VerifyReport:
        from eventstore.log.remote.copying import back_up

        return back_up(self._keeper, self.store_id, path, progress)

    def close(self) -> None:
        self._sealer.close()
        self._keeper.close()
        if self._temporary is not None:
            self._temporary.close()

    # What is known of it

    def _size(self) -> int:
        return self._commits.last_position - self._commits.first_position + 1

    def _look_for_segments(self, *, is_erasing: bool) -> None:
        """Ask for those that others have made, where there may be some by what was appended."""
        if is_erasing or self._size() >= self._asks_again_at:
            self._take_segments()
            self._asks_again_at = self._size() + self._segment_records_max

    def _take_segments(self) -> None:
        """Learn which segments there are, and keep nothing that they have taken the place of."""
        segments = self._keeper.segments()
        with self._mutex:
            if segments == self._known:
                return
            self._known = segments
            if segments:
                self._commits = self._commits.after(segments[-1])
        self._closed.keep_only(segments)

    def _conflict(self, expected_position: int) -> PositionConflictError:
        at = "further on" if self._is_behind else f"at position {self.position}"
        return PositionConflictError(f"the log is {at}, not at {expected_position}")

    def _missing(self, number: int, kept_as: str) -> errors.DataLossError:
        return errors.DataLossError(
            f"{self.name}: commit {number}, which was there before, is missing or another one "
            f"({kept_as}): the {self._kept_in} was restored, or another one has taken its place; "
            "open the store again, and verify it"
        )

    def _refuse_read_only(self, doing: str) -> None:
        if self.read_only:
            raise errors.FailedPreconditionError(
                f"the store {self.name} was opened to read only: open it for writing to {doing}"
            )

    # Sealing

    def _is_full(self) -> bool:
        """Whether the commits after the newest segment are enough for another one."""
        tail = self._commits
        return (
            self._size() >= self._segment_records_max
            or tail.message_bytes >= SEGMENT_BYTES_MAX
            or tail.last_commit - tail.first_commit + 1 >= self._segment_commits_max
        )

    def _seal_in_background(self) -> None:
        try:
            with no_fork_in_libraries():
                import pyarrow.parquet  # noqa: F401

                import eventstore.log.columns  # noqa: F401
            with self._sealing_mutex:
                self._take_segments()
                while self._is_full():
                    self._seal_some(self._commits.last_commit)
            self._sealing_wait = _FIRST_SEALING_WAIT_SECONDS
        except Exception as error:
            # The commits are there as they were. Whoever has no right to seal will have none soon.
            wait = self._sealing_wait
            self._seals_at = monotonic() + wait
            self._sealing_wait = min(2 * wait, _LONGEST_SEALING_WAIT_SECONDS)
            _LOGGER.warning(
                "%s: the newest commits are not sealed, which is tried again in %d s at the "
                "earliest: %s",
                *(self.name, wait, error),
            )

    def _seal_some(self, upto: int) -> None:
        """Make a segment of the first commits of the tail, up to one, if there are enough."""
        with self._mutex:
            tail = self._commits
            last = min(
                *(upto, tail.first_commit + self._segment_commits_max - 1),
                tail.upto_size(self._segment_records_max, SEGMENT_BYTES_MAX),
            )
            last = tail.end_of_together(last)
            messages = tail.upto_commit(last)
            before = self._known[-1] if self._known else None
        seal_commits(self._keeper, self.store_id, messages, before, self._folder)
        self._take_segments()
        if self._known[-1:] == (() if before is None else (before,)):
            # Else it would be tried for ever.
            number = before.number + 1 if before else 1
            raise errors.DataLossError(
                f"{self.name}: segment {number} has parts and no entry: run `eventstore verify` "
                "and restore it from a backup"
            )

    # What a reader of segments asks

    @property
    def _tail(self) -> Tail:
        return self._commits

    def _segments(self) -> tuple[Segment, ...]:
        return self._known

    def _place_of(self, segment: Segment) -> Path:
        return self._folder / segment.file

    def _follow(self, moved: Segment) -> None:
        self._take_segments()
        if moved in self._known:
            raise errors.DataLossError(
                f"{self.name}: segment {moved.number} (positions {moved.first_position} to "
                f"{moved.last_position}) is missing; restore it from a backup"
            )

    # How commits are asked for and kept

    _kept_in: str
    """What keeps it, as a word."""

    def _kept_as(self, number: int, begin: int) -> str:
        """What has a commit: see `RemoteTail`."""
        raise NotImplementedError

    _keeps_together = False
    """Whether several commits can be kept at once."""

    _segment_commits_max = SEGMENT_RECORDS_MAX
    """So many commits are sealed, however few records they have."""

    def _newest(self) -> tuple[int, bytes]:
        """What the newest commit is known by, for `_head_of`, and its tree head."""
        return self._commits.newest

    def _known_by(self, commits: Sequence[Commit]) -> int:
        """What commits that were put together are known by, for `_head_of`."""
        return commits[-1].number

    def _head_of(self, known_by: int) -> bytes | None:
        """The tree head of a commit; None where it is not kept."""
        raise NotImplementedError

    def _has_more(self) -> bool:
        """Whether there are commits that are not known, when that is asked.

        Raises DataLossError where it is noticed that not even those are there that are known.
        """
        raise NotImplementedError

    def _catch_up(self) -> None:
        """Read the commits that follow on those that are known, and be no longer behind."""
        raise NotImplementedError

    def _messages_again(self, first: int, first_positions: Sequence[int]) -> list[bytes]:
        """The messages of consecutive commits: see `RemoteTail`."""
        raise NotImplementedError

    def _insert(self, rows: Sequence[CommitRow], expected_position: int) -> None:
        """Keep commits, all or none: several only if it keeps them together. As for `append`.

        It is behind from before this is tried until it is known how it ended.
        """
        raise NotImplementedError
