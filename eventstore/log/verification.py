"""Check a whole store on disk: every file, checksum, hash and derived column, from the files alone.

Each segment is checked from the Merkle frontier that the manifest states for its start, and must
end at the frontier that it states for its end; so segments can be checked side by side, and one
that is damaged does not hide the state of those behind it.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as parquet
from google.protobuf.message import DecodeError

from eventstore import errors
from eventstore.log.acknowledged import FILE_NAME, read_acknowledged
from eventstore.log.columns import ACTIVE_SCHEMA, DERIVED_NAMES, RECORD_SCHEMA, derive
from eventstore.log.commit import records_of
from eventstore.log.ipc_stream import (
    Ending,
    has_valid_message,
    read_batches,
    schema_message_bytes,
    walk_messages,
)
from eventstore.log.leaf import encode_attribution, leaf_data
from eventstore.log.log import Finding, Progress, VerifyReport
from eventstore.log.manifest import ActiveSegment, Manifest, Segment, read_manifest
from eventstore.log.merkle import EMPTY_HEAD, Frontier, leaf_hash

# What damaged values raise on their way through Arrow, protobuf and the leaf's encoding.
_UNDECODABLE = (
    pa.ArrowException,
    DecodeError,
    AssertionError,
    KeyError,
    OverflowError,
    ValueError,
    struct.error,
)

_PARALLEL_RECORDS_MIN = 100_000
"""Below this many records that are not active, further processes cost more than they save."""


@dataclass(slots=True)
class _Checked:
    """What checking one segment gave."""

    records: int = 0
    commits: int = 0
    head: bytes = EMPTY_HEAD
    findings: list[Finding] = field(default_factory=list)


def verify_directory(directory: Path, progress: Progress | None = None) -> VerifyReport:
    """Check the store in `directory`. Damage is reported, never raised.

    Raises NotFoundError when there is no store, FailedPreconditionError when its format is newer.
    """
    try:
        manifest = read_manifest(directory)
    except errors.DataLossError as error:
        finding = Finding(error.message, file=str(directory / "manifest.json"))
        return VerifyReport(False, 0, 0, 0, EMPTY_HEAD.hex(), [finding])
    total = _Checked()
    position_max = manifest.segments[-1].last_position if manifest.segments else 0
    for checked in _check_segments(directory, manifest):
        total.records += checked.records
        total.commits += checked.commits
        total.head = checked.head
        total.findings += checked.findings
        if progress is not None:
            progress(total.records, max(position_max, total.records))
    return VerifyReport(
        not total.findings,
        max(position_max, total.records),
        total.commits,
        total.records,
        total.head.hex(),
        total.findings,
    )


def _check_segments(directory: Path, manifest: Manifest) -> Iterator[_Checked]:
    """The checks of all segments in order, the active one last."""
    starts = [Frontier()] + [_stated_frontier(segment) for segment in manifest.segments]
    jobs = [
        (directory, manifest.store_id, segment, start, previous)
        for segment, start, previous in zip(
            manifest.segments, starts, (None, *manifest.segments), strict=False
        )
    ]
    workers = min(os.cpu_count() or 1, len(jobs))
    closed_records = manifest.segments[-1].last_position if manifest.segments else 0
    if workers > 1 and closed_records >= _PARALLEL_RECORDS_MIN:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            yield from pool.map(_check_closed, *zip(*jobs, strict=True))
    else:
        yield from (_check_closed(*job) for job in jobs)
    previous = manifest.segments[-1] if manifest.segments else None
    yield _check_active(directory, manifest.store_id, manifest.active, starts[-1], previous)


def _stated_frontier(segment: Segment) -> Frontier:
    try:
        return Frontier(
            segment.last_position, [bytes.fromhex(subtree) for subtree in segment.frontier]
        )
    except ValueError:
        return Frontier()


def _check_closed(
    directory: Path, store_id: UUID, segment: Segment, start: Frontier, previous: Segment | None
) -> _Checked:
    """Check one closed or sealed segment against its file and its entry in the manifest."""
    path = directory / "log" / segment.file
    check = _SegmentCheck(store_id, path, segment.number, start, previous)
    try:
        data = path.read_bytes()
    except OSError as error:
        moved = _closed_meanwhile(directory, segment.number, segment.file)
        if moved is not None:
            return _check_closed(directory, store_id, moved, start, previous)
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
    check.against_manifest(segment)
    return check.checked


def _check_active(
    directory: Path,
    store_id: UUID,
    entry: ActiveSegment,
    start: Frontier,
    previous: Segment | None,
) -> _Checked:
    path = directory / "log" / entry.file
    check = _SegmentCheck(store_id, path, entry.number, start, previous)
    acknowledged = read_acknowledged(directory / "log" / FILE_NAME)
    try:
        data = memoryview(path.read_bytes())
    except OSError as error:
        moved = _closed_meanwhile(directory, entry.number, entry.file)
        if moved is not None:
            return _check_closed(directory, store_id, moved, start, previous)
        check.find(f"the active segment {entry.number} cannot be read: {error.strerror}")
        return check.checked
    header = bytes(data[: entry.header_bytes])
    if hashlib.sha256(header).hexdigest() != entry.header_sha256:
        check.find(
            f"the header of segment {entry.number} is damaged, in front of commit "
            f"{check.next_commit}",
            commit=check.next_commit,
            position=entry.first_position,
        )
    check.stream(
        data,
        entry.header_bytes,
        None,
        acknowledged_end=(
            acknowledged.end
            if acknowledged is not None and acknowledged.segment == entry.number
            else 0
        ),
    )
    return check.checked


def _closed_meanwhile(directory: Path, number: int, file: str) -> Segment | None:
    """The segment's entry in the newest manifest, if a writer has put it into another file."""
    segments = read_manifest(directory).segments
    return next((s for s in segments if s.number == number and s.sealed and s.file != file), None)


class _SegmentCheck:
    """The running state of one segment's check: what comes next, and what was found."""

    def __init__(
        self,
        store_id: UUID,
        path: Path,
        number: int,
        start: Frontier,
        previous: Segment | None,
    ) -> None:
        self.checked = _Checked(head=start.head())
        self._store_id = store_id
        self._path = path
        self._number = number
        self._frontier = start
        self._tree_is_sound = True
        self.next_position = start.size + 1
        self.next_commit = previous.last_commit + 1 if previous else 1
        self._recorded_at = previous.last_recorded_at if previous else 0

    def find(self, what: str, *, commit: int | None = None, position: int | None = None) -> None:
        self.checked.findings.append(Finding(what, str(self._path), self._number, commit, position))

    def parquet_file(self, data: bytes, segment: Segment) -> None:
        """Check a sealed segment row group by row group."""
        try:
            file = parquet.ParquetFile(pa.py_buffer(data), page_checksum_verification=True)
            groups = file.num_row_groups
            if not file.schema_arrow.remove_metadata().equals(RECORD_SCHEMA):
                raise ValueError("its columns are not those of a segment")
        except (pa.ArrowException, OSError, ValueError) as error:
            self.find(
                f"the Parquet footer is damaged, so that commits {segment.first_commit} to "
                f"{segment.last_commit} (commit {segment.first_commit} the first) cannot be read: "
                f"{error}",
                commit=segment.first_commit,
                position=segment.first_position,
            )
            return
        for group in range(groups):
            try:
                table = file.read_row_group(group)
            except (pa.ArrowException, OSError, ValueError) as error:
                self._unreadable_group(data, group, str(error), segment)
                return
            self._rows(table, derived=True)

    def stream(
        self,
        data: memoryview,
        header_bytes: int,
        segment: Segment | None,
        *,
        acknowledged_end: int = 0,
    ) -> None:
        """Check the messages of an active (`segment` None) or closed segment."""
        walk = walk_messages(data, header_bytes)
        if walk.ends:
            batches = read_batches(data, walk.ends, header_bytes)
            self._rows(pa.Table.from_batches(batches, ACTIVE_SCHEMA), derived=False)
        is_torn_tail = (
            segment is None
            and walk.ending in (Ending.INCOMPLETE, Ending.DAMAGED)
            and walk.stopped_at >= acknowledged_end
            and (walk.ending is Ending.INCOMPLETE or bytes(data[-32:]) == bytes(32))
            and not has_valid_message(data, walk.stopped_at + 8)
        )
        expected = Ending.END_OF_FILE if segment is None else Ending.END_OF_STREAM
        is_rotating = segment is None and walk.ending is Ending.END_OF_STREAM
        if walk.ending is not expected and not is_torn_tail and not is_rotating:
            self.find(
                f"commit {self.next_commit} is damaged: byte {walk.stopped_at} starts "
                f"{walk.ending.value}",
                commit=self.next_commit,
                position=self.next_position,
            )
        elif acknowledged_end > len(data):
            self.find(
                f"commit {self.next_commit} is missing: the file ends at byte {len(data)}, commits "
                f"up to byte {acknowledged_end} were acknowledged",
                commit=self.next_commit,
                position=self.next_position,
            )

    def against_manifest(self, segment: Segment) -> None:
        """Compare what the rows add up to with what the manifest says of the segment."""
        if self.checked.findings:
            return
        stated = (segment.last_position, segment.last_commit, segment.last_recorded_at)
        seen = (self.next_position - 1, self.next_commit - 1, self._recorded_at)
        if stated != seen:
            self.find(
                f"the manifest says that the segment ends at (position, commit, recorded at) "
                f"{stated}, its records end at {seen}",
                commit=self.next_commit,
                position=self.next_position,
            )
        elif segment.tree_head != self._frontier.head().hex() or _stated_frontier(
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
        try:
            file = parquet.ParquetFile(pa.py_buffer(data))
            commits = file.read_row_group(group, columns=["commit"])["commit"].to_pylist()
            self._rows(file.read_row_group(group), derived=True)
        except (pa.ArrowException, OSError, ValueError, AssertionError):
            pass
        if any(finding.commit is not None for finding in self.checked.findings):
            return
        first = commits[0] if commits else self.next_commit
        last = commits[-1] if commits else segment.last_commit
        self.find(
            f"commit {first} is damaged, or one after it up to commit {last}: {error}",
            commit=first,
            position=self.next_position,
        )

    def _rows(self, table: pa.Table, *, derived: bool) -> None:
        """Check consecutive records. Records of one commit may lie in two calls."""
        try:
            self._check_records(table)
            if derived and not self.checked.findings:
                self._derived_columns(table)
        except _UNDECODABLE as error:
            self.find(
                f"commit {self.next_commit} was changed: it does not decode ({error!r})",
                commit=self.next_commit,
                position=self.next_position,
            )
            self._tree_is_sound = False

    def _check_records(self, table: pa.Table) -> None:
        heads = table["tree_head"].to_pylist()
        attributions: dict[tuple[str | None, ...], bytes] = {}
        for record, head in zip(records_of(table), heads, strict=True):
            if (
                record.position != self.next_position
                or record.commit != self.next_commit
                or record.recorded_at < self._recorded_at
                or (record.previous is not None and not 0 < record.previous < record.position)
            ):
                self.find(
                    f"commit {record.commit} at position {record.position} is out of order: commit "
                    f"{self.next_commit} at position {self.next_position} was to come",
                    commit=self.next_commit,
                    position=self.next_position,
                )
                self._tree_is_sound = False
                return
            texts = (record.actor, record.reason, record.request_id)
            if texts not in attributions:
                attributions[texts] = encode_attribution(*texts)
            self._frontier.append(leaf_hash(leaf_data(self._store_id, record, attributions[texts])))
            self.checked.records += 1
            self.next_position += 1
            self._recorded_at = record.recorded_at
            if head is None:
                continue
            self.checked.commits += 1
            self.next_commit += 1
            if self._tree_is_sound and head != self._frontier.head():
                self.find(
                    f"commit {record.commit} was changed: its records do not give its tree head",
                    commit=record.commit,
                    position=record.position,
                )
                self._tree_is_sound = False
        if self._tree_is_sound:
            self.checked.head = self._frontier.head()

    def _derived_columns(self, table: pa.Table) -> None:
        expected = derive(table["kind"].to_pylist(), table["payload"].to_pylist())
        for name in DERIVED_NAMES:
            stored = table[name].combine_chunks()
            if stored.equals(expected[name]):
                continue
            for row in range(len(table)):
                if not stored[row].equals(expected[name][row]):
                    self.find(
                        f"commit {table['commit'][row]} was changed: column {name} does not agree "
                        "with the payload",
                        commit=table["commit"][row].as_py(),
                        position=table["position"][row].as_py(),
                    )
                    break
