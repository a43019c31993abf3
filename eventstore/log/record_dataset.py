"""Records as an Arrow dataset, of which a query reads what it needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset


def record_dataset(
    files: Sequence[Path], batches: Iterable[pa.RecordBatch], columns: Sequence[str]
) -> pyarrow.dataset.Dataset:
    """Some columns of the records in Parquet files, and after them of those in batches."""
    import pyarrow as pa
    import pyarrow.dataset as dataset

    from eventstore.log.columns import RECORD_SCHEMA

    schema = pa.schema([field for field in RECORD_SCHEMA if field.name in columns])
    ordered = (batch.select(schema.names) for batch in batches)
    in_memory = dataset.dataset(pa.Table.from_batches(ordered, schema))
    if not files:
        return in_memory
    paths = [str(path) for path in files]
    return dataset.dataset([dataset.dataset(paths, schema=schema, format="parquet"), in_memory])
