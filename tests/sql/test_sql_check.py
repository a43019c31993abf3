"""What a query is refused for, piece by piece, and what it fails with."""

from __future__ import annotations

from typing import Any
from unittest import mock

import duckdb
import pyarrow as pa
import pytest

from eventstore import errors
from eventstore.sql import check, views
from eventstore.sql.sizes import SIZE_MAX, check_size


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (RuntimeError("Query interrupted"), KeyboardInterrupt, ""),
        (RuntimeError("Other"), errors.InvalidArgumentError, "the query fails: Other"),
        (duckdb.InterruptException("x"), errors.CancelledError, "was interrupted"),
        (pa.ArrowInvalid("INTERRUPT Error: x"), errors.CancelledError, "was interrupted"),
        (duckdb.OutOfMemoryException("x"), errors.ResourceExhaustedError, "more memory"),
        (pa.ArrowInvalid("Out of Memory Error: x"), errors.ResourceExhaustedError, "memory"),
        (pa.ArrowInvalid("IO Error: x"), duckdb.IOException, "IO Error: x"),
        (duckdb.Error("x"), duckdb.Error, "x"),
        (duckdb.ConversionException("x"), errors.InvalidArgumentError, "query fails: x"),
    ],
)
def test_what_a_users_query_fails_with(
    error: Exception, kind: type[BaseException], words: str
) -> None:
    found = views._translated(error)
    assert type(found) is kind
    assert words in str(found)


def test_a_query_that_gives_no_rows_is_none() -> None:
    with pytest.raises(errors.InvalidArgumentError, match="this gives no rows"):
        views._result(None, lambda reader: reader.read_all(), 1)


def call(name: str, *arguments: Any, named: bool) -> dict[str, Any]:
    found = [
        argument
        if isinstance(argument, dict)
        else {"class": "CONSTANT", "value": {"value": argument}}
        for argument in arguments
    ]
    function: dict[str, Any] = {"class": "FUNCTION", "function_name": name}
    if named:
        return function | {"arguments": [{"expression": argument} for argument in found]}
    return function | {"children": found}


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    ("name", "arguments", "is_too_large"),
    [
        ("repeat", ("a", SIZE_MAX), False),
        ("repeat", ("a", SIZE_MAX + 1), True),
        ("REPEAT", ("ab", SIZE_MAX // 2 + 1), True),
        ("repeat", (7, SIZE_MAX), False),
        ("repeat", ("a", None), False),
        ("repeat", ("a", "x"), False),
        ("repeat", ("a",), False),
        ("lpad", ("a", SIZE_MAX + 1, "b"), True),
        ("lpad", ("a", 5, SIZE_MAX + 1), False),
        ("list_resize", ([], SIZE_MAX + 1), True),
        ("range", (SIZE_MAX,), False),
        ("range", (SIZE_MAX + 1,), True),
        ("range", (1, SIZE_MAX + 1), False),
        ("range", (1, SIZE_MAX + 2), True),
        ("range", (0, 2 * SIZE_MAX, 2), False),
        ("generate_series", (0, 2 * SIZE_MAX + 2, 2), True),
        ("range", (0, SIZE_MAX * 9, 0), False),
        ("range", (0, None), False),
        ("range", (), False),
        ("range", (1, 2, 3, 4), False),
        ("format", ("{:99999}",), False),
        ("format", ("{:100000001}",), True),
        ("printf", ("%100000000d", 1), False),
        ("printf", ("%100000001d", 1), True),
        ("printf", (5,), False),
        ("printf", (), False),
        ("lower", (SIZE_MAX * 9,), False),
    ],
)
def test_sizes_out_of_all_proportion(
    named: bool, name: str, arguments: tuple[Any, ...], is_too_large: bool
) -> None:
    function = call(name, *arguments, named=named)
    if is_too_large:
        with pytest.raises(errors.InvalidArgumentError, match=f"{name.lower()} would make a value"):
            check_size(function, None)
    else:
        check_size(function, None)


@pytest.mark.parametrize(
    ("operator", "left", "right", "size"),
    [
        ("+", 7, 3, 10),
        ("-", 7, 3, 4),
        ("*", 7, 3, 21),
        ("/", 7, 2, 3.5),
        ("/", 7, 0, 0),
        ("//", 7, 2, 3),
        ("//", 7, 0, 0),
        ("^", 2, 5, 32),
        ("**", -2, 5, 32),
        ("pow", 2, 5, 32),
        ("power", 2, -5, 1),
        ("<<", 3, 4, 48),
        ("pow", 2, 1e9, 2**64),
        ("pow", 1e300, 2, float("inf")),
        ("%", 7, 3, None),
        ("+", 7, None, None),
        ("+", None, 7, None),
    ],
)
def test_sizes_that_are_computed(
    monkeypatch: pytest.MonkeyPatch, operator: str, left: Any, right: Any, size: float | None
) -> None:
    for named in (True, False):
        inner = call(operator, left, right, named=named)
        wrapped = {"class": "CAST", "child": inner}
        for argument in (inner, wrapped):
            function = call("range", argument, named=named)
            if size is None:
                check_size(function, None)
                continue
            monkeypatch.setattr("eventstore.sql.sizes.SIZE_MAX", size)
            check_size(function, None)
            if size != float("inf"):
                monkeypatch.setattr("eventstore.sql.sizes.SIZE_MAX", size - 0.5 - size / 99)
                with pytest.raises(errors.InvalidArgumentError):
                    check_size(function, None)
    check_size(call("range", call("+", 1, named=True), named=True), None)


@pytest.mark.parametrize(
    ("parameters", "identifier", "is_too_large"),
    [
        ([1, SIZE_MAX + 1], "2", True),
        ([SIZE_MAX + 1, 1], "2", False),
        ([SIZE_MAX + 1], "1", True),
        ([SIZE_MAX + 1], "2", False),
        ([SIZE_MAX + 1], "n", False),
        ({"n": SIZE_MAX + 1}, "n", True),
        ({"n": SIZE_MAX + 1}, "m", False),
        (None, "1", False),
    ],
)
def test_sizes_that_are_parameters(parameters: Any, identifier: str, is_too_large: bool) -> None:
    function = call("range", {"class": "PARAMETER", "identifier": identifier}, named=True)
    if is_too_large:
        with pytest.raises(errors.InvalidArgumentError):
            check_size(function, parameters)
    else:
        check_size(function, parameters)


def test_a_query_too_deep_for_its_tree_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("json.loads", mock.Mock(side_effect=RecursionError))
    with (
        duckdb.connect() as cursor,
        pytest.raises(errors.InvalidArgumentError, match="nested too deeply: split it"),
    ):
        check.checked_query(cursor, "SELECT 1", ["nodes"])
