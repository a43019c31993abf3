"""The entries of a table of a run as Arrow columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as compute

from eventstore.log.arrow_values import array_of

RUN_SCHEMA: Final = pa.schema(
    [
        pa.field("key", pa.int64(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("value", pa.large_binary(), nullable=False),
    ]
)


def run_batch(
    keys: Sequence[int], positions: Sequence[int], values: Sequence[bytes]
) -> pa.RecordBatch:
    """The columns of one table, in the order given."""
    arrays = [
        array_of(keys, pa.int64()),
        array_of(positions, pa.int64()),
        array_of(values, pa.large_binary()),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=RUN_SCHEMA)


def int64_array(numbers: memoryview) -> pa.Array:
    """A copy of int64s, with or without others between them."""
    buffers = [None, pa.py_buffer(numbers.tobytes())]
    return pa.Array.from_buffers(pa.int64(), len(numbers), buffers)


def sorted_batch(keys: pa.Array, positions: pa.Array, values: pa.Array) -> pa.RecordBatch:
    """The columns of one table by key; entries of one key stay in the order given."""
    batch = pa.RecordBatch.from_arrays(
        [keys, positions, values.cast(pa.large_binary())], schema=RUN_SCHEMA
    )
    if len(keys) < 2 or compute.all(compute.less_equal(keys[:-1], keys[1:])).as_py():
        return batch
    # The sort is stable.
    return batch.take(compute.array_sort_indices(keys))
