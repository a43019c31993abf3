"""Values of properties held in order, in memory, once they are asked for repeatedly.

The tables answer `property = value` or `property > value` by a scan. A program that asks once asks
again. So from the third question about a property on, its values are held sorted, as far as memory
may be spent on them. They lead to candidates in any version; the version as of a position tells
whether one matches.
"""

from __future__ import annotations

import bisect
import math
import threading
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from eventstore.log import Commit, Log

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from eventstore.projections.filter import PropertyField
    from eventstore.projections.filter.filter_sql import Span
    from eventstore.projections.tables import Tables

USES_MIN: Final = 3
"""How often a property is asked for before its values are held."""

ROWS_MAX: Final = 6_291_456
"""How many values are held, of all properties: about 100 MB, or more for texts."""

TOUCHED_MAX: Final = 256
"""How many nodes may change after the values were read before the new values are read, too."""

_ROWS_READ: Final = 131_072
_NUMBERS: Final = {"int_value": "q", "double_value": "d"}

_NOTED_MAX: Final = 65_536
_USES_MAX: Final = 1_024
_USES_RATIO: Final = 2
_NEW_SHARE_MAX: Final = 0.25
"""When a larger part of the values is new, all of them are read again."""

_Key: TypeAlias = "tuple[str, PropertyField]"
"""A node kind and a property."""


class HeldPart(NamedTuple):
    """Values in order and the ids of their nodes, by value and id."""

    values: Sequence[Any]
    node_ids: memoryview

    def ids_in(self, span: Span) -> memoryview:
        """The nodes with a value from the first to the last; ascending where it is one value."""
        first, last = span
        start = 0 if first is None else bisect.bisect_left(self.values, first)
        # What is not a number is the greatest, as in SQL; to Python it is not less than anything.
        end = bisect.bisect_left(
            self.values, True, start, key=lambda value: last is not None and not value <= last
        )
        return self.node_ids[start:end]


_NOTHING: Final = HeldPart((), memoryview(b"").cast("q"))


class _Held(NamedTuple):
    """The values of versions up to a position, and those after it."""

    old: HeldPart
    old_position: int
    new: HeldPart

    @property
    def rows(self) -> int:
        return len(self.old.values) + len(self.new.values)


class _Texts(Sequence[Any]):
    """A column of texts to bisect, without a Python object for each."""

    def __init__(self, column: pa.Array) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, row: Any) -> Any:
        return self._column[row].as_py()


class HeldValues:
    """The held values of one log's nodes. Safe to use from several threads."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._mutex = threading.Lock()
        self._uses: Counter[_Key] = Counter()
        self._held: dict[_Key, _Held] = {}
        self._counts: dict[_Key, int] = {}
        self._is_noting = False
        self._touched: list[tuple[str, int]] = []
        """The nodes that have changed since the values were read."""

    def note(self, commit: Commit) -> None:
        """Take notice of a commit before any reader is shown its positions."""
        if self._is_noting:
            self._touched.extend((record.kind, record.entity_id) for record in commit.records)
            if len(self._touched) > _NOTED_MAX:
                # Nobody has asked for a long time: all is read again when somebody does.
                self._is_noting = False

    def forget(self) -> None:
        """Hold nothing any more: commits that were not noted have been folded."""
        with self._mutex:
            self._is_noting = False
            self._held.clear()

    def note_use(
        self, kind: str, field: PropertyField, wanted: Sequence[Span], tables: Tables
    ) -> None:
        """Hold the values of a property from now on, if they were asked for repeatedly."""
        if not _are_comparable(field.member, wanted):
            return
        key = kind, field
        with self._mutex:
            if len(self._uses) > _USES_MAX:
                self._uses.clear()
                self._counts.clear()
            self._uses[key] += 1
            if self._uses[key] >= USES_MIN:
                try:
                    self._hold(key, tables)
                except BaseException:
                    # An interrupt can come between any two steps: all is read again.
                    self._is_noting = False
                    raise

    def nodes_bearing(
        self, kind: str, field: PropertyField, wanted: Sequence[Span]
    ) -> list[Sequence[int]] | None:
        """Sequences of ids that hold all nodes that bear or bore a wanted value.

        They are ascending if the spans are single values. The nodes may have another value as of
        any position, and occur several times. None when the property's values are not held.
        """
        if not _are_comparable(field.member, wanted):
            return None
        with self._mutex:
            held = self._held.get((kind, field)) if self._is_noting else None
            if held is None:
                return None
            touched = self._touched
        changed = sorted({node_id for changed_kind, node_id in touched if changed_kind == kind})
        found = [part.ids_in(span) for part in (held.old, held.new) for span in wanted]
        return [changed, *found]

    def _hold(self, key: _Key, tables: Tables) -> None:
        if not self._is_noting:
            self._held.clear()
            self._counts.clear()
            self._touched = []
            # Before the fold, so that what is appended from here on is noted or read.
            self._is_noting = True
            tables.fold(self._log.position)
        elif len(self._touched) > TOUCHED_MAX:
            self._read_further(tables)
        if key not in self._held and self._has_room(key, tables):
            position = tables.folded_position()
            self._held[key] = _Held(_read_part(key, tables, 0), position, _NOTHING)

    def _has_room(self, key: _Key, tables: Tables) -> bool:
        """Whether the values may be held; others that are asked for far less often give way."""
        if key not in self._counts:
            self._counts[key] = _count(key, tables)
        room = ROWS_MAX - self._counts[key] - sum(held.rows for held in self._held.values())
        given_up: list[_Key] = []
        for other in sorted(self._held, key=self._uses.__getitem__):
            # Otherwise two that are asked for in turn would be read again and again.
            if room >= 0 or self._uses[key] <= _USES_RATIO * self._uses[other]:
                break
            room += self._held[other].rows
            given_up.append(other)
        if room < 0:
            return False
        for other in given_up:
            del self._held[other]
        return True

    def _read_further(self, tables: Tables) -> None:
        """Read what has changed since, so that the nodes it has changed need not be looked at."""
        self._touched = []
        tables.fold(self._log.position)
        for key, held in list(self._held.items()):
            new = _read_part(key, tables, held.old_position)
            if len(new.values) > _NEW_SHARE_MAX * len(held.old.values):
                del self._held[key]
            else:
                self._held[key] = held._replace(new=new)


def _source(key: _Key) -> tuple[str, dict[str, Any]]:
    """The table with a condition, and its parameters."""
    # Not at the top: a process that scans nothing needs no Arrow.
    from eventstore.projections.table_changes import NODE_TABLES

    kind, field = key
    _, properties = NODE_TABLES[kind]
    condition = f"name = $name AND is_custom = $is_custom AND {field.member} IS NOT NULL"
    parameters = {"name": field.name, "is_custom": field.is_custom}
    return f"{properties} WHERE {condition}", parameters


def _count(key: _Key, tables: Tables) -> int:
    """How many values of all versions there are."""
    source, parameters = _source(key)
    count: int = tables.query(f"SELECT count(*) FROM {source}", parameters)[0][0]
    return count


def _read_part(key: _Key, tables: Tables, after: int) -> HeldPart:
    """The values of versions after a position."""
    source, parameters = _source(key)
    member = key[1].member
    sql = f"""
        SELECT {member}, node_id
        FROM {source} AND valid_from > $after
        ORDER BY {member}, node_id
    """

    def read(cursor: duckdb.DuckDBPyConnection) -> HeldPart:
        import pyarrow as pa

        values, node_ids = array(_NUMBERS.get(member, "q")), array("q")
        texts: list[pa.Array] = []
        # In parts: a table of all would be in memory besides until it is copied.
        found = cursor.sql(sql, params=parameters | {"after": after})
        for batch in filter(len, found.to_arrow_reader(_ROWS_READ)):
            if member in _NUMBERS:
                values.frombytes(_eight_bytes_each(batch.column(0)))
            else:
                texts.append(batch.column(0))
            node_ids.frombytes(_eight_bytes_each(batch.column(1)))
        held = memoryview(values) if not texts else _Texts(pa.concat_arrays(texts))
        return HeldPart(held, memoryview(node_ids))

    return tables.asked(read, tables.folded_position())


def _eight_bytes_each(column: pa.Array) -> memoryview:
    """The bytes of int64s or doubles, none of which is null."""
    numbers = memoryview(column.buffers()[1]).cast("B")
    return numbers[8 * column.offset : 8 * (column.offset + len(column))]


def _are_comparable(member: str, wanted: Sequence[Span]) -> bool:
    """Whether Python compares values with the column's as SQL does."""
    values = [value for span in wanted for value in span if value is not None]
    # An integer is compared with a double as a double, which many integers are equal to.
    if member == "double_value":
        return all(math.isfinite(value) and value == float(value) for value in values)
    return member != "int_value" or not any(isinstance(value, float) for value in values)
