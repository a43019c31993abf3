"""When values of properties are held, read again and forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eventstore.log import DirectoryLog, MemoryLog
from eventstore.projections import Projections, held_values
from eventstore.projections.filter import PropertyField
from eventstore.projections.held_values import HeldPart, HeldValues
from eventstore.projections.limits import IndexLimits, Limits
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
    values.note_use("artifact", field, [2], tables)
    found = values.nodes_bearing("artifact", field, [2])
    return None if found is None else [sorted(part) for part in found]


def test_values_are_held_from_the_third_question_on(values: Any) -> None:
    held, tables, read = values
    assert [bearing(held, tables) for _ in range(4)] == [None, None, [[], [3], []], [[], [3], []]]
    assert (read, tables.folds) == ([("n", 0)], 1)
    assert held.nodes_bearing("artifact", FIELD, [2.0]) is None
    held.note_use("artifact", FIELD, [2.0], tables)
    assert sum(held._uses.values()) == 4


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
