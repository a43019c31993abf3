"""What each kind of Python value is recorded as: nothing of it is lost, or it is refused."""

from __future__ import annotations

import array
import uuid
from collections import deque
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pytest
from google.protobuf import json_format

import eventstore
from eventstore import errors
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.recording.values import to_value


class _Color(Enum):
    RED = 1


class _Size(IntEnum):
    LARGE = 3


class _Kind(StrEnum):
    WIDE = "wide"


class _Rights(Flag):
    READ = 1
    WRITE = 2


_ID = uuid.UUID("12345678-1234-5678-1234-567812345678")

SCALARS = [
    (True, True),
    (np.bool_(True), True),
    (7, 7),
    (2**63 - 1, 2**63 - 1),
    (-(2**63), -(2**63)),
    (2**63, "9223372036854775808"),
    (np.int8(3), 3),
    (_Size.LARGE, 3),
    (0.1, 0.1),
    (np.float64(0.1), 0.1),
    (np.float32(0.5), 0.5),
    (Fraction(1, 4), 0.25),
    (Fraction(1, 3), "1/3"),
    (Fraction(10**400, 3), f"{10**400}/3"),
    (1 + 2j, "(1+2j)"),
    (np.complex128(1 + 2j), "(1+2j)"),
    (Decimal("0.10"), "0.10"),
    (Decimal("NaN"), "NaN"),
    ("text", "text"),
    (_Kind.WIDE, "wide"),
    (_Color.RED, "RED"),
    (_Rights.READ | _Rights.WRITE, "READ|WRITE"),
    ("\udc80", "\\udc80"),
    (PurePosixPath("/a/b"), "/a/b"),
    (date(2026, 11, 22), "2026-11-22"),
    (datetime(2026, 11, 22, 1, 2, 3, 4), "2026-11-22T01:02:03.000004"),
    (time(1, 2, 3, 4), "01:02:03.000004"),
    (pd.Timestamp("2026-11-22T00:00:00.000000001"), "2026-11-22T00:00:00.000000001"),
    (np.datetime64("2026-11-22"), "2026-11-22"),
    (np.datetime64("2026-11-22T00:00:00.000000001"), "2026-11-22T00:00:00.000000001"),
    (np.datetime64("20000-01-01"), "20000-01-01"),
    (timedelta(days=1, hours=2, minutes=3, seconds=4, microseconds=500_000), "P1DT2H3M4.5S"),
    (timedelta(microseconds=-1), "-P0DT0H0M0.000001S"),
    (timedelta.min, "-P999999999DT0H0M0S"),
    (pd.Timedelta(1, "ns"), "P0DT0H0M0.000000001S"),
    (np.timedelta64(1, "m"), "P0DT0H1M0S"),
    (np.timedelta64(5, "ns"), "5 nanoseconds"),
    (_ID, "12345678-1234-5678-1234-567812345678"),
]


@pytest.mark.parametrize(("value", "recorded"), SCALARS)
def test_a_scalar_loses_nothing(value: Any, recorded: Any) -> None:
    found = to_value("x", value)
    assert found is not None
    plain = getattr(found, str(found.WhichOneof("value")))
    assert (type(plain), plain) == (type(recorded), recorded)


@pytest.mark.parametrize(("value", "recorded"), SCALARS)
def test_a_scalar_in_a_list_loses_nothing(value: Any, recorded: Any) -> None:
    found = to_value("x", [value])
    assert found is not None
    (plain,) = found.struct_value["values"]
    if isinstance(recorded, int) and not isinstance(recorded, bool):
        recorded = float(recorded) if abs(recorded) <= 2**53 else str(recorded)
    assert (type(plain), plain) == (type(recorded), recorded)


def test_a_whole_number_of_many_digits_is_text() -> None:
    found = to_value("x", 10**5_000)
    assert found is not None
    assert found.string_value == "1" + "0" * 5_000


MISSING = [
    None,
    pd.NaT,
    pd.NA,
    np.datetime64("NaT"),
    np.datetime64("NaT", "ns"),
    np.timedelta64("NaT"),
    np.ma.masked,
]


@pytest.mark.parametrize("value", MISSING)
def test_what_stands_for_no_value_is_left_out(value: Any) -> None:
    assert to_value("x", value) is None
    found = to_value("x", {"a": value, "b": [value]})
    assert found is not None
    assert json_format.MessageToDict(found.struct_value) == {"a": None, "b": [None]}


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.ma.array([1, 2], mask=[False, True]), [1, None]),
        (np.array(["2026-11-22T00:00:00.000000001", "NaT"], dtype="M8[ns]"), None),
        (pd.Series(pd.to_datetime(["2026-11-22T00:00:00.000000001", None])), None),
        (array.array("i", [1, 2]), [1, 2]),
        (deque([1]), [1]),
        (range(2), [0, 1]),
        ({"a": 1}.keys(), ["a"]),
        ([2**53, 2**53 + 1, -(2**53) - 1], [2**53, "9007199254740993", "-9007199254740993"]),
    ],
)
def test_what_holds_values_is_a_list(value: Any, plain: Any) -> None:
    found = to_value("x", value)
    assert found is not None
    expected = ["2026-11-22T00:00:00.000000001", None] if plain is None else plain
    assert json_format.MessageToDict(found.struct_value) == {"values": expected}


@pytest.mark.parametrize(
    "value", [b"x", bytearray(b"x"), memoryview(b"x"), np.bytes_(b"x"), object(), print, type]
)
def test_bytes_and_objects_are_refused_alike_wherever_they_lie(value: Any) -> None:
    for lying in (value, [value], {"a": value}, {"a": [value]}, {_ID: [[value]]}):
        with pytest.raises(errors.InvalidArgumentError, match=r"'odd'.*cannot be recorded"):
            to_value("odd", lying)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({1: "a", "1": "b"}, "1 and '1'"),
        ({"in": [{True: 1, "True": 2}]}, "True and 'True'"),
        ({PurePosixPath("a"): 1, "a": 2}, r"PurePosixPath\('a'\) and 'a'"),
        ({"\udc80": 1, "\\udc80": 2}, "udc80"),
        ({None: 1}, "None"),
        ({pd.NaT: 1}, "NaT"),
        ({b"k": 1}, "b'k'"),
        ({(1, None): 1}, r"\(1, None\)"),
        ({object: 1}, "object"),
    ],
)
def test_keys_that_would_be_lost_are_refused(value: Any, named: str) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=f"'odd'.*{named}"):
        to_value("odd", value)


def test_keys_are_recorded_as_their_text() -> None:
    keys = [1, 2.5, True, "a", _Color.RED, _Kind.WIDE, date(2026, 11, 22), (1, "b"), np.int64(4)]
    found = to_value("x", dict.fromkeys(keys, 0))
    assert found is not None
    texts = {"1", "2.5", "a", "RED", "wide", "2026-11-22", "(1, 'b')", "4"}
    assert set(found.struct_value) == texts  # True equals 1


def _nested(depth: int, kind: str) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value} if kind == "mapping" else [value]
    return value


def _in_itself() -> Any:
    list_: list[Any] = [1]
    list_ += [list_, list_]
    mapping: dict[str, Any] = {}
    mapping["me"] = [mapping]
    return [list_, mapping]


@pytest.mark.parametrize(
    "value",
    [*_in_itself(), _nested(5_000, "list"), _nested(5_000, "mapping"), {"a": _in_itself()[0]}],
)
def test_what_is_too_deep_or_lies_in_itself_is_refused(
    store: eventstore.MetadataStore, value: Any
) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="nested too deep, or contains itself"):
        store.run("Trainer", odd=value).__enter__()
    assert not store.get_executions()


@pytest.mark.parametrize(("kind", "depth"), [("mapping", 32), ("list", 46)])
def test_what_the_store_takes_is_not_too_deep(
    store: eventstore.MetadataStore, kind: str, depth: int
) -> None:
    with store.run("Trainer", capture=False, deep=_nested(depth, kind)):
        pass
    for innermost in (1, [], {}):
        value: Any = innermost
        while to_value_or_none(value) is not None:
            with store.run("Trainer", capture=False, deep=value):
                pass
            value = {"a": value} if kind == "mapping" else [value]


def to_value_or_none(value: Any) -> Any:
    try:
        return to_value("x", value)
    except errors.InvalidArgumentError:
        return None


def test_large_whole_numbers_are_not_rounded(store: eventstore.MetadataStore) -> None:
    with store.run("Trainer", x=1.5, y=1.5, capture=False):
        pass
    with store.run("Trainer", x=2**53 + 1, y=2**53, capture=False) as run:
        model = run.output("Model", sizes={"a": 2**53 + 1})
    execution = run.execution
    assert "x" not in execution.properties
    assert execution.custom_properties["x"].int_value == 2**53 + 1
    assert execution.properties["y"].double_value == 2**53
    assert model.properties["sizes"].struct_value["a"] == "9007199254740993"


def test_an_odd_message_is_refused(store: eventstore.MetadataStore) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=r"'odd'.*Artifact"):
        store.run("Trainer", odd=[mlmd.Artifact()]).__enter__()
