"""One put in the making: it reads its own writes, and becomes one commit or nothing."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from eventstore.errors import ResourceExhaustedError
from eventstore.log.record import Draft
from eventstore.projections import Projections
from eventstore.projections.base_check import Base
from eventstore.projections.index_tables import (
    SEQUENCES,
    STORED_TABLES,
    TYPE_SEQUENCE,
    PendingEntries,
    add_entry,
    as_sequence,
    decode_id,
    index_entries,
    newest_entry,
    node_entries,
)
from eventstore.store.node_kinds import NodeKind
from eventstore.store.snapshot import Snapshot

_ID_MAX: Final = 2**63 - 1


class Transaction(Snapshot):
    """A snapshot at the log's position with the put's own drafts on top.

    Drafts take the positions after the snapshot's. That is safe to rely on: the log refuses the
    append when it is no longer at that position, and the put then runs again from the start.
    """

    def __init__(
        self,
        projections: Projections,
        position: int,
        *,
        clock: Callable[[], int] | None = None,
        last_ids: dict[str, int] | None = None,
    ) -> None:
        """`clock` tells the time of the put; `last_ids` are the last ids taken, where known."""
        super().__init__(projections, position)
        self.now_ms = clock or _now_ms
        self.drafts: list[Draft] = []
        self.pending: PendingEntries = defaultdict(dict)
        """What the drafts add to the point index."""
        self.bases: dict[int, Base] = {}
        """By position, what the drafts take content from."""
        self._absent: dict[int, set[int]] = {}
        self._found_nodes: dict[int, set[int]] = {}
        self._last_ids = dict(last_ids or {})

    def newest(self, table: int, key: int) -> tuple[int, bytes] | None:
        pending = self.pending[table].get(key)
        if pending is None:
            return self.index.newest(table, key, self.position)
        return newest_entry(pending)

    def newest_of_each(self, table: int, keys: Sequence[int]) -> dict[int, tuple[int, bytes]]:
        stored = super().newest_of_each(table, keys)
        pending = self.pending[table]
        return stored | {key: newest_entry(pending[key]) for key in keys if key in pending}

    def entries(self, table: int, key: int) -> list[tuple[int, bytes]]:
        stored = self.index.entries(table, key, self.position)
        pending = self.pending[table].get(key)
        return stored if pending is None else [*stored, *as_sequence(pending)]

    def ids(self, table: int, key: int) -> list[int]:
        stored = self.index.ids(table, key, self.position)
        pending = self.pending[table].get(key)
        if pending is None:
            return stored
        return [*stored, *(decode_id(value) for _, value in as_sequence(pending))]

    def type_payload(self, kind: NodeKind, type_id: int) -> bytes | None:
        found = self.newest(kind.types, type_id)
        if found is None:
            return None
        self._rely_on(kind.type_record_kind, type_id, *found)
        return found[1]

    def look_up(self, table: int, keys: Collection[int]) -> None:
        """Look up many keys at once, so that `may_be_known` can rule out what is not there."""
        self._absent[table] = set(keys) - self.index.known_keys(table, keys)

    def look_up_nodes(self, kind: NodeKind, node_ids: Collection[int]) -> None:
        """Look up many nodes at once, so that `exists` need not look up each of them."""
        # The index may know more than the snapshot only where a put is run again.
        if self.position == self.index.position:
            found = self.index.known_keys(kind.nodes, set(node_ids))
            self._found_nodes.setdefault(kind.nodes, set()).update(found)

    def exists(self, kind: NodeKind, node_id: int) -> bool:
        return node_id in self._found_nodes.get(kind.nodes, ()) or super().exists(kind, node_id)

    def may_be_known(self, table: int, key: int) -> bool:
        """False when nothing was ever written under `key`, nor by this put."""
        return key in self.pending[table] or key not in self._absent.get(table, ())

    def unknown_keys(self, table: int) -> Collection[int]:
        """Those of the keys looked up in `table` that nothing was stored under before this put."""
        return self._absent.get(table, ())

    def newest_is_stored(self, table: int, key: int) -> bool:
        """Whether the entry that `newest` returns was there before this put."""
        return key not in self.pending[table]

    def next_id(self, sequence: str) -> int:
        """Take the next id of a sequence: a node or link kind, or `type` for the three type kinds.

        Ids of a put that fails are not burned: the next put takes them again, as on SQLite.
        """
        return self.next_ids(sequence, 1)[0]

    def next_ids(self, sequence: str, count: int) -> range:
        """Take the next `count` ids of a sequence."""
        last = self._last_ids.get(sequence)
        if last is None:
            last = self.index.highest_id(sequence)
        if last + count > _ID_MAX:
            raise ResourceExhaustedError(
                f"no id is left for another {sequence.replace('_', ' ')}: {last} is taken, and "
                f"{_ID_MAX} is the highest"
            )
        self._last_ids[sequence] = last + count
        return range(last + 1, last + count + 1)

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
        self._rely_on_previous(draft)
        self._add(draft, index_entries(draft))
        if SEQUENCES[record_kind] == TYPE_SEQUENCE:
            self._types.clear()
            self._declared.clear()

    def write_node(self, record_kind: str, node: Any, *, previous: tuple[int, bytes]) -> None:
        """Add the draft of the post-image of a node that is stored already.

        `previous` is the version that it replaces, and was made from, as `newest` gave it.
        """
        payload = node.SerializeToString(deterministic=True)
        draft = Draft(record_kind, node.id, node.type_id, previous[0], payload)
        self._rely_on(record_kind, draft.entity_id, *previous)
        # Taken from the message at hand, so that it is not parsed again.
        self._add(draft, node_entries(record_kind, node, payload, is_first=False))

    def write_link(
        self, record_kind: str, payload: bytes, entries: list[tuple[int, int, bytes]]
    ) -> None:
        """Add the draft of a new link, with what it adds to the point index."""
        self._add(Draft(record_kind, self.next_id(record_kind), None, None, payload), entries)

    def _rely_on_previous(self, draft: Draft) -> None:
        """Note the version that a draft replaces, if it was stored before this put."""
        if draft.previous is not None and draft.previous <= self.position:
            table = STORED_TABLES[draft.kind]
            found = self.index.newest(table, draft.entity_id, self.position)
            # Any other version is one that the log does not have at that position.
            payload = found[1] if found is not None and found[0] == draft.previous else b""
            self._rely_on(draft.kind, draft.entity_id, draft.previous, payload)

    def _rely_on(self, kind: str, entity_id: int, position: int, payload: bytes) -> None:
        if position <= self.position:
            self.bases[position] = Base(position, kind, entity_id, payload)

    def _add(self, draft: Draft, entries: list[tuple[int, int, bytes]]) -> None:
        self.drafts.append(draft)
        position = self.position + len(self.drafts)
        for table, key, value in entries:
            add_entry(self.pending[table], key, (position, value))


def _now_ms() -> int:
    """The clock of node and event times: milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
