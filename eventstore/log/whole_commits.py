"""Scan and verify a log that keeps its commits whole, rather than in files of records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

from eventstore.log.leaf import leaf_hashes
from eventstore.log.log import Finding, Progress, SignedHead, VerifyReport
from eventstore.log.merkle import Frontier
from eventstore.log.record import Commit
from eventstore.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_PER_BATCH: Final = 16_384


def batches_of(
    commits: Iterable[Commit], after: int, upto: int, columns: Sequence[str] | None
) -> Iterator[pa.RecordBatch]:
    """The records in (after, upto] of the commits that have them, in order: see `Log.scan`."""
    pending: list[Commit] = []
    rows = 0
    for commit in commits:
        pending.append(commit)
        rows += len(commit.records)
        if rows >= _ROWS_PER_BATCH or commit.last_position >= upto:
            yield _batch(pending, columns, after, upto)
            pending, rows = [], 0
    if pending:
        yield _batch(pending, columns, after, upto)


def verified(
    store_id: UUID,
    commits: Iterable[Commit],
    position: int,
    signed_heads: Sequence[SignedHead] = (),
    progress: Progress | None = None,
) -> VerifyReport:
    """Compare all commits of a log, up to its newest position, with their tree heads.

    They are given as they are kept, with nothing concealed. See `Log.verify`.
    """
    frontier = Frontier()
    findings = []
    number = 0
    for number, commit in enumerate(commits, 1):
        if (commit.number, commit.first_position) != (number, frontier.size + 1):
            findings.append(
                Finding(
                    f"commit {number} at position {frontier.size + 1} was to come, and not commit "
                    f"{commit.number} at {commit.first_position}",
                    commit=number,
                )
            )
            number -= 1
            break
        for leaf in leaf_hashes(store_id, commit.records):
            frontier.append(leaf)
            found = (frontier.head().hex(), commit.number, commit.recorded_at)
            ends_commit = frontier.size == commit.last_position
            findings += [
                Finding(
                    f"history up to commit {commit.number} is not what {signed.signed}",
                    commit=commit.number,
                    position=signed.size,
                )
                for signed in signed_heads
                if signed.size == frontier.size
                and (not ends_commit or found != (signed.head, signed.commit, signed.recorded_at))
            ]
        if frontier.head() != commit.tree_head:
            findings.append(
                Finding(
                    f"commit {commit.number} does not match its tree head",
                    commit=commit.number,
                    position=commit.first_position,
                )
            )
        if progress is not None:
            progress(frontier.size, position)
    findings += [
        Finding(
            f"{signed.signed} with {counted(signed.size, 'record')}, the store has {position}: "
            "records that were signed are missing",
            position=position,
        )
        for signed in signed_heads
        if signed.size > position
    ]
    return VerifyReport(
        not findings,
        position,
        number,
        frontier.size,
        frontier.head().hex(),
        findings,
        signed_heads=list(signed_heads),
    )


def _batch(
    commits: Sequence[Commit], columns: Sequence[str] | None, after: int, upto: int
) -> pa.RecordBatch:
    """The records of the commits with positions in (after, upto]; there are some."""
    import pyarrow as pa

    from eventstore.log.columns import RECORD_SCHEMA, derive

    names = list(columns) if columns is not None else RECORD_SCHEMA.names
    records, heads = [], []
    for commit in commits:
        # A reader of one record of a large commit should pay for that record alone.
        start = max(after + 1 - commit.first_position, 0)
        for record in commit.records[start : upto + 1 - commit.first_position]:
            records.append(record)
            heads.append(commit.tree_head if record is commit.records[-1] else None)
    schema = pa.schema([RECORD_SCHEMA.field(name) for name in names])
    derived = (
        derive([record.kind for record in records], [record.payload for record in records])
        if any(name not in records[0].__struct_fields__ for name in names)
        else {}
    )
    arrays = [
        derived[name]
        if name in derived
        else pa.array(
            heads if name == "tree_head" else [getattr(record, name) for record in records],
            schema.field(name).type,
        )
        for name in names
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
