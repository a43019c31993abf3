"""What every log offers, wherever it is kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar, runtime_checkable
from uuid import UUID, uuid5

import msgspec

from eventstore.log.erased import Erased
from eventstore.log.record import Commit, Draft, Position
from eventstore.repr_html import ShownInNotebooks
from eventstore.times import Microseconds

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset

Answer = TypeVar("Answer")


class PositionConflictError(Exception):
    """The log is no longer at the position that the writer expected: catch up and try again."""


class Put(msgspec.Struct, frozen=True):
    """What becomes one commit, and who puts it, why, and on which request."""

    drafts: Sequence[Draft]
    actor: str | None = None
    reason: str | None = None
    request_id: str | None = None


class SegmentInfo(msgspec.Struct, frozen=True):
    """`state` is `active`, `closed` (no more commits, not yet Parquet) or `sealed` (Parquet).

    `path` is that of its file, or the URL of an object; None where it is kept in neither.
    """

    number: int
    state: str
    first_position: int
    last_position: int
    file_bytes: int
    path: Path | str | None

    @property
    def file_name(self) -> str | None:
        """The last part of its path."""
        return None if self.path is None else str(self.path).rpartition("/")[2]


class SealedFile(NamedTuple):
    """A Parquet file of records; `file_sha256` is of the whole file, in hexadecimal.

    `path` is what other tools open: the path of a file, or the URL of an object.
    """

    path: Path | str
    file_bytes: int
    file_sha256: str
    first_position: int
    last_position: int


class RewrittenFile(NamedTuple):
    """A Parquet file that took the place of another one; SHA-256 of both, in hexadecimal."""

    segment: int
    old_sha256: str
    new_sha256: str


class Finding(msgspec.Struct, frozen=True):
    """One thing that `verify` found wrong; what it could not determine is None."""

    what: str
    file: str | None = None
    segment: int | None = None
    commit: int | None = None
    position: int | None = None


class SignedHead(msgspec.Struct, frozen=True):
    """What a checkpoint states of the Merkle tree over the first `size` records.

    `head` is in hexadecimal, `commit` the one that ends there and `recorded_at` (µs) its time;
    `signed` says who signed it and when, for a finding.
    """

    size: int
    head: str
    commit: int
    recorded_at: Microseconds
    signed: str


class VerifyReport(ShownInNotebooks, msgspec.Struct, frozen=True):
    """What `verify` saw: `tree_head` is in hexadecimal, over the records that it could read.

    `findings` are of the log, which is the record; `cache_findings` of what is folded from it and
    can be rebuilt. It is `ok` when there are neither. `not_checked` says what it did not look at,
    and why; `signed_heads` are those it was to hold the log against, which all hold when it is
    `ok`.
    """

    ok: bool
    position: int
    commits: int
    records: int
    tree_head: str
    findings: list[Finding]
    not_checked: list[str] = []
    signed_heads: list[SignedHead] = []
    cache_findings: list[Finding] = []

    def without(self, *not_checked: str) -> VerifyReport:
        """The same report, which also says that something was not checked."""
        return msgspec.structs.replace(self, not_checked=[*self.not_checked, *not_checked])


Progress = Callable[[int, int], None]
"""Called with (records done, records in all)."""


class Log(Protocol):
    """An append-only log of commits. Positions start at 1 and are dense.

    docs/logs.md tells what another one has to do, and what it may leave out.
    """

    store_id: UUID

    content_epoch: int
    """Grows when content changes that has a position already. No log does that so far.

    What was folded from it before is of no use then. A change elsewhere is noticed as appends are;
    reads as of a moment see it once this process has noticed it. Erasing is no such change: its
    own record tells of it.
    """

    @property
    def name(self) -> str:
        """Where the log is kept, for messages."""

    @property
    def directory(self) -> Path | None:
        """The directory of this machine that has the log, and nothing else; None without one."""

    @property
    def position(self) -> Position:
        """The newest record that this log has seen, 0 when empty."""

    @property
    def commit_number(self) -> int:
        """The newest commit that this log has seen, 0 when empty."""

    def refresh(self) -> bool:
        """Notice what other processes have appended; whether the position moved."""

    def now(self) -> Microseconds:
        """The time that locks go by: the earlier of this process's clock and the log's own.

        That of what keeps the log, such as a file system or a server, so that moving the clock of a
        process on frees nothing. Raises `eventstore.errors` classes where it is not told: one clock
        alone is not believed.
        """

    def is_still_at(self, position: Position, content_epoch: int) -> bool:
        """Whether the newest record is at a position, and content is that of an epoch.

        False when `refresh` has to tell.
        """

    def reserved(self, do: Callable[[], Answer]) -> Answer:
        """The answer of `do`, called while no other process appends.

        For a writer that has been overtaken repeatedly.
        """

    def append(
        self,
        drafts: Sequence[Draft],
        *,
        expected_position: Position,
        actor: str | None = None,
        reason: str | None = None,
        request_id: str | None = None,
    ) -> Commit:
        """Append one commit; it is durable when this returns.

        Raises PositionConflictError when the log is not at `expected_position`, ValueError without
        drafts, and `eventstore.errors` classes when the disk is full or forbids it. Nothing was
        appended then, unless OutcomeUnknownError is raised.
        """

    def append_recorded(self, commits: Sequence[Commit], *, expected_position: Position) -> None:
        """Append commits as another log of the same store has recorded them, durably.

        Their numbers, times, salts and heads stay, and records may be erased. Where this is broken
        off, the first of them may be there, each whole. Raises PositionConflictError when the log
        is not at `expected_position`, ValueError without commits, DataLossError for those that
        cannot follow, or whose records do not give their tree heads; nothing was appended then.
        """

    def commits(self, after: int = 0, upto: int | None = None) -> Iterator[Commit]:
        """The commits all of whose records lie in (after, upto], in order."""

    def scan(
        self, after: int = 0, upto: int | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The records in (after, upto] as batches of RECORD_SCHEMA, or of some of its columns."""

    def commit_end(self, position: int) -> Position:
        """The last position of the newest commit that ends at or before `position`; 0 if none."""

    def position_at(self, recorded_at: Microseconds) -> Position:
        """The last position of the newest commit recorded at or before a moment (µs); 0 if none."""

    def recorded_at(self, position: int) -> Microseconds:
        """When the record at `position` was recorded, in microseconds since the epoch."""

    def segments(self) -> list[SegmentInfo]:
        """What the log consists of, oldest first: to show, not to decide by."""

    def sealed_files(self) -> list[SealedFile]:
        """The Parquet files that the log consists of by now, unchecked, oldest first.

        What was put since the last `seal` may be in none of them. Raises FailedPreconditionError
        for a log that keeps no files which other tools could open.
        """

    def dense_ends(self, after: int = 0) -> Iterator[tuple[int, int]]:
        """Where stretches end, after a position, that are cheap to scan by column; their bytes.

        They follow one another, from the one that has the next record. What comes after the last
        of them is read commit by commit.
        """

    def stretch_of(self, position: int) -> tuple[int, int]:
        """The first and last position of what costs no more to scan than the record at one.

        Where nothing is read together with a record, or none is there, that is its own position.
        """

    def dataset(self, upto: int, columns: Sequence[str]) -> pyarrow.dataset.Dataset:
        """Some columns of the records up to a position at least, for queries to read in parts.

        A file may be rewritten before it is read: `has_lost_files` tells whether to ask again.
        Raises DataLossError for files that are not as they were written.
        """

    def cache_folder(self, *, make: bool = False) -> Path | None:
        """Where caches of this log are kept for later processes; None when nowhere.

        With `make` the folder is there then, and caches may be written of all that the log has by
        now: so it is asked before each is. Raises OSError when that cannot be, FileNotFoundError
        where the store was moved or removed, since a new one could not be made in its place if
        there were caches, or where another process has thrown away what is kept there.
        """

    def seal(self) -> None:
        """Turn all that was appended so far into Parquet."""

    def conceal(self, erased: Erased) -> None:
        """From here on read these records as erased, in `commits`, `scan` and `dataset` alone.

        What they hold may still be there. It takes the place of what was concealed before.
        """

    def destroy(self, erased: Erased, progress: Progress | None = None) -> list[RewrittenFile]:
        """Erase records for good: afterwards no file of the log has what they held.

        Everything else stays, proofs included. Others may append and read meanwhile. What was
        interrupted is finished by another call, which passes over what is done. Given are the files
        that were rewritten for it, by this call or before, oldest first. Where nothing is to be
        erased, it only says what would forbid to, as far as that is known.

        Raises ValueError for positions that there are not, for records of kinds that are never
        erased, and for the content of records other than nodes.
        """

    def verify(
        self,
        progress: Progress | None = None,
        *,
        after: int = 0,
        upto: int | None = None,
        signed_heads: Sequence[SignedHead] = (),
    ) -> VerifyReport:
        """Check every byte and hash; damage is reported, not raised.

        With `after` and `upto` only the segments with records in (after, upto] are checked, and
        the report says what was not. Raises InvalidArgumentError for signed heads together with a
        range.
        """

    def backup(self, path: Path, progress: Progress | None = None) -> VerifyReport:
        """Copy the log to `path`, even while others write to it, and verify the copy.

        Raises AlreadyExistsError when there is anything but an empty directory, DataLossError when
        the log is damaged, FailedPreconditionError for a log that cannot be copied.
        """

    def close(self) -> None:
        """Release files and threads."""


@runtime_checkable
class AppendsTogether(Protocol):
    """A log that makes several commits durable at once: one need not wait for the other's disk."""

    def append_together(
        self,
        puts: Sequence[Put],
        *,
        expected_position: Position,
        kept: list[Commit] | None = None,
    ) -> list[Commit]:
        """Append a commit for each put, in order; all are durable when this returns.

        Raises what `append` does, and then none was appended, unless OutcomeUnknownError is raised.
        One that is interrupted adds to `kept` those that are there all the same.
        """

    def is_being_written(self) -> bool:
        """Whether somebody else is appending just now; nobody is waited for."""


def has_lost_files(dataset: pyarrow.dataset.Dataset) -> bool:
    """Whether a file that a dataset of a log reads was rewritten, so that reading it may fail."""
    parts = [dataset, *getattr(dataset, "children", ())]
    return any(not os.path.exists(file) for part in parts for file in _files(part))


def _files(dataset: pyarrow.dataset.Dataset) -> list[str]:
    """The files of this machine that a dataset reads, not those of object storage."""
    is_here = getattr(getattr(dataset, "filesystem", None), "type_name", "") == "local"
    return list(dataset.files) if is_here else []


def content_id(log: Log) -> UUID:
    """What caches of a log are known by: its store's id, and another one once content changes."""
    return uuid5(log.store_id, str(log.content_epoch)) if log.content_epoch else log.store_id
