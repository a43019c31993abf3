"""Values of columns that Arrow, Python or Parquet have nothing for: DuckDB's text says them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def python_values(column: pa.Array) -> list[Any]:
    """The values; text for a time out of Python's calendar, and for what holds one."""
    try:
        values: list[Any] = column.to_pylist()
        return values
    except (ValueError, OverflowError, NotImplementedError):
        texts = as_texts(column).to_pylist()
    return [_value(held, text) for held, text in zip(column, texts, strict=True)]


def _value(held: pa.Scalar, text: str | None) -> Any:
    try:
        return held.as_py()
    except (ValueError, OverflowError, NotImplementedError):
        return text


def as_texts(column: pa.Array) -> pa.Array:
    """The texts that DuckDB writes for the values."""
    import duckdb
    import pyarrow as pa

    with duckdb.connect(config={"threads": 1}) as connection:
        table = pa.Table.from_arrays([column], ["value"])
        texts = connection.from_arrow(table).project("CAST(value AS VARCHAR)")
        return texts.to_arrow_table().column(0).combine_chunks()


def has_in_parquet(held: pa.DataType) -> bool:
    """Whether Parquet has a type, and all those inside it."""
    import pyarrow as pa

    if pa.types.is_interval(held):
        return False
    if pa.types.is_struct(held) and not held.num_fields:
        return False
    return all(has_in_parquet(held.field(number).type) for number in range(held.num_fields))
