"""Read very many values of the point index, column by column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as compute

from eventstore.projections.sorted_run import SortedRun

if TYPE_CHECKING:
    from eventstore.projections.index_look_ups import Level


class TableColumns:
    """The entries of a table in all levels of the index, by position.

    The values stay in the files until they are taken. Raises DamagedRunError as the runs do.
    """

    def __init__(self, levels: Sequence[Level], table: int) -> None:
        self._table = table
        self._runs = [level for level in levels if isinstance(level, SortedRun)]
        self._stamps = [run.file.stamp() for run in self._runs]
        columns = [level.entry_columns(table) for level in levels]
        self._positions = pa.chunked_array([found for found, _ in columns], pa.int64())
        self._positions = self._positions.combine_chunks()
        self._values = pa.chunked_array([found for _, found in columns], pa.large_binary())
        for run in self._runs:
            run.check_values(table)

    def values_at(self, positions: pa.Array) -> pa.ChunkedArray:
        """The values written at these positions (int64)."""
        rows = compute.index_in(positions, value_set=self._positions)
        for run in self._runs:
            run.file.refuse_cut()
        found = self._values.take(rows)
        # Checking all values again takes longer than asking whether anybody has written.
        for number, run in enumerate(self._runs):
            stamp = run.file.stamp()
            if stamp != self._stamps[number]:
                run.check_values(self._table)
                self._stamps[number] = stamp
        return found
