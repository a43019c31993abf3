"""Merge neighbouring runs of like size, so that few levels hold many records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from eventstore.projections.index_tables import TABLES
from eventstore.projections.limits import LIMITS, IndexLimits
from eventstore.projections.sorted_run import SortedRun

if TYPE_CHECKING:
    import pyarrow as pa

    from eventstore.projections.run_writing import Rows

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


def merge_runs(
    runs: Sequence[SortedRun], path: Path, limits: IndexLimits = LIMITS.index
) -> SortedRun:
    """One run of neighbours, oldest first."""
    from eventstore.projections.run_writing import write_tables

    metadata = msgspec.structs.replace(
        runs[-1].metadata,
        first_position=runs[0].metadata.first_position,
        preceding_recorded_at=runs[0].metadata.preceding_recorded_at,
    )
    write_tables(path, metadata, _merged(runs), limits)
    return SortedRun(path, limits)


def _merged(runs: Sequence[SortedRun]) -> Iterator[tuple[int, Rows]]:
    for table in TABLES:
        having = [run for run in runs if table in run.file.tables.layouts]
        if having:
            yield table, _merged_rows(having, table)
            # Copied by now, so that what is checked is what was copied.
            for run in having:
                run.check_values(table)
                # What is held of it is asked for again if the merge fails.
                run.file.tables.pop(table, None)


def _merged_rows(runs: Sequence[SortedRun], table: int) -> Rows:
    import pyarrow as pa
    import pyarrow.compute as compute

    from eventstore.projections.run_writing import Rows

    keys, positions, of_runs = zip(*(run.batch(table).columns for run in runs), strict=True)
    keys = pa.concat_arrays(keys)
    positions = pa.concat_arrays(positions)
    values, order = pa.chunked_array(of_runs), None
    if not compute.all(compute.less_equal(keys[:-1], keys[1:])).as_py():
        # The sort is stable.
        order = compute.array_sort_indices(keys)
        keys = keys.take(order)
        positions = positions.take(order)

    def values_of(start: int, end: int) -> pa.Array:
        for run in runs:
            run.file.refuse_cut()
        some = values[start:end] if order is None else values.take(order[start:end])
        found = pa.concat_arrays(some.chunks)
        for run in runs:
            run.file.forget_pages()
        return found

    are_ids = all(run.file.tables.layouts[table].has_inline_values for run in runs)
    return Rows(keys, positions, are_ids, values_of)
