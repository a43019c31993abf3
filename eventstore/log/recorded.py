"""Commits that another log has recorded: whether they follow on what is there, and as a segment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

from eventstore import errors
from eventstore.log.cache_file import temporary_beside
from eventstore.log.leaf import leaf_hashes
from eventstore.log.manifest import Segment, sealed_name
from eventstore.log.merkle import Frontier
from eventstore.log.record import Commit
from eventstore.log.sealing import derived_batches, write_parquet
from eventstore.times import Microseconds

if TYPE_CHECKING:
    import pyarrow as pa

_GROUP_RECORDS: Final = 65_536
"""About so many records become a segment, and of long ones as many as `_GROUP_BYTES` have."""

_GROUP_BYTES: Final = 32 * 1024 * 1024

_FEW_COMMITS: Final = 100
_FEW_BYTES: Final = 1024 * 1024
"""Up to so many commits, no longer than that, are no segment of their own."""


def grouped(commits: Iterable[Commit]) -> Iterator[list[Commit]]:
    """The commits in groups, each of about so many records that it makes a segment."""
    some: list[Commit] = []
    records = size = 0
    for commit in commits:
        some.append(commit)
        records += len(commit.records)
        size += sum(len(record.payload or b"") for record in commit.records)
        if records >= _GROUP_RECORDS or size >= _GROUP_BYTES:
            yield some
            some, records, size = [], 0, 0
    if some:
        yield some


def are_few(commits: Sequence[Commit]) -> bool:
    """Whether commits are to be appended as puts are, one by one, rather than as a segment.

    A stream has no columns for what is erased of any of them.
    """
    records = [*chain.from_iterable(commit.records for commit in commits)]
    return (
        len(commits) <= _FEW_COMMITS
        and all(record.salt is not None and record.who_salt is not None for record in records)
        and sum(len(record.payload or b"") for record in records) <= _FEW_BYTES
    )


def take_leaves(
    store_id: UUID,
    commits: Sequence[Commit],
    frontier: Frontier,
    *,
    number: int,
    recorded_at: Microseconds,
) -> None:
    """Append the leaves of commits to the frontier, which is that of the commit before them.

    `number` and `recorded_at` are those of that commit, 0 where there is none. Raises DataLossError
    for commits that cannot follow on it, or whose records do not give their tree heads.
    """
    for commit in commits:
        number += 1
        positions = range(frontier.size + 1, frontier.size + len(commit.records) + 1)
        if (
            commit.number != number
            or commit.recorded_at < recorded_at
            or not commit.records
            or any(
                (record.position, record.commit, record.recorded_at)
                != (position, number, commit.recorded_at)
                for position, record in zip(positions, commit.records, strict=True)
            )
        ):
            raise errors.DataLossError(
                f"commit {commit.number} cannot follow on commit {number - 1}, at position "
                f"{frontier.size}"
            )
        recorded_at = commit.recorded_at
        frontier.extend(leaf_hashes(store_id, commit.records))
        if frontier.head() != commit.tree_head:
            raise errors.DataLossError(
                f"the records up to commit {commit.number} do not give its tree head: they are not "
                "those that were put"
            )


@contextmanager
def written_segment(
    folder: Path, store_id: UUID, number: int, commits: Sequence[Commit], frontier: Frontier
) -> Iterator[tuple[Path, Segment]]:
    """The sealed segment of some commits, written durably under a temporary name.

    Gives that name and its entry for the manifest. The file is removed in the end if it has not
    been moved. The frontier is that of the last commit.
    """
    name = sealed_name(number)
    with temporary_beside(folder / name) as file:
        prepared = Path(file.name)
        digest = write_parquet(derived_batches(_batch(commits)), prepared, store_id, number)
        first, last = commits[0], commits[-1]
        yield (
            prepared,
            Segment(
                number=number,
                sealed=True,
                file=name,
                file_bytes=prepared.stat().st_size,
                file_sha256=digest,
                first_position=first.first_position,
                last_position=last.last_position,
                first_commit=first.number,
                last_commit=last.number,
                first_recorded_at=first.recorded_at,
                last_recorded_at=last.recorded_at,
                tree_head=last.tree_head.hex(),
                frontier=tuple(subtree.hex() for subtree in frontier.subtrees),
            ),
        )


def _batch(commits: Sequence[Commit]) -> pa.RecordBatch:
    """The records of commits in the columns of RECORD_SCHEMA that are not derived."""
    import pyarrow as pa

    from eventstore.log.columns import DERIVED_NAMES, RECORD_SCHEMA

    records = list(chain.from_iterable(commit.records for commit in commits))
    heads = [head for commit in commits for head in commit.tree_heads]
    fields = [field for field in RECORD_SCHEMA if field.name not in DERIVED_NAMES]
    arrays = [
        pa.array(
            heads
            if field.name == "tree_head"
            else [getattr(record, field.name) for record in records],
            field.type,
        )
        for field in fields
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
