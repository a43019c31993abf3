"""Check the records of one segment, as they follow one another: hashes, order and contents."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pyarrow as pa
from google.protobuf.message import DecodeError

from eventstore.log.columns import DERIVED_NAMES, decodes, derive, same_values
from eventstore.log.commit import records_of
from eventstore.log.leaf import leaf_hashes
from eventstore.log.log import Finding, SignedHead
from eventstore.log.manifest import Segment
from eventstore.log.merkle import EMPTY_HEAD, Frontier
from eventstore.log.record import Record
from eventstore.log.record_check import ContentCheck, TypeUse, envelope_fault
from eventstore.log.retention_stages import RetentionRecord

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


class CheckedSegment(msgspec.Struct):
    """The result of checking one segment: `head` is the tree head after it, in hexadecimal.

    `types` are what its nodes say of their types, to be compared with the types; `retention` are
    its records of rules, holds and erasures. It `is_outdated` when the segment was merged
    meanwhile.
    """

    records: int = 0
    commits: int = 0
    head: str = EMPTY_HEAD.hex()
    findings: list[Finding] = []
    types: list[TypeUse] = []
    retention: list[RetentionRecord] = []
    is_outdated: bool = False


def stated_frontier(segment: Segment) -> Frontier:
    """The frontier that the manifest states for a segment's end; an empty one if it is none."""
    try:
        return Frontier(
            segment.last_position, [bytes.fromhex(subtree) for subtree in segment.frontier]
        )
    except ValueError:
        return Frontier()


class RowsCheck:
    """The running state of one segment's check: what comes next, and what was found."""

    def __init__(
        self,
        store_id: UUID,
        path: Path,
        number: int,
        previous: Segment | None,
        signed_heads: Sequence[SignedHead],
    ) -> None:
        start = Frontier() if previous is None else stated_frontier(previous)
        self.checked = CheckedSegment(head=start.head().hex())
        self._store_id = store_id
        self._path = path
        self._number = number
        self._frontier = start
        self._signed_heads = signed_heads
        self._signed_sizes = {signed.size for signed in signed_heads}
        self._tree_is_sound = True
        self.next_position = start.size + 1
        self.next_commit = previous.last_commit + 1 if previous else 1
        self._recorded_at = previous.last_recorded_at if previous else 0
        self.expected_number = previous.number + 1 if previous else 1
        self.first_position = self.next_position
        self._first_commit = self.next_commit
        self._first_recorded_at: int | None = None
        self._content = ContentCheck()
        self._commit_time: int | None = None
        self._who: tuple[str | None, ...] | None = None

    def find(self, what: str, *, commit: int | None = None, position: int | None = None) -> None:
        """Note something that is wrong, and where."""
        self.checked.findings.append(Finding(what, str(self._path), self._number, commit, position))

    def rows(self, table: pa.Table, *, derived: bool) -> None:
        """Check consecutive records. Records of one commit may lie in two calls."""
        records: list[Record] = []
        try:
            records = self._check_records(table)
            if not self.checked.findings:
                self._check_contents(table, records, derived=derived)
        except _UNDECODABLE as error:
            commit, position = self.next_commit, self.next_position
            undecodable = next(
                (record for record in records if not decodes(record.kind, record.payload)), None
            )
            if undecodable is not None:
                commit, position = undecodable.commit, undecodable.position
            self.find(
                f"commit {commit} was changed: it does not decode ({error!r})",
                commit=commit,
                position=position,
            )
            self._tree_is_sound = False

    def _check_records(self, table: pa.Table) -> list[Record]:
        heads = table["tree_head"].to_pylist()
        records = list(records_of(table))
        leaves = leaf_hashes(self._store_id, records)
        for record, head in zip(records, heads, strict=True):
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
                return records
            self._compare_with_commit(record, ends_commit=head is not None)
            fault = envelope_fault(record)
            if fault is not None:
                self._find_in(record, fault)
            self._frontier.append(next(leaves))
            self.checked.records += 1
            self.next_position += 1
            self._recorded_at = record.recorded_at
            if self._first_recorded_at is None:
                self._first_recorded_at = record.recorded_at
            if record.position in self._signed_sizes and self._tree_is_sound:
                self._against_checkpoints(record, ends_commit=head is not None)
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
            self.checked.head = self._frontier.head().hex()
        return records

    def _compare_with_commit(self, record: Record, *, ends_commit: bool) -> None:
        """Records of a commit agree in when and, as far as it is not erased, in who and why."""
        who = (record.actor, record.reason, record.request_id)
        is_erased = record.who_commitment is not None
        if (self._commit_time is not None and self._commit_time != record.recorded_at) or (
            self._who is not None and self._who != who and not is_erased
        ):
            self._find_in(record, "its commit says two times, actors, reasons or request ids")
        self._commit_time = None if ends_commit else record.recorded_at
        if ends_commit:
            self._who = None
        elif not is_erased:
            self._who = who

    def _against_checkpoints(self, record: Record, *, ends_commit: bool) -> None:
        found = (self._frontier.head().hex(), record.commit, record.recorded_at)
        for signed in self._signed_heads:
            if signed.size == record.position and (
                not ends_commit or found != (signed.head, signed.commit, signed.recorded_at)
            ):
                self.find(
                    f"history up to commit {record.commit} is not what {signed.signed}: the "
                    f"records up to position {signed.size} were changed since, though they agree "
                    "with each other",
                    commit=record.commit,
                    position=signed.size,
                )

    def _check_contents(self, table: pa.Table, records: Sequence[Record], *, derived: bool) -> None:
        """Compare the contents with the columns, and with the derived ones where they are."""
        content = self._content

        def visit(row: int, message: Any) -> None:
            content.look_at(records[row], message)

        kinds = [record.kind for record in records]
        payloads = [record.payload for record in records]
        expected = derive(kinds, payloads, visit)
        self.checked.types = [*content.types.values()]
        self.checked.retention = content.retention
        if content.fault is not None:
            self._find_in(*content.fault)
        for name in DERIVED_NAMES if derived else ():
            stored = table[name].combine_chunks()
            if same_values(stored, expected[name]):
                continue
            for row in range(len(table)):
                if not same_values(stored.slice(row, 1), expected[name].slice(row, 1)):
                    self.find(
                        f"commit {records[row].commit} was changed: column {name} does not agree "
                        "with the payload",
                        commit=records[row].commit,
                        position=records[row].position,
                    )
                    break

    def _find_in(self, record: Record, fault: str) -> None:
        self.find(
            f"commit {record.commit} was changed: of the record at position {record.position}, "
            f"{fault}",
            commit=record.commit,
            position=record.position,
        )

    def expect_whole_commits(self) -> None:
        """Find a commit that has no end, once all rows were checked."""
        if self._commit_time is not None and not self.checked.findings:
            self.find(
                f"commit {self.next_commit} has no end: its last record lacks a tree head",
                commit=self.next_commit,
                position=self.next_position - 1,
            )
