"""Build the runs of a stretch of the log: of what it has sealed, or of a tail grown long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from eventstore.log import Log
from eventstore.log.columns import one_batch
from eventstore.projections.index_building import INDEXED_COLUMNS, highest_ids, run_tables
from eventstore.projections.index_tail import Tail
from eventstore.projections.run_file import RUN_FORMAT_VERSION, RunMetadata
from eventstore.projections.run_folder import run_path
from eventstore.projections.sorted_run import SortedRun, write_run


def sealed_stretches(log: Log, after: int, records_max: int, bytes_max: int) -> Iterator[int]:
    """Where to end runs that together cover the sealed segments after a position."""
    last_position, records, size = after, 0, 0
    for end, file_bytes in log.dense_ends(after):
        records += end - last_position
        last_position = end
        size += file_bytes
        if records >= records_max or size >= bytes_max:
            yield last_position
            records = size = 0
    if records:
        yield last_position


def tail_run(log: Log, folder: Path, tail: Tail) -> SortedRun:
    """A run of what a tail holds."""
    metadata = RunMetadata(
        format_version=RUN_FORMAT_VERSION,
        store_id=log.store_id,
        first_position=tail.first_position,
        last_position=tail.last_position,
        preceding_recorded_at=tail.preceding_recorded_at,
        last_recorded_at=tail.last_recorded_at,
        highest_ids=tail.highest_ids,
    )
    path = run_path(folder, tail.first_position, tail.last_position)
    return write_run(path, metadata, tail.tables())


def built_run(
    log: Log,
    folder: Path,
    first_position: int,
    last_position: int,
    highest_before: Mapping[str, int],
) -> SortedRun:
    """A run of the records at these positions; `highest_before` are the ids given out before."""
    after = first_position - 1
    records = one_batch(log.scan(after, last_position, INDEXED_COLUMNS))
    highest = dict(highest_before)
    for sequence, highest_id in highest_ids(records).items():
        highest[sequence] = max(highest.get(sequence, 0), highest_id)
    metadata = RunMetadata(
        format_version=RUN_FORMAT_VERSION,
        store_id=log.store_id,
        first_position=first_position,
        last_position=last_position,
        preceding_recorded_at=log.recorded_at(after) if after else 0,
        last_recorded_at=log.recorded_at(last_position),
        highest_ids=highest,
    )
    path = run_path(folder, first_position, last_position)
    return write_run(path, metadata, run_tables(records))


def rebuilt_runs(
    log: Log,
    folder: Path,
    damaged: SortedRun,
    highest_before: Mapping[str, int],
    records_max: int,
) -> list[SortedRun]:
    """Runs in place of a damaged one: several when it holds too many records for one."""
    runs: list[SortedRun] = []
    first = damaged.first_position
    while first <= damaged.last_position:
        last = damaged.last_position
        if last - first >= records_max:
            # Runs end where commits do, unless one commit is longer than a run.
            end = log.commit_end(first + records_max - 1)
            last = end if end >= first else last
        runs.append(built_run(log, folder, first, last, highest_before))
        first, highest_before = last + 1, runs[-1].highest_ids
    return runs
