"""Which nodes bear, or bore, a value of a property: sorted columns in memory, made when asked for.

The tables answer `property = value` by a scan. A program that asks so asks again, so from the third
question about a property on its values are held sorted, as far as memory may be spent on them. They
lead to candidates, in every version; whether one matches, its version as of a position tells.
"""

from __future__ import annotations

import bisect
import math
import threading
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import pyarrow as pa

from eventstore.log import Commit, Log
from eventstore.projections.filter import PropertyField

if TYPE_CHECKING:
    from eventstore.projections.tables import Tables

USES_MIN: Final = 3
"""So often a property is asked for before its values are held."""

ROWS_MAX: Final = 4_194_304
"""So many values are held, of all properties together."""

TOUCHED_MAX: Final = 1_024
"""So many nodes may have changed since the values were read before they are read further."""

SORTED_MAX: Final = 16_384
"""So many nodes with a range of values are put in order before the tables are asked instead."""

_NOTED_MAX: Final = 65_536
_PARTS_MAX: Final = 8
_USES_MAX: Final = 1_024

_Key = tuple[str, PropertyField]


class _Part(NamedTuple):
    """Values in order and the ids of their nodes, by value and id."""

    values: Sequence[Any]
    node_ids: memoryview

    def ids_of(self, value: Any) -> memoryview:
        """The nodes with a value, ascending."""
        start = bisect.bisect_left(self.values, value)
        return self.node_ids[start : self._end(value, start)]

    def ids_beside(self, comparison: str, value: Any) -> memoryview:
        """The nodes with the values on one side of a value, and with that itself."""
        start = bisect.bisect_left(self.values, value)
        if comparison in (">", ">="):
            return self.node_ids[start:]
        return self.node_ids[: self._end(value, start)]

    def _end(self, value: Any, start: int) -> int:
        """Behind the last row with a value."""
        if isinstance(value, float):
            # To bisect_left what is not a number is the greatest, as in SQL; not to bisect_right.
            return bisect.bisect_left(self.values, math.nextafter(value, math.inf), start)
        return bisect.bisect_right(self.values, value, start)


class _Texts(Sequence[Any]):
    """A column of texts to bisect, without a Python object for each."""

    def __init__(self, column: pa.Array) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, row: Any) -> Any:
        return self._column[row].as_py()


class PropertyValues:
    """The held values of one log's properties. Safe to use from several threads."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._mutex = threading.Lock()
        self._uses: Counter[_Key] = Counter()
        self._parts: dict[_Key, list[_Part]] = {}
        self._too_many: set[_Key] = set()
        self._position = 0
        """Up to here all values are held; behind it the nodes in `_touched` have changed."""
        self._is_noting = False
        self._touched: list[tuple[str, int]] = []

    def note(self, commit: Commit) -> None:
        """Take notice of a commit, before any reader is shown its positions."""
        if self._is_noting:
            self._touched.extend((record.kind, record.entity_id) for record in commit.records)
            # Nobody has asked for long: what is held is read anew when somebody does.
            self._is_noting = len(self._touched) <= _NOTED_MAX

    def forget(self) -> None:
        """Hold nothing any more: commits have been folded that were not noted."""
        with self._mutex:
            self._is_noting = False

    def nodes_bearing(
        self,
        kind: str,
        field: PropertyField,
        comparison: str,
        wanted: Sequence[Any],
        tables: Tables,
    ) -> list[Sequence[int]] | None:
        """Sequences of ids, each ascending, that hold all nodes that bear or bore a wanted value.

        With another `comparison` than = they hold those that compare so with the one value. None
        when the values of the field are not held, or there are too many nodes. The nodes may have
        another value as of any position, and occur several times.
        """
        values = [_comparable(field.member, value) for value in wanted]
        if None in values:
            return None
        key = (kind, field)
        with self._mutex:
            parts = self._held(key, tables)
            if parts is None:
                return None
            touched = self._touched
        changed = sorted({node_id for changed_kind, node_id in touched if changed_kind == kind})
        if comparison == "=":
            return [changed, *(part.ids_of(value) for part in parts for value in values)]
        found = [part.ids_beside(comparison, values[0]) for part in parts]
        if sum(map(len, found)) > SORTED_MAX:
            return None
        return [changed, sorted({node_id for ids in found for node_id in ids})]

    def _held(self, key: _Key, tables: Tables) -> list[_Part] | None:
        if len(self._uses) > _USES_MAX:
            self._uses.clear()
        self._uses[key] += 1
        if self._uses[key] < USES_MIN or key in self._too_many:
            return None
        if not self._is_noting:
            self._start(tables)
        elif len(self._touched) > TOUCHED_MAX:
            self._read_further(tables)
        parts = self._parts.get(key)
        if parts is None:
            parts = self._read(key, tables)
        return parts

    def _start(self, tables: Tables) -> None:
        self._parts.clear()
        self._too_many.clear()
        self._touched = []
        # Before the fold, so that what is appended from here on is noted or read.
        self._is_noting = True
        self._position = self._folded(tables)

    def _read(self, key: _Key, tables: Tables) -> list[_Part] | None:
        part = _read_part(key, tables, 0)
        rows = len(part.values)
        while self._parts and rows + self._rows() > ROWS_MAX:
            # The one that is asked for least makes room.
            least = min(self._parts, key=self._uses.__getitem__)
            del self._parts[least]
            self._uses[least] = 0
        if rows > ROWS_MAX:
            self._too_many.add(key)
            return None
        self._parts[key] = [part]
        return self._parts[key]

    def _read_further(self, tables: Tables) -> None:
        """Read what has changed since, so that the nodes it has changed need not be looked at."""
        self._touched, position = [], self._position
        self._position = self._folded(tables)
        for key, parts in list(self._parts.items()):
            if len(parts) >= _PARTS_MAX or self._rows() > ROWS_MAX:
                del self._parts[key]
            else:
                # Not in place: another thread may be looking at it.
                self._parts[key] = [*parts, _read_part(key, tables, position)]

    def _folded(self, tables: Tables) -> int:
        """Fold the tables to the end of the log; how far they are folded then."""
        tables.fold(self._log.position)
        return tables.checkpoint()

    def _rows(self) -> int:
        return sum(len(part.values) for part in chain.from_iterable(self._parts.values()))


def _read_part(key: _Key, tables: Tables, after: int) -> _Part:
    """The values of versions behind a position."""
    kind, field = key
    found = tables.arrow(
        f"""
        SELECT {field.member} AS value, node_id
        FROM {kind}_properties
        WHERE name = $name AND is_custom = $is_custom AND {field.member} IS NOT NULL
          AND valid_from > $after
        ORDER BY value, node_id
        LIMIT $limit
        """,
        {
            "name": field.name,
            "is_custom": field.is_custom,
            "after": after,
            "limit": ROWS_MAX + 1,
        },
    )
    values, node_ids = (column.combine_chunks() for column in found.columns)
    return _Part(_sequence(values), _numbers(node_ids, "q"))


def _sequence(values: pa.Array) -> Sequence[Any]:
    if pa.types.is_int64(values.type):
        ints: Sequence[int] = _numbers(values, "q")
        return ints
    if pa.types.is_float64(values.type):
        doubles: Sequence[float] = _numbers(values, "d")
        return doubles
    return _Texts(values)


def _numbers(array: pa.Array, code: Literal["q", "d"]) -> Any:
    buffer = array.buffers()[1]
    numbers = memoryview(buffer if buffer is not None else b"").cast(code)
    return numbers[array.offset : array.offset + len(array)]


def _comparable(member: str, value: Any) -> Any:
    """The value as the column has it; None when equality is not that of the column's values."""
    if member == "double_value":
        return float(value) if math.isfinite(value) else None
    # An integer is compared with a double as a double, which many integers are equal to.
    return None if member == "int_value" and isinstance(value, float) else value
