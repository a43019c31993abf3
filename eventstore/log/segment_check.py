"""Check one segment of a store: its file, and by `rows_check` the records in it.

It is checked from the Merkle frontier that the manifest states for its start, and must end at the
frontier that it states for its end.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from uuid import UUID

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as parquet

from eventstore.log.acknowledged import FILE_NAME, parsed_acknowledged
from eventstore.log.columns import ACTIVE_SCHEMA
from eventstore.log.ipc_message import UndecodableError, says_more
from eventstore.log.ipc_stream import (
    END_OF_STREAM,
    Ending,
    can_be_torn,
    read_batches,
    schema_message_bytes,
    starts_like_a_message,
    walk_messages,
)
from eventstore.log.log import SignedHead
from eventstore.log.manifest import (
    FORMAT_VERSION,
    HEADER_BYTES_MAX,
    ActiveSegment,
    Segment,
    can_be_merged,
    file_name,
    stored_manifest,
)
from eventstore.log.os_errors import read_to_check, refuse_lack_of_threads
from eventstore.log.parquet_structure import NOT_AS_WRITTEN, ParquetStructure, check_schema
from eventstore.log.rows_check import CheckedSegment, RowsCheck, stated_frontier

_TRUE_OF_THEMSELVES: dict[bytes, None] = {}
"""By SHA-256 of the bytes just read: the files whose footers and pages this process has checked."""
_TRUE_OF_THEMSELVES_MAX = 256


class SegmentJob(msgspec.Struct, frozen=True):
    """One segment to check, and what must be true before it.

    `entry` is the manifest's for it, `previous` that for the segment before.
    """

    directory: str
    store_id: UUID
    entry: Segment | None
    active: ActiveSegment | None
    previous: Segment | None
    signed_heads: tuple[SignedHead, ...] = ()


def check_segment(job: SegmentJob) -> CheckedSegment:
    """Check the segment. Damage is reported; raised is what keeps a file from being read."""
    if job.entry is not None:
        return _check_closed(job, job.entry)
    assert job.active is not None
    return _check_active(job, job.active)


def _check_of(job: SegmentJob, path: Path, number: int) -> _SegmentCheck:
    return _SegmentCheck(job.store_id, path, number, job.previous, job.signed_heads)


def _check_closed(job: SegmentJob, segment: Segment) -> CheckedSegment:
    """Check one closed or sealed segment against its file and its entry in the manifest."""
    directory = Path(job.directory)
    path = directory / "log" / segment.file
    check = _check_of(job, path, segment.number)
    named = file_name(segment)
    if segment.file != named:
        check.find(
            f"the manifest says that segment {segment.number}, commits {segment.first_commit} to "
            f"{segment.last_commit}, is in {segment.file}, not in {named}",
            commit=segment.first_commit,
            position=segment.first_position,
        )
        return check.checked
    if not can_be_merged(segment):
        check.find(
            f"what the manifest says of segment {segment.number}, that it was merged from "
            f"{segment.first_number} on, cannot be",
            commit=segment.first_commit,
            position=segment.first_position,
        )
        return check.checked
    try:
        data = read_to_check(path)
    except OSError as error:
        moved = _closed_meanwhile(directory, segment.number, segment.file)
        if moved is not None:
            return _check_moved(job, moved, segment.numbers)
        check.find(
            f"segment {segment.number} with commits {segment.first_commit} to "
            f"{segment.last_commit} cannot be read: {error.strerror}",
            commit=segment.first_commit,
            position=segment.first_position,
        )
        return check.checked
    intact = hashlib.sha256(data).hexdigest() == segment.file_sha256
    if segment.sealed:
        check.parquet_file(data, segment)
    else:
        check.stream(memoryview(data), schema_message_bytes(memoryview(data)), segment)
    if not intact and not check.checked.findings:
        # Nothing that was decoded differs: the changed byte lies in padding, statistics or footer.
        check.find(
            f"the file does not match its SHA-256 in the manifest; its commits "
            f"({segment.first_commit} to {segment.last_commit}, commit {segment.first_commit} the "
            "first) decode as they were written",
            commit=segment.first_commit,
            position=segment.first_position,
        )
    check.against_manifest(segment, len(data))
    return check.checked


def _check_active(job: SegmentJob, entry: ActiveSegment) -> CheckedSegment:
    directory = Path(job.directory)
    path = directory / "log" / entry.file
    check = _check_of(job, path, entry.number)
    acknowledged = None
    with contextlib.suppress(OSError):
        # Without it, what is lost at the end would pass for a write that was cut off.
        acknowledged = parsed_acknowledged(read_to_check(directory / "log" / FILE_NAME))
    try:
        data = memoryview(read_to_check(path))
    except OSError as error:
        moved = _closed_meanwhile(directory, entry.number, entry.file)
        if moved is not None:
            return _check_moved(job, moved, range(entry.number, entry.number + 1))
        check.find(f"the active segment {entry.number} cannot be read: {error.strerror}")
        return check.checked
    if (entry.number, entry.first_position) != (check.expected_number, check.first_position):
        check.find(
            f"the manifest says that segment {entry.number} is the active one and starts at "
            f"position {entry.first_position}; it is segment {check.expected_number} and starts at "
            f"{check.first_position}, with commit {check.next_commit}",
            commit=check.next_commit,
            position=check.first_position,
        )
    header_bytes = entry.header_bytes
    if not 0 < header_bytes <= HEADER_BYTES_MAX:
        header_bytes = schema_message_bytes(data)
    header = bytes(data[:header_bytes])
    digest = hashlib.sha256(header).hexdigest()
    if (header_bytes, digest) != (entry.header_bytes, entry.header_sha256):
        check.find(
            f"the header of segment {entry.number} is damaged, in front of commit "
            f"{check.next_commit}",
            commit=check.next_commit,
            position=entry.first_position,
        )
    check.stream(
        data,
        header_bytes,
        None,
        acknowledged_end=(
            acknowledged.end
            if acknowledged is not None and acknowledged.segment == entry.number
            else 0
        ),
    )
    return check.checked


def segment_metadata(store_id: UUID, number: int) -> dict[str, str]:
    """What the file of a segment says of itself, sealed or not."""
    return {
        "eventstore.format_version": str(FORMAT_VERSION),
        "eventstore.store_id": str(store_id),
        "eventstore.segment": str(number),
    }


def _closed_meanwhile(directory: Path, number: int, file: str) -> Segment | None:
    """The segment's entry in the newest manifest, if a writer has put it into another file."""
    segments = stored_manifest(directory).segments
    if any(segment.file == file for segment in segments):
        # It is missing, whatever another entry says to have taken the place of.
        return None
    return next((s for s in segments if number in s.numbers and s.sealed), None)


def _check_moved(job: SegmentJob, moved: Segment, numbers: range) -> CheckedSegment:
    """Check what has become of the segments of some numbers, unless it was merged with others."""
    if moved.numbers == numbers:
        return _check_closed(job, moved)
    # What is around it in the manifest that is being checked is no more.
    return CheckedSegment(is_outdated=True)


class _SegmentCheck(RowsCheck):
    """The check of one segment's file, in either form, and of what the manifest says of it."""

    def parquet_file(self, data: bytes, segment: Segment) -> None:
        """Check a sealed segment row group by row group."""
        metadata = segment_metadata(self._store_id, segment.number)
        try:
            file = parquet.ParquetFile(pa.py_buffer(data), page_checksum_verification=True)
            groups = file.num_row_groups
            check_schema(file, metadata)
        except (pa.ArrowException, OSError, ValueError) as error:
            refuse_lack_of_threads(error)
            self.find(
                f"the Parquet footer is damaged, so that commits {segment.first_commit} to "
                f"{segment.last_commit} (commit {segment.first_commit} the first) cannot be read: "
                f"{error}",
                commit=segment.first_commit,
                position=segment.first_position,
            )
            return
        structure: ParquetStructure | None = None
        digest = hashlib.sha256(data).digest()
        for group in range(groups):
            try:
                table = file.read_row_group(group)
            except (pa.ArrowException, OSError, ValueError) as error:
                refuse_lack_of_threads(error)
                self._unreadable_group(data, group, str(error), segment)
                return
            first_commit, first_position = self.next_commit, self.next_position
            self.rows(table, derived=True)
            if self.checked.findings or digest in _TRUE_OF_THEMSELVES:
                continue
            try:
                structure = structure or ParquetStructure(data, metadata)
                structure.check_group(group, table)
            except NOT_AS_WRITTEN as error:
                self.find(
                    f"the file says of itself what is not so, though its records (commit "
                    f"{first_commit} the first of them here) are as they were written: {error}",
                    commit=first_commit,
                    position=first_position,
                )
        if not self.checked.findings:
            _TRUE_OF_THEMSELVES[digest] = None
            if len(_TRUE_OF_THEMSELVES) > _TRUE_OF_THEMSELVES_MAX:
                _TRUE_OF_THEMSELVES.pop(next(iter(_TRUE_OF_THEMSELVES)))
        self.expect_whole_commits()

    def stream(
        self,
        data: memoryview,
        header_bytes: int,
        segment: Segment | None,
        *,
        acknowledged_end: int = 0,
    ) -> None:
        """Check the messages of an active (`segment` None) or closed segment."""
        self._check_header(data[:header_bytes])
        walk = walk_messages(data, header_bytes)
        ends, undecodable = walk.ends, ""
        try:
            batches = read_batches(data, ends, header_bytes)
        except UndecodableError as error:
            ends, undecodable = ends[: error.number], error.reason
            batches = read_batches(data, ends, header_bytes)
        if batches:
            table = pa.Table.from_batches(batches, ACTIVE_SCHEMA)
            self.rows(table, derived=False)
            self._expect_a_commit_each(table, [len(batch) for batch in batches])
        if undecodable:
            if not self.checked.findings:
                self.find(
                    f"commit {self.next_commit} was changed: it does not decode ({undecodable})",
                    commit=self.next_commit,
                    position=self.next_position,
                )
                self._tree_is_sound = False
            return
        end = walk.stopped_at + len(END_OF_STREAM)
        if segment is not None and walk.ending is Ending.END_OF_STREAM and end < len(data):
            self.find(
                f"segment {self._number} is closed, and has bytes after the end of its commits",
                commit=segment.last_commit,
                position=segment.last_position,
            )
        is_torn_tail = (
            segment is None
            and walk.ending in (Ending.INCOMPLETE, Ending.DAMAGED)
            and walk.stopped_at >= acknowledged_end
            and starts_like_a_message(data, walk.stopped_at)
            and can_be_torn(data, walk, 0)
        )
        if segment is not None:
            expected: tuple[Ending, ...] = (Ending.END_OF_STREAM,)
        else:
            # The marker is there while the segment is being closed.
            expected = (Ending.END_OF_FILE, Ending.ROOM, Ending.END_OF_STREAM)
        if walk.ending not in expected and not is_torn_tail:
            self.find(
                f"commit {self.next_commit} is damaged: byte {walk.stopped_at} starts "
                f"{walk.ending.value}",
                commit=self.next_commit,
                position=self.next_position,
            )
        elif acknowledged_end > walk.stopped_at:
            self.find(
                f"commit {self.next_commit} is missing: there is none from byte "
                f"{walk.stopped_at} on, commits up to byte {acknowledged_end} were acknowledged",
                commit=self.next_commit,
                position=self.next_position,
            )

    def against_manifest(self, segment: Segment, file_bytes: int) -> None:
        """Compare what the rows add up to with what the manifest says of the segment."""
        if self.checked.findings:
            return
        names = (
            *("number", "file_bytes", "first_position", "first_commit", "first_recorded_at"),
            *("last_position", "last_commit", "last_recorded_at"),
        )
        seen = (
            *(self.expected_number, file_bytes, self.first_position, self._first_commit),
            *(self._first_recorded_at, self.next_position - 1, self.next_commit - 1),
            self._recorded_at,
        )
        if segment.first_number is not None:
            names = ("first_number", *names[1:])
        for name, value in zip(names, seen, strict=True):
            if getattr(segment, name) != value:
                self.find(
                    f"the manifest says that {name} of segment {segment.number}, commits "
                    f"{segment.first_commit} to {segment.last_commit}, is "
                    f"{getattr(segment, name)}; it is {value}",
                    commit=segment.first_commit,
                    position=segment.first_position,
                )
                return
        if segment.tree_head != self._frontier.head().hex() or stated_frontier(
            segment
        ).subtrees != (self._frontier.subtrees):
            self.find(
                f"the manifest states another tree head at the end of commit {segment.last_commit} "
                "than the records give",
                commit=segment.last_commit,
                position=segment.last_position,
            )

    def _unreadable_group(self, data: bytes, group: int, error: str, segment: Segment) -> None:
        """Name the commits of a row group that does not decode, as narrowly as can be."""
        commits: list[int] = []
        position = self.next_position
        try:
            file = parquet.ParquetFile(pa.py_buffer(data))
            commits = file.read_row_group(group, columns=["commit"])["commit"].to_pylist()
            self.rows(file.read_row_group(group), derived=True)
        except (pa.ArrowException, OSError, ValueError, AssertionError):
            pass
        if any(finding.commit is not None for finding in self.checked.findings):
            return
        first = commits[0] if commits else self.next_commit
        last = commits[-1] if commits else segment.last_commit
        self.find(
            f"commit {first} is damaged, or one after it up to commit {last}: {error}",
            commit=first,
            position=position,
        )

    def _expect_a_commit_each(self, table: pa.Table, rows: Sequence[int]) -> None:
        """A message is a commit: its last row, and no other, has tree head and checksum."""
        if self.checked.findings:
            return
        ends = [end - 1 for end in accumulate(rows)]
        for name in ("tree_head", "checksum"):
            if pc.indices_nonzero(table[name].is_valid()).to_pylist() != ends:
                self.find(
                    f"the messages of segment {self._number}, from commit {self._first_commit} on, "
                    f"are not a commit each: {name} is not on the last row of each alone",
                    commit=self._first_commit,
                    position=self.first_position,
                )
                return

    def _check_header(self, header: memoryview) -> None:
        expected = segment_metadata(self._store_id, self._number) | {
            "eventstore.first_position": str(self.first_position)
        }
        try:
            schema = pa.ipc.read_schema(pa.py_buffer(header))
            found = {k.decode(): v.decode() for k, v in (schema.metadata or {}).items()}
            plain = schema.remove_metadata()
            fault = (
                ""
                if plain.equals(ACTIVE_SCHEMA, check_metadata=True)
                else "it lays down other columns"
            )
            if found != expected:
                fault = "it is that of another segment or store"
            elif says_more(header):
                fault = "it says more than a store writes"
        except (pa.ArrowException, OSError, ValueError) as error:
            fault = str(error)
        if fault:
            self.find(
                f"the header of segment {self._number} is damaged, in front of commit "
                f"{self.next_commit}: {fault}",
                commit=self.next_commit,
                position=self.first_position,
            )
