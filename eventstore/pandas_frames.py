"""Arrow tables as pandas data frames in which no whole number is rounded.

By itself Arrow makes floats of whole numbers among which there are nulls, in lists and structs,
too, and objects of booleans.
"""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

_NULLABLE = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(),
    pa.uint16(): pd.UInt16Dtype(),
    pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}


def exact_frame(table: pa.Table) -> pd.DataFrame:
    """The table as a frame; columns of whole numbers or booleans with nulls are nullable ones."""
    # By numbers, since Arrow mixes up columns that have one name.
    numbered = table.rename_columns([str(number) for number in range(table.num_columns)])
    frame: pd.DataFrame = numbered.to_pandas()
    for number, column in enumerate(table.columns):
        if column.type in _NULLABLE:
            if column.null_count:
                frame.isetitem(number, column.to_pandas(types_mapper=_NULLABLE.get))
        elif any(map(_has_nulls_within, column.chunks)):
            frame.isetitem(number, pd.Series(column.to_pylist(), dtype=object))
    frame.columns = pd.Index(table.column_names)
    return frame


def _has_nulls_within(array: pa.Array) -> bool:
    """Whether a list, struct or map holds, at any depth, nulls among whole numbers or booleans."""
    if pa.types.is_struct(array.type):
        parts = array.flatten()
    elif pa.types.is_map(array.type):
        parts = [array.keys, array.items]
    elif isinstance(array, (pa.ListArray, pa.LargeListArray, pa.FixedSizeListArray)):
        parts = [array.flatten()]
    else:
        return False
    return any(
        (part.type in _NULLABLE and part.null_count > 0) or _has_nulls_within(part)
        for part in parts
    )
