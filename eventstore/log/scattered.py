"""Read records that lie scattered over a log, with no stretch of it read twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from eventstore.log.erased import Spans
from eventstore.log.log import Log

if TYPE_CHECKING:
    import pyarrow as pa


def records_at(log: Log, spans: Spans, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The records at some positions, ascending, in batches of what `Log.scan` gives.

    The columns have to include `position`.
    """
    import pyarrow.compute as compute

    while spans:
        _, end = log.stretch_of(spans.firsts[0])
        # No dearer to scan than one of its records.
        end = max(end, spans.lasts[0])
        here = spans.within(1, end)
        spans = spans.within(end + 1, spans.lasts[-1])
        wanted = positions_in(here) if len(here.firsts) > 1 else None
        for batch in log.scan(here.firsts[0] - 1, here.lasts[-1], columns):
            if wanted is None:
                yield batch
            else:
                yield batch.filter(compute.is_in(batch["position"], value_set=wanted))


def positions_in(spans: Spans) -> pa.Array:
    """Positions as a column (int64)."""
    import pyarrow as pa

    from eventstore.log.arrow_values import array_of

    parts = [array_of(range(first, last + 1), pa.int64()) for first, last in spans]
    return pa.concat_arrays([pa.nulls(0, pa.int64()), *parts])
