"""Records as an Arrow dataset, of which a query reads what it needs."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset


def record_dataset(
    parts: Iterable[Path | Iterable[pa.RecordBatch]], columns: Iterable[str]
) -> pyarrow.dataset.Dataset:
    """Some columns of the records in Parquet files and in batches, in the order of these."""
    import pyarrow as pa
    import pyarrow.dataset as dataset

    from eventstore.log.columns import RECORD_SCHEMA

    names = {*columns}
    schema = pa.schema([field for field in RECORD_SCHEMA if field.name in names])
    children = []
    for _, run in groupby(parts, lambda part: isinstance(part, Path)):
        paths, batches = [], []
        for part in run:
            if isinstance(part, Path):
                paths.append(str(part))
            else:
                batches += [batch.select(schema.names) for batch in part]
        if paths:
            children.append(dataset.dataset(paths, schema=schema, format="parquet"))
        else:
            children.append(dataset.dataset(pa.Table.from_batches(batches, schema)))
    return dataset.dataset(children) if len(children) > 1 else children[0]
