"""The newest level of the point index: what is not in a run yet, in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, groupby, repeat
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Final

from eventstore.log import Commit
from eventstore.log.kinds import KINDS
from eventstore.log.turns import give_turn
from eventstore.projections.index_entries import add_request_id, commit_entries
from eventstore.projections.index_tables import (
    TABLES,
    Entry,
    PendingEntries,
    add_entry,
    as_sequence,
    decode_id,
)

if TYPE_CHECKING:
    import pyarrow as pa

_POSITION, _VALUE = itemgetter(0), itemgetter(1)
_KIND, _ENTITY_ID = attrgetter("kind"), attrgetter("entity_id")
_ENTRIES_PER_TURN: Final = 2_048


class Tail:
    """The newest entries, in memory. One thread adds, any number read."""

    def __init__(
        self,
        last_position: int,
        last_recorded_at: int,
        highest_ids: Mapping[str, int],
        erasures_known: int = 0,
    ) -> None:
        self.first_position = last_position + 1
        self.last_position = last_position
        self.preceding_recorded_at = last_recorded_at
        self.last_recorded_at = last_recorded_at
        self.highest_ids = dict(highest_ids)
        self.erasures_known = erasures_known
        """The newest record of an erasure that the entries take account of."""
        self._tables: PendingEntries = {table: {} for table in TABLES}

    @property
    def records(self) -> int:
        return self.last_position - self.first_position + 1

    def add(self, commit: Commit, entries: PendingEntries | None) -> None:
        if entries is None:
            entries = commit_entries(commit)
        add_request_id(entries, commit)
        try:
            for table, by_key in entries.items():
                known = self._tables[table]
                if known.keys().isdisjoint(by_key):
                    known.update(by_key)
                    continue
                for key, added in by_key.items():
                    for entry in as_sequence(added):
                        add_entry(known, key, entry)
            highest = self.highest_ids
            for kind, records in groupby(commit.records, _KIND):
                sequence = KINDS[kind].sequence
                highest[sequence] = max(highest.get(sequence, 0), *map(_ENTITY_ID, records))
            self.last_recorded_at = commit.recorded_at
            # Last, so that a reader that sees the position also sees the entries.
            self.last_position = commit.last_position
        except BaseException:
            # An interrupt can come between any two steps, and the commit is to be folded again.
            self._take_back(entries)
            raise

    def _take_back(self, entries: PendingEntries) -> None:
        """Drop entries of commits that were not added whole."""
        for table, by_key in entries.items():
            if not by_key:
                continue
            known = self._tables[table]
            for key in by_key:
                kept = [e for e in as_sequence(known.get(key)) if e[0] <= self.last_position]
                if kept:
                    known[key] = kept
                else:
                    known.pop(key, None)

    def newest(self, table: int, key: int, as_of: int) -> Entry | None:
        found = self._tables[table].get(key)
        # Mostly nothing: nearly all entries are in runs.
        if found is not None:
            for entry in reversed(as_sequence(found)):
                if entry[0] <= as_of:
                    return entry
        return None

    def newest_of_each(self, table: int, keys: Sequence[int], as_of: int) -> dict[int, Entry]:
        by_key = self._tables[table]
        if not by_key:
            return {}
        found = {}
        for key in keys:
            if key in by_key and (entry := self.newest(table, key, as_of)) is not None:
                found[key] = entry
        return found

    def entries(self, table: int, key: int, as_of: int) -> Sequence[Entry]:
        found = as_sequence(self._tables[table].get(key))
        return [entry for entry in found if entry[0] <= as_of]

    def ids(self, table: int, key: int, as_of: int) -> Sequence[int]:
        found = self._tables[table].get(key)
        if found is None:
            return ()
        return [decode_id(value) for position, value in as_sequence(found) if position <= as_of]

    def values_of_each(self, table: int, keys: Sequence[int], as_of: int) -> dict[int, list[bytes]]:
        by_key = self._tables[table]
        if not by_key:
            return {}
        return {
            key: values
            for key in keys
            if key in by_key
            and (values := [value for at, value in as_sequence(by_key[key]) if at <= as_of])
        }

    def known_keys(self, table: int, keys: Collection[int]) -> set[int]:
        by_key = self._tables[table]
        return {key for key in keys if key in by_key}

    def keys(self, table: int, as_of: int) -> Iterator[int]:
        # A copy first: entries may be added meanwhile.
        known = list(self._tables[table].items())
        return iter(sorted(key for key, found in known if as_sequence(found)[0][0] <= as_of))

    def key_span(self, table: int, as_of: int) -> range | None:  # noqa: ARG002
        return None if self._tables[table] else range(0)

    def entry_count(self, table: int, as_of: int) -> int:
        by_key = list(self._tables[table].values())
        return sum(entry[0] <= as_of for found in by_key for entry in as_sequence(found))

    def entry_columns(self, table: int) -> tuple[pa.Array, pa.Array]:
        import pyarrow as pa

        from eventstore.log.arrow_values import array_of

        by_row = map(as_sequence, list(self._tables[table].values()))
        entries = [*chain.from_iterable(by_row)]
        positions = array_of([*map(_POSITION, entries)], pa.int64())
        return positions, array_of([*map(_VALUE, entries)], pa.large_binary())

    def tables(self) -> dict[int, pa.RecordBatch]:
        """All entries, as a run holds them."""
        from eventstore.log.columns import one_batch
        from eventstore.projections.run_batches import run_batch, sorted_batch

        batches = {}
        for table, by_key in self._tables.items():
            # Few steps of Python per entry, turn by turn, and Arrow sorts: others put meanwhile.
            keys, entries = [*by_key], [*by_key.values()]
            if list in {*map(type, entries)}:
                by_row = [*map(as_sequence, entries)]
                keys = [*chain.from_iterable(map(repeat, keys, map(len, by_row)))]
                entries = [*chain.from_iterable(by_row)]
            parts = []
            for start in range(0, len(entries), _ENTRIES_PER_TURN):
                some = entries[start : start + _ENTRIES_PER_TURN]
                positions, values = map(_POSITION, some), map(_VALUE, some)
                some_keys = keys[start : start + _ENTRIES_PER_TURN]
                parts.append(run_batch(some_keys, [*positions], [*values]))
                give_turn()
            if parts:
                batches[table] = sorted_batch(*one_batch(parts).columns)
        return batches
