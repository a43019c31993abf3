"""What an update starts from, compared with the log: nothing from a cache alone enters the log."""

from __future__ import annotations

import secrets
import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import pyarrow as pa
from xxhash import xxh3_64_intdigest

from eventstore.log import Log

_STRETCH_RECORDS: Final = 16_384
"""A sealed segment is read in row groups of so many records, and kept as digests of them."""

_STRETCHES_MAX: Final = 64
_KNOWN_MAX: Final = 65_536
_COLUMNS: Final = ["position", "kind", "entity_id", "payload"]


class Base(NamedTuple):
    """The version of an entity that a draft replaces, or takes content from."""

    position: int
    kind: str
    entity_id: int
    payload: bytes


class BaseCheck:
    """Tells whether what the point index says of a record is what the log has.

    Of what it has read it keeps a digest of eight bytes a record, with a seed that nobody knows.
    Safe to use from several threads.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._seed = secrets.randbits(64)
        self._mutex = threading.Lock()
        self._known: OrderedDict[int, int] = OrderedDict()
        self._stretches: OrderedDict[int, array[int]] = OrderedDict()

    def is_in_log(self, base: Base) -> bool:
        """Whether the log has this record at this position."""
        position, kind, entity_id, payload = base
        known = self._known.get(position)
        if known is None:
            known = self._digest_at(position)
        return known == self._digest(kind, entity_id, payload)

    def _digest_at(self, position: int) -> int | None:
        with self._mutex:
            found = self._read_at(position)
            if len(self._known) >= _KNOWN_MAX:
                self._known.popitem(last=False)
            if found is not None:
                self._known[position] = found
            return found

    def _read_at(self, position: int) -> int | None:
        for start, digests in self._stretches.items():
            if start <= position < start + len(digests):
                self._stretches.move_to_end(start)
                return digests[position - start]
        sealed = [segment for segment in self._log.segments() if segment.state == "sealed"]
        for segment in sealed:
            if segment.first_position <= position <= segment.last_position:
                row = position - segment.first_position
                start = position - row % _STRETCH_RECORDS
                end = min(start + _STRETCH_RECORDS - 1, segment.last_position)
                if len(self._stretches) >= _STRETCHES_MAX:
                    self._stretches.popitem(last=False)
                digests = self._stretches[start] = self._read(start, end)
                return digests[position - start]
        digests = self._read(position, position)
        return digests[0] if digests else None

    def _read(self, first: int, last: int) -> array[int]:
        digests = array("Q")
        for batch in self._log.scan(first - 1, last, _COLUMNS):
            digests.extend(map(self._digest, *_columns(batch)))
        return digests

    def _digest(self, kind: str, entity_id: int, payload: bytes | None) -> int:
        return xxh3_64_intdigest(
            b"%b/%d/%b" % (kind.encode(), entity_id, payload or b""), self._seed
        )


def _columns(batch: pa.RecordBatch) -> Iterable[list[Any]]:
    return (batch[name].to_pylist() for name in _COLUMNS[1:])
