"""One put in the making: it reads its own writes, and becomes one commit or nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from eventstore.errors import ResourceExhaustedError
from eventstore.log.kinds import EVENT, Kind, LinkKind, NodeKind
from eventstore.log.record import Draft, Position
from eventstore.projections import Projections
from eventstore.projections.base_check import Base
from eventstore.projections.index_entries import add_entries, add_event_entries
from eventstore.projections.index_tables import (
    TABLES_OF,
    PendingEntries,
    as_sequence,
    decode_id,
    newest_entry,
)
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store.snapshot import Snapshot
from eventstore.times import Milliseconds, now_in_milliseconds

_ID_MAX: Final = 2**63 - 1


class Transaction(Snapshot):
    """A snapshot at the log's position with the put's own drafts on top.

    Drafts take the positions after the snapshot's. That is safe to rely on: the log refuses the
    append when it is no longer at that position, and the put then runs again from the start.
    """

    def __init__(
        self,
        projections: Projections,
        position: Position,
        *,
        clock: Callable[[], Milliseconds] | None = None,
        last_ids: dict[str, int] | None = None,
    ) -> None:
        """`clock` tells the time of the put.

        `last_ids` are the last ids taken before it, of one that is run again.
        """
        super().__init__(projections, position)
        self.is_repetition = last_ids is not None
        self.now_ms = clock or now_in_milliseconds
        self.drafts: list[Draft] = []
        self.pending: PendingEntries = defaultdict(dict)
        """What the drafts add to the point index."""
        self.bases: dict[int, Base] = {}
        """By position, what the drafts take content from."""
        self._absent: dict[int, set[int]] = {}
        self._found: dict[int, set[int]] = defaultdict(set)
        self.last_ids = dict(last_ids or {})
        """The last id that was taken of each sequence."""

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
        return [*stored, *as_sequence(self.pending[table].get(key))]

    def ids(self, table: int, key: int) -> list[int]:
        stored = self.index.ids(table, key, self.position)
        pending = self.pending[table].get(key)
        if pending is None:
            return stored
        return [*stored, *(decode_id(value) for _, value in as_sequence(pending))]

    def newest_type(self, kind: NodeKind, type_id: int) -> tuple[int, bytes] | None:
        found = self.newest(TABLES_OF[kind.type].stored, type_id)
        if found is not None:
            self.rely_on(kind.type, type_id, found)
        return found

    def note_known(self, table: int, keys: Collection[int]) -> None:
        """Note which of many keys there are, so that `exists` and `may_be_known` find them."""
        wanted = set(keys)
        known = self._known_keys(table, wanted)
        self._absent[table] = wanted.difference(known)
        # The index may know more than the snapshot only where a put is run again.
        if self.position >= self.index.position:
            self._found[table].update(known)

    def _known_keys(self, table: int, keys: set[int]) -> Collection[int]:
        return self.index.known_keys(table, keys)

    def exists(self, kind: NodeKind, node_id: int) -> bool:
        return node_id in self._found[TABLES_OF[kind].stored] or super().exists(kind, node_id)

    def may_be_known(self, table: int, key: int) -> bool:
        """False when nothing was ever written under `key`, nor by this put."""
        return key in self.pending[table] or key not in self._absent.get(table, ())

    def absent_keys(self, table: int) -> Collection[int]:
        """Of the keys noted of `table`, those that nothing was stored under before this put."""
        return self._absent.get(table, ())

    def newest_is_stored(self, table: int, key: int) -> bool:
        """Whether the entry that `newest` returns was there before this put."""
        return key not in self.pending[table]

    def next_ids(self, sequence: str, count: int = 1) -> range:
        """Take the next ids of a sequence: a node or link kind, or `type` for all type kinds.

        Ids of a put that fails are not burned: the next put takes them again, as on SQLite.
        """
        last = self.last_ids.get(sequence)
        if last is None:
            last = self.index.highest_id(sequence)
        if last + count > _ID_MAX:
            raise ResourceExhaustedError(
                f"no id is left for another {sequence.replace('_', ' ')}: {last} is taken, and "
                f"{_ID_MAX} is the highest"
            )
        self.last_ids[sequence] = last + count
        return range(last + 1, last + count + 1)

    def write(self, kind: Kind, message: Any, *, previous: tuple[int, bytes] | None = None) -> None:
        """Add the draft of a type, node or link, and make it visible to the rest of the put.

        Links get their id here, the others have it. `previous` is the version that is replaced, and
        that the message was made from, as `newest` gave it.
        """
        payload = message.SerializeToString(deterministic=True)
        type_id = replaced = None
        if isinstance(kind, LinkKind):
            (entity_id,) = self.next_ids(kind.name)
        else:
            entity_id = message.id
            if isinstance(kind, NodeKind):
                type_id = message.type_id
            else:
                self._types.clear()
            if previous is not None:
                self.rely_on(kind, entity_id, previous)
                replaced = previous[0]
        self.drafts.append(Draft(kind.name, entity_id, type_id, replaced, payload))
        position = self.position + len(self.drafts)
        add_entries(self.pending, kind, message, payload, position, replaced is None)

    def write_event(self, event: mlmd.Event, artifact_id: int, execution_id: int, key: int) -> None:
        """`write` an event, of which the ids and the key are at hand."""
        payload = event.SerializeToString(deterministic=True)
        (entity_id,) = self.next_ids(EVENT.name)
        self.drafts.append(Draft(EVENT.name, entity_id, None, None, payload))
        position = self.position + len(self.drafts)
        add_event_entries(self.pending, payload, position, artifact_id, execution_id, key)

    def rely_on(self, kind: Kind, entity_id: int, version: tuple[int, bytes]) -> None:
        """Note a version that drafts take content from, if it was stored before this put."""
        position, payload = version
        if position <= self.position:
            self.bases[position] = Base(position, kind.name, entity_id, payload)
