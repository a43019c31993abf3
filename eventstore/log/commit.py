"""Make a commit from drafts, and turn it into the Arrow IPC message that the log appends."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import UUID

from eventstore import errors
from eventstore.log.ipc_message import CHECKSUM_BYTES, commit_message
from eventstore.log.leaf import SALT_BYTES, leaf_hashes
from eventstore.log.merkle import Frontier
from eventstore.log.record import KIND_NAMES, Commit, Draft, Record
from eventstore.log.record_check import envelope_fault
from eventstore.times import Microseconds

if TYPE_CHECKING:
    import pyarrow as pa

_NO_CHECKSUM = bytes(CHECKSUM_BYTES)
_KINDS = frozenset(KIND_NAMES)
# Of what a record holds, and of who put it: who knows one of them does not know the other.
_SALTS = struct.Struct(f"{SALT_BYTES}s{SALT_BYTES}s")


def make_commit(
    store_id: UUID,
    drafts: Sequence[Draft],
    frontier: Frontier,
    *,
    number: int,
    recorded_at: Microseconds,
    actor: str | None,
    reason: str | None,
    request_id: str | None,
) -> Commit:
    """Give the drafts positions and salts, and append their leaves to `frontier`."""
    salts = os.urandom(_SALTS.size * len(drafts))
    records = [
        Record(
            position,
            number,
            recorded_at,
            draft.kind,
            draft.entity_id,
            draft.type_id,
            draft.previous,
            actor,
            reason,
            request_id,
            salt,
            draft.payload,
            None,
            who_salt,
            None,
        )
        for position, (salt, who_salt), draft in zip(
            count(frontier.size + 1), _SALTS.iter_unpack(salts), drafts, strict=False
        )
    ]
    frontier.extend(leaf_hashes(store_id, records))
    return Commit(number, recorded_at, frontier.head(), tuple(records))


def encode_commit(commit: Commit) -> bytes:
    """The commit as one encapsulated IPC message, its checksum filled in."""
    message = commit_message(commit)
    return message[:-CHECKSUM_BYTES] + hashlib.sha256(message).digest()


def has_valid_checksum(message: memoryview) -> bool:
    """Whether a message ends in the SHA-256 of itself with those 32 bytes zero."""
    if len(message) < CHECKSUM_BYTES:
        return False
    digest = hashlib.sha256(message[:-CHECKSUM_BYTES])
    digest.update(_NO_CHECKSUM)
    return digest.digest() == message[-CHECKSUM_BYTES:]


def records_of(batch: pa.RecordBatch) -> Iterator[Record]:
    """The rows of a batch or table that has at least the columns of a stream."""
    # In a stream there are no columns for what is erased.
    present = {*batch.schema.names}
    columns = [
        _values(batch.column(name), name) if name in present else [None] * batch.num_rows
        for name in Record.__struct_fields__
    ]
    for row in zip(*columns, strict=True):
        yield Record(*row)


def commits_of(batches: Iterable[pa.RecordBatch]) -> Iterator[Commit]:
    """The commits in consecutive batches, in order; one may lie across batches.

    Raises DataLossError for what no store has written, although it matches its checksum.
    """
    pending: list[Record] = []
    number = None
    for batch in batches:
        heads = batch.column("tree_head").to_pylist()
        for record, head in zip(records_of(batch), heads, strict=True):
            if record.commit != number and number is not None:
                raise _forged(record, f"commit {number} was to come")
            number = record.commit
            if record.kind not in _KINDS:
                raise _forged(record, f"there are no records of kind {record.kind!r}")
            fault = envelope_fault(record)
            if fault is not None:
                raise _forged(record, fault)
            pending.append(record)
            if head is not None:
                yield Commit(record.commit, record.recorded_at, head, tuple(pending))
                pending, number = [], number + 1
    if pending:
        raise _forged(pending[-1], "it has no last record")


def in_sequence(commits: Iterable[Commit]) -> Iterator[Commit]:
    """The commits, as long as each follows on the one before. Raises DataLossError."""
    number = None
    for commit in commits:
        if number is not None and commit.number != number:
            raise _forged(commit.records[0], f"commit {number} was to come")
        yield commit
        number = commit.number + 1


def _forged(record: Record, fault: str) -> errors.DataLossError:
    return errors.DataLossError(
        f"commit {record.commit}, at position {record.position}, is damaged: {fault}; run "
        "`eventstore verify` and restore the segment from a backup"
    )


def _values(column: Any, name: str) -> list[Any]:
    if name == "recorded_at":
        import pyarrow as pa

        # Not by a cast, for which Arrow imports all its functions.
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        column = column.view(pa.int64())
    values: list[Any] = column.to_pylist()
    return values
