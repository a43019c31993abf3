"""Merge neighbouring runs of like size, so that few levels hold many records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from eventstore.projections.index_tables import TABLES
from eventstore.projections.sorted_run import SortedRun, sorted_batch, write_run

_MERGE_RATIO: Final = 4


def mergeable(runs: Sequence[SortedRun], records_max: int) -> list[SortedRun]:
    """The newest stretch of two or more runs of like size, oldest first; empty if none is.

    Together they have no more than some records.
    """
    merging: list[SortedRun] = []
    records = 0
    for run in reversed(runs):
        is_next = bool(merging) and run.last_position + 1 == merging[0].first_position
        if is_next and run.records <= min(_MERGE_RATIO * records, records_max - records):
            merging.insert(0, run)
            records += run.records
        elif len(merging) > 1:
            break
        else:
            merging, records = [run], run.records
    return merging if len(merging) > 1 else []


def merge_runs(runs: Sequence[SortedRun], path: Path) -> SortedRun:
    """One run of neighbours, oldest first."""
    from eventstore.log.columns import one_batch

    metadata = msgspec.structs.replace(
        runs[-1].metadata,
        first_position=runs[0].metadata.first_position,
        preceding_recorded_at=runs[0].metadata.preceding_recorded_at,
    )
    tables = {}
    for table in TABLES:
        batches = [run.batch(table) for run in runs]
        # Copied by now, so that what is checked is what was copied.
        tables[table] = sorted_batch(*one_batch(batches).columns)
        for run in runs:
            run.check_values(table)
    return write_run(path, metadata, tables)
