"""The log in a directory of files, shared by any number of processes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from uuid import UUID

from eventstore import errors
from eventstore.log.active_segment import ActiveSegmentFile
from eventstore.log.commit import make_commit
from eventstore.log.compacting import MergedSegments, Target, merged_files, runs_to_merge
from eventstore.log.concealing import refuse_what_stays
from eventstore.log.creation import create_store
from eventstore.log.directory_writer import SEGMENT_RECORDS_MAX, DirectoryWriter
from eventstore.log.erased import Erased
from eventstore.log.followed_directory import opened
from eventstore.log.followed_segment import Held
from eventstore.log.ipc_message import Envelope
from eventstore.log.leaf import leaf_hashes
from eventstore.log.log import (
    PositionConflictError,
    Progress,
    Put,
    RewrittenFile,
    SignedHead,
    VerifyReport,
)
from eventstore.log.manifest import read_manifest
from eventstore.log.merkle import Frontier
from eventstore.log.os_errors import translated, translating
from eventstore.log.record import LATEST, Commit, Draft, Position
from eventstore.log.recorded import are_few, take_leaves, written_segment
from eventstore.long_work import long_work
from eventstore.times import Microseconds, now_in_microseconds


class DirectoryLog(DirectoryWriter):
    """A log kept in a directory. Safe to use from several threads and processes at once.

    Appends of all processes are ordered by a lock that is held for the append alone; readers take
    no lock. See FORMAT.md for the files.
    """

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        store_id: UUID | None = None,
        segment_records_max: int = SEGMENT_RECORDS_MAX,
    ) -> DirectoryLog:
        """Make an empty log in a directory that does not exist or is empty.

        It gets an id of its own, unless it is to be a copy of the store that has one.

        Raises AlreadyExistsError when there is a store, FailedPreconditionError when there is
        anything else.
        """
        manifest = create_store(directory, store_id)
        return cls(directory, manifest, segment_records_max=segment_records_max)

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        read_only: bool = False,
        segment_records_max: int = SEGMENT_RECORDS_MAX,
    ) -> DirectoryLog:
        """Open the log in a directory. Raises what `followed_directory.opened` does."""
        return opened(
            directory,
            partial(cls, directory, read_only=read_only, segment_records_max=segment_records_max),
        )

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
        return self.append_together([put], expected_position=expected_position)[0]

    def append_together(
        self,
        puts: Sequence[Put],
        *,
        expected_position: Position,
        kept: list[Commit] | None = None,
    ) -> list[Commit]:
        if not puts or not all(put.drafts for put in puts):
            raise ValueError("a commit needs at least one draft")
        self._refuse_read_only("put")
        if self._has_failed:
            raise errors.UnavailableError(
                f"an earlier put into {self.directory} failed half-way: reopen the store to put "
                "again"
            )

        def do() -> list[Commit]:
            self._refuse_other_position(expected_position)
            if self._is_full():
                self._rotate_without_waiting()
            frontier = self._current_frontier().copy()
            newest = self._newest_commit()
            first = newest.number + 1
            began_at = max(now_in_microseconds(), newest.recorded_at + 1)
            # An even number, and one more for what is written with the first: see FORMAT.md.
            began_at += began_at % 2
            commits = [
                make_commit(
                    self.store_id,
                    put.drafts,
                    frontier,
                    number=number,
                    recorded_at=Microseconds(min(began_at + (number > first), LATEST)),
                    actor=put.actor,
                    reason=put.reason,
                    request_id=put.request_id,
                )
                for number, put in enumerate(puts, start=first)
            ]
            self._append(commits, frontier, kept)
            return commits

        try:
            return self._write(do)
        except OSError as error:
            raise translated(error, "appending in", self._folder) from None

    def append_recorded(self, commits: Sequence[Commit], *, expected_position: Position) -> None:
        if not commits:
            raise ValueError("there are no commits to append")
        self._refuse_read_only("copy into it")
        if are_few(commits):
            with translating("copying into", self._folder):
                self._write(lambda: self._append_few(commits, expected_position))
            return

        def edge() -> tuple[Frontier, Envelope, int]:
            """Where the log ends, which is at the end of a closed segment then."""
            self._refuse_other_position(expected_position)
            self._rotate_what_is_new()
            return self._current_frontier().copy(), self._newest_commit(), self._active.number

        with (
            translating("copying into", self._folder),
            self._sealing_mutex,
            self._alone_in_sealing(),
        ):
            frontier, newest, number = self._write(edge)
            take_leaves(
                *(self.store_id, commits, frontier),
                number=newest.number,
                recorded_at=newest.recorded_at,
            )
            with written_segment(self._folder, self.store_id, number, commits, frontier) as (
                prepared,
                entry,
            ):
                self._write(lambda: self._add_sealed(entry, prepared, frontier))

    def _append_few(self, commits: Sequence[Commit], expected_position: Position) -> None:
        self._refuse_other_position(expected_position)
        newest, frontier = self._newest_commit(), self._current_frontier()
        take_leaves(
            *(self.store_id, commits, frontier.copy()),
            number=newest.number,
            recorded_at=newest.recorded_at,
        )
        for commit in commits:
            if self._is_full():
                self._rotate_without_waiting()
            frontier = frontier.copy()
            frontier.extend(leaf_hashes(self.store_id, commit.records))
            self._append([commit], frontier)

    def _refuse_other_position(self, expected_position: Position) -> None:
        if self.position != expected_position:
            raise PositionConflictError(
                f"the log is at position {self.position}, not {expected_position}"
            )

    def _refuse_read_only(self, doing: str) -> None:
        if self.read_only:
            raise errors.FailedPreconditionError(
                f"the store {self.directory} was opened to read only: open it for writing to "
                f"{doing}"
            )

    def _append(
        self, commits: Sequence[Commit], frontier: Frontier, kept: list[Commit] | None = None
    ) -> None:
        try:
            self._active.append(commits)
            self._frontier = frontier
            self._acknowledge(frontier)
        except errors.UnavailableError:
            self._has_failed = True
            raise
        except errors.StatusError:
            raise
        except BaseException as interruption:
            # An interrupt can come between any two steps.
            try:
                self._read_active_again()
            except (OSError, errors.StatusError) as error:
                # Its own error would say that nothing was appended.
                self._has_failed = True
                if not isinstance(interruption, Exception):
                    raise interruption from error
                raise errors.OutcomeUnknownError(
                    f"a put into {self.directory} was broken off ({interruption!r}); whether the "
                    "commit was kept is not known: reopen the store before the next put"
                ) from error
            if kept is not None:
                kept += [commit for commit in commits if commit.last_position <= self.position]
            raise

    def _read_active_again(self) -> None:
        """Read the active segment again, as if nothing were known of it."""
        before = self._active
        self._active = ActiveSegmentFile(self._folder, self._manifest, read_only=False)
        self._frontier = None
        before.close()
        self._catch_up(Held.EXCLUSIVE)

    def seal(self) -> None:
        self._refuse_read_only("seal")
        with translating("sealing in", self._folder):
            self._hash_ahead()
            self._write(self._rotate_what_is_new)
        self._seal_closed()

    @long_work("Compacting")
    def compact(
        self, target: Target, progress: Progress | None = None, *, dry_run: bool = False
    ) -> list[MergedSegments]:
        if dry_run:
            runs = runs_to_merge(read_manifest(self.directory).segments, target)
            return [merged_files(run) for run in runs]
        self._refuse_read_only("compact")
        # What is closed, and what a crash has left.
        self._seal_closed()
        return self._merge(target, progress)

    @long_work("Erasing")
    def destroy(self, erased: Erased, progress: Progress | None = None) -> list[RewrittenFile]:
        self._refuse_read_only("erase")
        if not erased:
            return []
        if erased.within(self._active.first_position, self.position):
            self.seal()
        elif any(
            not segment.sealed and erased.within(segment.first_position, segment.last_position)
            for segment in self._segments()
        ):
            self._seal_closed()
        refuse_what_stays(self, erased)
        return self._rewrite(erased, progress)

    @long_work("Verifying")
    def verify(
        self,
        progress: Progress | None = None,
        *,
        after: int = 0,
        upto: int | None = None,
        signed_heads: Sequence[SignedHead] = (),
    ) -> VerifyReport:
        from eventstore.log.verification import verify_directory

        return verify_directory(
            self.directory, progress, after=after, upto=upto, signed_heads=signed_heads
        )

    def backup(self, path: Path, progress: Progress | None = None) -> VerifyReport:
        from eventstore.log.backup import copy_store

        return copy_store(self.directory, path, progress)

    def close(self) -> None:
        if self._sealer is not None:
            self._sealer.shutdown(wait=True)
            self._sealer = None
        if not (self._is_closed or self.read_only) and self._acknowledged_descriptor >= 0:
            # Room that is not given back is there for the next writer.
            with contextlib.suppress(OSError, errors.StatusError):
                self._write(lambda: self._active.give_back_room(), wait=False)
        super().close()
