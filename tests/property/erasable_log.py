"""A log whose records can be erased: from some position on it no longer has their content."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from eventstore.log import Commit, DirectoryLog, Record
from eventstore.log.columns import DERIVED_NAMES, RECORD_SCHEMA


class ErasableLog(DirectoryLog):
    """Reads as if the content at some positions had been destroyed in its files."""

    destroyed: set[int]

    def commits(self, after: int = 0, upto: int | None = None) -> Iterator[Commit]:
        for commit in super().commits(after, upto):
            records = tuple(map(self._left_of, commit.records))
            yield msgspec.structs.replace(commit, records=records)

    def _left_of(self, record: Record) -> Record:
        if record.position not in self.destroyed:
            return record
        return msgspec.structs.replace(record, payload=None, salt=None, commitment=bytes(32))

    def scan(
        self, after: int = 0, upto: int | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        names = list(columns or RECORD_SCHEMA.names)
        for batch in super().scan(after, upto, [*{*names, "position"}]):
            gone = [position in self.destroyed for position in batch["position"].to_pylist()]
            arrays = [_without(batch, name, gone) for name in names]
            schema = pa.schema([RECORD_SCHEMA.field(name) for name in names])
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _without(batch: pa.RecordBatch, name: str, gone: list[bool]) -> Any:
    if name not in (*DERIVED_NAMES, "payload", "salt") or not any(gone):
        return batch[name]
    return pa.array(
        [None if is_gone else v for v, is_gone in zip(batch[name].to_pylist(), gone, strict=True)],
        batch[name].type,
    )
