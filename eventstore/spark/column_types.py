"""Columns of Arrow as Spark declares them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import pyarrow as pa

_TYPES: Final = {
    pa.int64(): "BIGINT",
    pa.int32(): "INT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    pa.utf8(): "STRING",
    pa.binary(): "BINARY",
    pa.timestamp("us", "UTC"): "TIMESTAMP",
}


def columns_of(fields: Iterable[pa.Field]) -> dict[str, str]:
    """The type of each column, by its name."""
    return {field.name: _declared(field.type) for field in fields}


def schema_text(columns: Mapping[str, str]) -> str:
    """Columns as the text of a schema."""
    return ", ".join(f"`{name}` {held}" for name, held in columns.items())


def _declared(held: pa.DataType) -> str:
    if isinstance(held, pa.MapType):
        return f"MAP<{_declared(held.key_type)}, {_declared(held.item_type)}>"
    if isinstance(held, pa.StructType):
        return f"STRUCT<{', '.join(f'{field.name}: {_declared(field.type)}' for field in held)}>"
    return _TYPES[held]
