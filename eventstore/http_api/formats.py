"""Record batches as Arrow, CSV or Parquet, part by part: never more than a batch is held."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from eventstore.http_api.cells import as_texts, has_in_parquet, python_values
from eventstore.http_api.routes import Streamed

if TYPE_CHECKING:
    import pyarrow as pa

Form = Literal["json", "csv", "arrow", "parquet"]

MEDIA_TYPES: Final[dict[str, Form]] = {
    "application/vnd.apache.arrow.stream": "arrow",
    "text/csv": "csv",
    "application/vnd.apache.parquet": "parquet",
}
"""What a request may ask for in its header Accept, instead of `format=`."""

_NAMES: Final[dict[Form, str]] = {form: name for name, form in MEDIA_TYPES.items()}
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")
_FORMULA: Final = re.compile(r"[\t\r]|\s*[=+\-@|\uff0b\uff0d\uff1d\uff20\uff5c]")
"""What a spreadsheet would take for the beginning of a formula: some skip blanks before it."""


def streamed(
    form: Form, name: str, batches: Iterable[pa.RecordBatch], schema: pa.Schema
) -> Streamed:
    """An answer of rows in a form other than JSON, which browsers save under a name."""
    parts = _PARTS[form](batches, schema)
    extension = {"arrow": "arrows"}.get(form, form)
    return Streamed(_NAMES[form], parts, f"{name}.{extension}")


def begun(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same batches, the first of which is made now: an error is told as such, not cut off."""
    first = next(batches, None)
    return iter(()) if first is None else chain([first], batches)


class _Sink(io.RawIOBase):
    """Takes what is written, and hands it out again."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, part: Any) -> int:
        taken = bytes(part)
        self._parts.append(taken)
        self._written += len(taken)
        return len(taken)

    def taken(self) -> bytes:
        """What was written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _arrow(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[bytes]:
    import pyarrow as pa

    sink = _Sink()
    with pa.ipc.new_stream(pa.PythonFile(sink, "w"), schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield sink.taken()
    yield sink.taken()


def _parquet(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    sink = _Sink()
    lacking = [n for n, held in enumerate(schema.types) if not has_in_parquet(held)]
    for n in lacking:
        schema = schema.set(n, pa.field(schema.field(n).name, pa.string()))
    with parquet.ParquetWriter(pa.PythonFile(sink, "w"), schema) as writer:
        for batch in batches:
            columns = batch.columns
            for n in lacking:
                columns[n] = as_texts(columns[n])
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
            yield sink.taken()
    yield sink.taken()


def _csv(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[bytes]:
    import csv

    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(map(_cell, schema.names))
    for batch in batches:
        columns = [_texts(column) for column in batch.columns]
        writer.writerows(zip(*columns, strict=True))
        yield text.getvalue().encode("utf-8", "backslashreplace")
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode("utf-8", "backslashreplace")


def _texts(column: pa.Array) -> list[Any]:
    """The cells of a column; texts that a spreadsheet would compute begin with an apostrophe."""
    import pyarrow as pa

    from eventstore.plain_json import moment_text, plain

    values = python_values(column)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return [None if value is None else _cell(value) for value in values]
    if pa.types.is_timestamp(column.type):
        return [moment_text(one) if isinstance(one, datetime) else one for one in values]
    if pa.types.is_boolean(column.type):
        return [None if value is None else str(value).lower() for value in values]
    if pa.types.is_integer(column.type):
        return values
    if pa.types.is_date(column.type) or pa.types.is_decimal(column.type):
        return [None if value is None else str(value) for value in values]
    return [None if value is None else _json_cell(plain(value)) for value in values]


def _json_cell(value: Any) -> Any:
    """A value as JSON has it; a text as a cell."""
    if isinstance(value, str):
        # These are what JSON has for numbers.
        return value if value in ("NaN", "Infinity", "-Infinity") else _cell(value)
    if isinstance(value, (dict, list)):
        return _cell(_ENCODER.encode(value).decode())
    return value


def _cell(text: str) -> str:
    return f"'{text}" if _FORMULA.match(text) else text


_PARTS: Final[dict[str, Callable[[Iterable[pa.RecordBatch], pa.Schema], Iterator[bytes]]]] = {
    "arrow": _arrow,
    "parquet": _parquet,
    "csv": _csv,
}
