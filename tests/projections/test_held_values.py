"""When values of properties are held, read again and forgotten."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from eventstore.log import DirectoryLog, MemoryLog
from eventstore.projections import Projections, held_values
from eventstore.projections.filter import PropertyField
from eventstore.projections.held_values import HeldPart, HeldValues
from eventstore.projections.limits import IndexLimits, Limits
from eventstore.projections.table_changes import SCHEMA
from tests.builders import append, draft

FIELD = PropertyField(True, "n", "int_value")


class _Tables:
    """Tables that count what is asked of them."""

    def __init__(self) -> None:
        self.folds = 0

    def fold(self, _: int) -> None:
        self.folds += 1

    def folded_position(self) -> int:
        return 3


@pytest.fixture
def values(monkeypatch: pytest.MonkeyPatch) -> tuple[HeldValues, _Tables, list[Any]]:
    read: list[Any] = []

    def part(key: Any, _: Any, after: int) -> HeldPart:
        read.append((key[1].name, after))
        return HeldPart([1, 1, 2, 4], memoryview(b"").cast("q")) if after else made

    ids = memoryview(bytearray(32)).cast("q")
    for place in range(4):
        ids[place] = place + 1
    made = HeldPart([1, 1, 2, 4], ids)
    monkeypatch.setattr(held_values, "_read_part", part)
    monkeypatch.setattr(held_values, "_count", lambda *_: 4)
    return HeldValues(MemoryLog()), _Tables(), read


def bearing(values: HeldValues, tables: Any, name: str = "n") -> Any:
    field = PropertyField(True, name, "int_value")
    values.note_use("artifact", field, [(2, 2)], tables)
    found = values.nodes_bearing("artifact", field, [(2, 2)])
    return None if found is None else [sorted(part) for part in found]


def test_values_are_held_from_the_third_question_on(values: Any) -> None:
    held, tables, read = values
    assert [bearing(held, tables) for _ in range(4)] == [None, None, [[], [3], []], [[], [3], []]]
    assert (read, tables.folds) == ([("n", 0)], 1)
    for span in ((2.0, 2.0), (None, 2.0), (2.0, None)):
        assert held.nodes_bearing("artifact", FIELD, [span]) is None
        held.note_use("artifact", FIELD, [span], tables)
    assert sum(held._uses.values()) == 4
    found = held.nodes_bearing("artifact", FIELD, [(1, 2), (2, None)])
    assert [[*ids] for ids in found] == [[], [1, 2, 3], [3, 4], [], []]


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [
        (None, None, 9),
        (None, -math.inf, 1),
        (-math.inf, 0.0, 3),
        (-0.0, -0.0, 2),
        (-1.0, 5e-324, 3),
        (5e-324, 1, 1),
        (2, 9, 1),
        (2.0**53, 2.0**53, 1),
        (2.0**53 + 2, None, 3),
        (1e308, math.inf, 1),
        (math.inf, None, 3),
        (9, 2, 0),
        (3, 2.5, 0),
    ],
)
def test_spans_of_doubles(first: float | None, last: float | None, found: int) -> None:
    inf, nan = math.inf, math.nan
    doubles = [-inf, -0.0, 0.0, 5e-324, 2.0, 2.0**53, inf, nan, nan]
    part = HeldPart(doubles, memoryview(array("q", range(9))))
    expected = [
        number
        for number, value in enumerate(doubles)
        if (first is None or not value < first) and (last is None or value <= last)
    ]
    assert [*part.ids_in((first, last))] == expected
    assert len(expected) == found


def test_integers_that_no_double_is_are_not_looked_for_among_doubles(values: Any) -> None:
    held, tables, read = values
    field = PropertyField(True, "n", "double_value")
    for value in (2**53 + 1, math.inf, math.nan):
        for _ in range(3):
            held.note_use("artifact", field, [(None, value)], tables)
        assert held.nodes_bearing("artifact", field, [(value, None)]) is None
    assert read == []
    for _ in range(3):
        held.note_use("artifact", field, [(2**53, 2**60)], tables)
    assert held.nodes_bearing("artifact", field, [(2**53, None)]) is not None


def test_what_was_not_noted_is_read_again(values: Any) -> None:
    held, tables, read = values
    for _ in range(3):
        bearing(held, tables)
    log = MemoryLog()
    held.note(append(log, draft(7), draft(5)))
    assert bearing(held, tables) == [[5, 7], [3], []]
    assert len(read) == 1
    held.forget()
    assert bearing(held, tables) == [[], [3], []]
    assert len(read) == 2
    held.note(append(log, draft(8)))
    assert bearing(held, tables)[0] == [8]


def test_forgetting_waits_for_who_reads(values: Any) -> None:
    held, *_ = values
    seen: list[bool] = []

    class Noting:
        def __enter__(self) -> None:
            seen.append(True)

        def __exit__(self, *_: object) -> None:
            return

    held._mutex = Noting()
    held.forget()
    assert seen == [True]


def test_uses_are_not_counted_for_ever(values: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    held, tables, _ = values
    monkeypatch.setattr(held_values, "_USES_MAX", 2)
    for name in ("a", "b", "c"):
        assert bearing(held, tables, name) is None
    assert len(held._uses) == 3
    assert bearing(held, tables, "a") is None
    assert dict(held._uses) == {("artifact", PropertyField(True, "a", "int_value")): 1}
    assert held._counts == {}


class _Asked:
    """Tables of one connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def folded_position(self) -> int:
        return 0

    def asked(self, ask: Callable[[duckdb.DuckDBPyConnection], Any], _: int) -> Any:
        return ask(self._connection.cursor())


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("int_value", "id * 7919 % 100 - 50"),
        ("double_value", "CASE id % 50 WHEN 0 THEN 'nan'::DOUBLE ELSE id * 7919 % 100 / 3 END"),
        ("string_value", "chr((id * 7919 % 100 + 60)::INTEGER)"),
    ],
)
def test_values_are_read_in_parts(monkeypatch: pytest.MonkeyPatch, member: str, value: str) -> None:
    monkeypatch.setattr(held_values, "_ROWS_READ", 2_048)
    key = "artifact", PropertyField(True, "n", member)
    with duckdb.connect() as connection:
        connection.execute(SCHEMA)
        tables: Any = _Asked(connection)
        assert [*held_values._read_part(key, tables, 0).node_ids] == []
        connection.execute(f"""
            INSERT INTO artifact_properties BY NAME
            SELECT id AS node_id, true AS is_custom, 'n' AS name, {value} AS {member},
                   5001 - id AS valid_from, 9999 AS valid_to FROM range(1, 5001) AS ids(id)
        """)
        found = connection.execute(f"SELECT {value}, id FROM range(1, 5001) AS ids(id)").fetchall()
        # What is not a number is the greatest.
        found.sort(key=lambda row: (row[0] != row[0], 0 if row[0] != row[0] else row[0], row[1]))
        for after in (0, 3_000):
            part = held_values._read_part(key, tables, after)
            expected = [row for row in found if 5001 - row[1] > after]
            assert [*part.node_ids] == [node_id for _, node_id in expected]
            assert str([*part.values]) == str([value for value, _ in expected])


def test_a_fold_of_what_was_sealed_forgets_values(tmp_path: Path) -> None:
    for records, is_noting in ((3, True), (4, False)):
        log = DirectoryLog.create(tmp_path / f"store-{records}")
        made = Projections(log, Limits(index=IndexLimits(tail_records_max=3)))
        held = made.planner._held
        held._is_noting = True
        for number in range(records):
            append(log, draft(number + 1))
        made.catch_up()
        assert held._is_noting is is_noting
        made.rebuild()
        assert not held._is_noting
        made.close()
        log.close()
