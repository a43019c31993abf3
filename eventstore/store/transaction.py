"""One put in the making: it reads its own writes, and becomes one commit or nothing."""

from __future__ import annotations

import time

from eventstore.log.record import Draft
from eventstore.projections import Projections
from eventstore.projections.index_tables import index_entries
from eventstore.store.snapshot import Snapshot


class Transaction(Snapshot):
    """A snapshot at the log's position with the put's own drafts on top.

    Drafts take the positions after the snapshot's. That is safe to rely on: the log refuses the
    append when it is no longer at that position, and the put then runs again from the start.
    """

    def __init__(self, projections: Projections, position: int) -> None:
        super().__init__(projections, position)
        self.drafts: list[Draft] = []
        self._pending: dict[tuple[int, int], list[tuple[int, bytes]]] = {}
        self._last_ids: dict[str, int] = {}

    def newest(self, table: int, key: int) -> tuple[int, bytes] | None:
        pending = self._pending.get((table, key))
        return pending[-1] if pending else super().newest(table, key)

    def entries(self, table: int, key: int) -> list[tuple[int, bytes]]:
        pending = self._pending.get((table, key))
        return super().entries(table, key) + pending if pending else super().entries(table, key)

    def newest_is_stored(self, table: int, key: int) -> bool:
        """Whether what `newest` answers was there before this put."""
        return (table, key) not in self._pending

    def next_id(self, sequence: str) -> int:
        """Take the next id of a sequence: a node or link kind, or `type` for the three type kinds.

        Ids of a put that fails are not burned: the next put takes them again, as on SQLite.
        """
        last = self._last_ids.get(sequence)
        if last is None:
            last = self._index.highest_id(sequence)
        self._last_ids[sequence] = last + 1
        return last + 1

    def write(
        self,
        record_kind: str,
        entity_id: int,
        payload: bytes,
        *,
        type_id: int | None = None,
        previous: int | None = None,
    ) -> None:
        """Add one draft and make it visible to the rest of the put."""
        draft = Draft(record_kind, entity_id, type_id, previous, payload)
        self.drafts.append(draft)
        position = self.position + len(self.drafts)
        for table, key, value in index_entries(draft):
            self._pending.setdefault((table, key), []).append((position, value))


def now_ms() -> int:
    """The clock of node and event times: milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
