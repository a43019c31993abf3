"""What an update starts from, compared with the log: nothing from a cache alone enters the log."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from eventstore.log import Log

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS: Final = ["kind", "entity_id", "payload"]
_STRETCH_BYTES_MAX: Final = 8 * 1024 * 1024
_KNOWN_MAX: Final = 1_024
_KNOWN_BYTES_MAX: Final = 16_384


class Base(NamedTuple):
    """The version of an entity that a draft replaces, or takes content from."""

    position: int
    kind: str
    entity_id: int
    payload: bytes


class BaseCheck:
    """Tells whether the point index agrees with the log about a record.

    It keeps the last records that it found in the log, and the last stretches that it has read.
    Safe to use from several threads.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._mutex = threading.Lock()
        self._known: OrderedDict[int, Base] = OrderedDict()
        self._stretches: OrderedDict[int, pa.RecordBatch] = OrderedDict()
        self._stretch_bytes = 0

    def is_in_log(self, base: Base) -> bool:
        """Whether the log has this record at this position."""
        # Mostly a type, which every put asks about again.
        if self._known.get(base.position) == base:
            return True
        with self._mutex:
            is_there = self._record_at(base.position) == base
            if is_there and len(base.payload) <= _KNOWN_BYTES_MAX:
                self._known[base.position] = base
                if len(self._known) > _KNOWN_MAX:
                    self._known.popitem(last=False)
        return is_there

    def _record_at(self, position: int) -> Base | None:
        if not 1 <= position <= self._log.position:
            return None
        for first, batch in self._stretches.items():
            if first <= position < first + batch.num_rows:
                self._stretches.move_to_end(first)
                break
        else:
            first, end = self._log.stretch_of(position)
            # What is read together is one batch.
            (batch,) = self._log.scan(first - 1, end, _COLUMNS)
            self._keep(first, batch)
        return Base(position, *(batch[name][position - first].as_py() for name in _COLUMNS))

    def _keep(self, first: int, batch: pa.RecordBatch) -> None:
        size = batch.nbytes
        if batch.num_rows > 1 and size <= _STRETCH_BYTES_MAX:
            self._stretches[first] = batch
            self._stretch_bytes += size
            while self._stretch_bytes > _STRETCH_BYTES_MAX:
                _, oldest = self._stretches.popitem(last=False)
                self._stretch_bytes -= oldest.nbytes
