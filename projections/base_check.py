"""What an update starts from, compared with the log: nothing from a cache alone enters the log."""

from __future__ import annotations

import os
import threading
from array import array
from collections import OrderedDict
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

from eventstore.log import Log

_STRETCHES_MAX: Final = 64
_KNOWN_MAX: Final = 1_024
_KNOWN_BYTES_MAX: Final = 16_384
_COLUMNS: Final = ["position", "kind", "entity_id", "payload"]


class Base(NamedTuple):
    """The version of an entity that a draft replaces, or takes content from."""

    position: int
    kind: str
    entity_id: int
    payload: bytes


class BaseCheck:
    """Tells whether the point index agrees with the log about a record.

    It keeps the last records that it found in the log. For stretches that it has read it keeps a
    digest of eight bytes per record, with a seed that nobody knows. Safe to use from several
    threads.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._seed = int.from_bytes(os.urandom(8))
        self._mutex = threading.Lock()
        self._known: OrderedDict[int, Base] = OrderedDict()
        self._stretches: OrderedDict[int, array[int]] = OrderedDict()

    def is_in_log(self, base: Base) -> bool:
        """Whether the log has this record at this position."""
        # Mostly a type, which every put asks about again.
        if self._known.get(base.position) == base:
            return True
        position, kind, entity_id, payload = base
        with self._mutex:
            is_there = self._digest_at(position) == self._digest(kind, entity_id, payload)
            if is_there and len(payload) <= _KNOWN_BYTES_MAX:
                self._known[position] = base
                if len(self._known) > _KNOWN_MAX:
                    self._known.popitem(last=False)
        return is_there

    def _digest_at(self, position: int) -> int | None:
        for start, digests in self._stretches.items():
            if start <= position < start + len(digests):
                self._stretches.move_to_end(start)
                return digests[position - start]
        start, end = self._log.stretch_of(position)
        digests = array("Q")
        for batch in self._log.scan(start - 1, end, _COLUMNS):
            digests.extend(map(self._digest, *(batch[name].to_pylist() for name in _COLUMNS[1:])))
        if start < end:
            if len(self._stretches) >= _STRETCHES_MAX:
                self._stretches.popitem(last=False)
            self._stretches[start] = digests
        return digests[position - start] if digests else None

    def _digest(self, kind: str, entity_id: int, payload: bytes | None) -> int:
        return xxh3_64_intdigest(
            b"%b/%d/%b" % (kind.encode(), entity_id, payload or b""), self._seed
        )
