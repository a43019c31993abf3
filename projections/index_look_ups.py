"""Look-ups by key in all levels of the point index, each as of any position."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import wraps
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from eventstore.errors import DataLossError
from eventstore.projections.index_tables import Entry
from eventstore.projections.limits import IndexLimits
from eventstore.projections.run_table import DamagedRunError

if TYPE_CHECKING:
    import pyarrow as pa

    from eventstore.log.kinds import NodeKind, TypeKind
    from eventstore.projections.erased_nodes import ErasedAnswers
    from eventstore.projections.index_tail import Tail
    from eventstore.projections.sorted_run import SortedRun

Level: TypeAlias = "SortedRun | Tail"
"""The entries of a stretch of positions."""


def lacking(kind: NodeKind | TypeKind, entity_id: int) -> DataLossError:
    """What is raised where the point index names an entity and does not have it."""
    return DataLossError(
        f"{kind.name.replace('_', ' ')} {entity_id} is named and not there: the point index and "
        "the log disagree; run `eventstore rebuild`"
    )


_Look = TypeVar("_Look", bound=Callable[..., Any])


def _repairing(look: _Look) -> _Look:
    """Let a look-up build a run again that it finds damaged, and look again."""

    @wraps(look)
    def looking(self: LevelLookUps, *arguments: Any) -> Any:
        while True:
            try:
                return look(self, *arguments)
            except DamagedRunError as error:
                self._repair(error)

    return cast(_Look, looking)


class LevelLookUps:
    """Finds what any level has; a run found damaged is built again first.

    What is erased is answered as erased, as of any position.
    """

    def __init__(self, levels: tuple[Level, ...], limits: IndexLimits) -> None:
        """`levels` are of consecutive positions, oldest first."""
        self._levels = levels
        self._limits = limits
        self._erased: ErasedAnswers | None = None
        """None as long as nothing is erased."""

    def _repair(self, error: DamagedRunError) -> None:
        """Put a sound run in place of a damaged one. Raises DataLossError when that is no use."""
        raise NotImplementedError

    def newest(self, table: int, key: int, as_of: int) -> Entry | None:
        """The (position, value) of the newest entry at or before `as_of`."""
        # Without the decorator, as in `entries` and `ids`: its call takes a good part of these.
        try:
            for level in reversed(self._levels):
                if level.first_position <= as_of:
                    found = level.newest(table, key, as_of)
                    if found is not None:
                        erased = self._erased
                        return found if erased is None else erased.entry(self, table, found)
        except DamagedRunError as error:
            self._repair(error)
            return self.newest(table, key, as_of)
        return None

    @_repairing
    def newest_stored(self, table: int, key: int, as_of: int) -> Entry | None:
        """What `newest` finds, as the levels have it, erased or not."""
        for level in reversed(self._levels):
            found = level.newest(table, key, as_of) if level.first_position <= as_of else None
            if found is not None:
                return found
        return None

    @_repairing
    def newest_of_each(self, table: int, keys: Sequence[int], as_of: int) -> dict[int, Entry]:
        """By key what `newest` returns, for those of `keys` that have an entry."""
        if len(keys) == 1:
            entry = self.newest(table, keys[0], as_of)
            return {} if entry is None else {keys[0]: entry}
        found: dict[int, Entry] = {}
        missing = keys
        for level in reversed(self._levels):
            if level.first_position <= as_of:
                found.update(level.newest_of_each(table, missing, as_of))
                if len(found) >= len(keys):
                    break
                if found:
                    missing = [key for key in keys if key not in found]
        erased = self._erased
        if erased is None:
            return found
        return {key: erased.entry(self, table, entry) for key, entry in found.items()}

    def entries(self, table: int, key: int, as_of: int) -> list[Entry]:
        """All (position, value) at or before `as_of`, oldest first."""
        found: list[Entry] = []
        try:
            for level in self._levels:
                if level.first_position > as_of:
                    break
                found += level.entries(table, key, as_of)
        except DamagedRunError as error:
            self._repair(error)
            return self.entries(table, key, as_of)
        erased = self._erased
        return found if erased is None else [erased.entry(self, table, entry) for entry in found]

    def ids(self, table: int, key: int, as_of: int) -> list[int]:
        """The values of what `entries` returns, of a table of ids."""
        found: list[int] = []
        try:
            for level in self._levels:
                if level.first_position > as_of:
                    break
                found += level.ids(table, key, as_of)
        except DamagedRunError as error:
            self._repair(error)
            return self.ids(table, key, as_of)
        return found

    @_repairing
    def values_of_each(self, table: int, keys: Sequence[int], as_of: int) -> dict[int, list[bytes]]:
        """By key the values of what `entries` returns, for those of `keys` that have any.

        For tables of links, of which nothing is erased.
        """
        found: dict[int, list[bytes]] = {}
        for level in self._levels:
            if level.first_position > as_of:
                break
            some = level.values_of_each(table, keys, as_of)
            if found:
                for key, values in some.items():
                    found.setdefault(key, []).extend(values)
            else:
                found = some
        return found

    @_repairing
    def known_keys(self, table: int, keys: Collection[int]) -> set[int]:
        """Those of `keys` under which anything was ever written."""
        found: set[int] = set()
        for level in self._levels:
            found |= level.known_keys(table, keys)
        return found

    @_repairing
    def keys(self, table: int, as_of: int) -> Iterator[int]:
        """The distinct keys that have an entry at or before `as_of`, ascending."""
        of_levels = [level.keys(table, as_of) for level in self._levels]
        return (key for key, _ in groupby(heapq.merge(*of_levels)))

    @_repairing
    def key_count(self, table: int, as_of: int) -> int:
        """How many keys `keys` gives, most of which need not be read for it."""
        spans: list[range] = []
        others: list[Iterator[int]] = []
        for level in self._levels:
            if level.first_position > as_of:
                break
            span = level.key_span(table, as_of)
            if span is None:
                others.append(level.keys(table, as_of))
            elif span and spans and spans[-1].start <= span.start <= spans[-1].stop:
                # As with ids, which are given out in order.
                spans[-1] = range(spans[-1].start, max(spans[-1].stop, span.stop))
            elif span:
                spans.append(span)
        if any(one.start < other.stop for other, one in pairwise(spans)):
            return sum(1 for _ in self.keys(table, as_of))
        beside = (key for key, _ in groupby(heapq.merge(*others)))
        return sum(map(len, spans)) + sum(not any(key in s for s in spans) for key in beside)

    @_repairing
    def entry_count(self, table: int, as_of: int) -> int:
        """How many entries there are at or before `as_of`."""
        return sum(
            level.entry_count(table, as_of)
            for level in self._levels
            if level.first_position <= as_of
        )

    def values_at(self, table: int, positions: pa.Array) -> Iterator[pa.Array]:
        """The values written at these positions (int64), of a table with one entry a record.

        The way to many of them: column by column, where `newest_of_each` goes key by key. In parts,
        so that one can be used and forgotten before the next is made.
        """
        from eventstore.projections.column_reads import TableColumns

        columns, start, length = None, 0, self._limits.read_values_max
        while start < len(positions):
            try:
                if columns is None:
                    columns = TableColumns(self._levels, table)
                some, erased = positions.slice(start, length), self._erased
                part = columns.values_at(some)
            except DamagedRunError as error:
                self._repair(error)
                columns = None
                continue
            if erased is None:
                yield from part.chunks
            else:
                yield erased.values(self, table, some, part.combine_chunks())
            start += length
