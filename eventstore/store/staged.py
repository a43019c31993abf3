"""A put that follows on others which are appended together with it: it sees their drafts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from eventstore.log.kinds import NodeKind
from eventstore.log.record import Position
from eventstore.projections import Projections
from eventstore.projections.index_tables import (
    PendingEntries,
    add_entry,
    as_sequence,
    decode_id,
    newest_entry,
)
from eventstore.store.transaction import Transaction


class Ahead:
    """The drafts of puts that are to be appended together, from a position of the log on."""

    def __init__(self, position: Position) -> None:
        self.position = position
        """Where the last of them will end."""
        self.pending: PendingEntries = defaultdict(dict)
        self.last_ids: dict[str, int] = {}

    def add(self, transaction: Transaction) -> None:
        """Let further puts see what a put has drafted, which nothing else is added to."""
        for table, by_key in transaction.pending.items():
            known = self.pending[table]
            for key, found in by_key.items():
                if key in known or type(found) is list:
                    # Into lists of its own: the put's are taken over by the point index.
                    for entry in as_sequence(found):
                        add_entry(known, key, entry)
                else:
                    known[key] = found
        self.last_ids.update(transaction.last_ids)
        self.position = Position(self.position + len(transaction.drafts))


class StagedTransaction(Transaction):
    """A transaction on top of what others have drafted."""

    def __init__(self, projections: Projections, ahead: Ahead) -> None:
        super().__init__(projections, ahead.position)
        self._ahead = ahead.pending
        self.last_ids.update(ahead.last_ids)

    def newest(self, table: int, key: int) -> tuple[int, bytes] | None:
        found = self.pending[table].get(key) or self._ahead[table].get(key)
        if found is None:
            return self.index.newest(table, key, self.position)
        return newest_entry(found)

    def newest_of_each(self, table: int, keys: Sequence[int]) -> dict[int, tuple[int, bytes]]:
        stored = self.index.newest_of_each(table, keys, self.position)
        for drafted in (self._ahead[table], self.pending[table]):
            stored |= {key: newest_entry(drafted[key]) for key in keys if key in drafted}
        return stored

    def entries(self, table: int, key: int) -> list[tuple[int, bytes]]:
        stored = self.index.entries(table, key, self.position)
        drafted = (self._ahead[table].get(key), self.pending[table].get(key))
        return [*stored, *as_sequence(drafted[0]), *as_sequence(drafted[1])]

    def ids(self, table: int, key: int) -> list[int]:
        stored = self.index.ids(table, key, self.position)
        for drafted in (self._ahead[table].get(key), self.pending[table].get(key)):
            if drafted is not None:
                stored = [*stored, *(decode_id(value) for _, value in as_sequence(drafted))]
        return stored

    def stored_type_id(self, kind: NodeKind, name: str, version: str | None) -> int | None:
        # Not remembered for others: what is drafted may not be kept.
        node_type = self.type_by_name(kind, name, version)
        return None if node_type is None else int(node_type.id)

    def _known_keys(self, table: int, keys: set[int]) -> Collection[int]:
        return self.index.known_keys(table, keys) | (keys & self._ahead[table].keys())
