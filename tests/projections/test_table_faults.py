"""What becomes of an error of DuckDB's, and of what it is thrown for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
import pyarrow as pa
import pytest

from eventstore import errors
from eventstore.log import DirectoryLog
from eventstore.projections import sql_check, sql_views, table_rows, tables_file, tables_folding
from eventstore.projections import tables as tables_module
from eventstore.projections.sql_sizes import SIZE_MAX, check_size
from eventstore.projections.tables import Tables
from tests.builders import append, draft

COUNT = "SELECT count(*) FROM artifacts"


@pytest.fixture
def log(tmp_path: Path) -> DirectoryLog:
    log = DirectoryLog.create(tmp_path / "store")
    append(log, *(draft(entity_id) for entity_id in range(1, 6)))
    return log


def path_of(log: DirectoryLog) -> Path:
    return log.directory / "projections" / "tables.duckdb"


@pytest.mark.parametrize(
    ("text", "kind", "is_damage"),
    [
        ("Corrupt database file: block 3", duckdb.Error, True),
        ("IO Error: could not read", duckdb.IOException, True),
        ("FATAL Error: x", duckdb.FatalException, True),
        ("INTERNAL Error: x", duckdb.InternalException, True),
        ("Serialization Error: x", duckdb.SerializationException, True),
        ("Out of Memory Error: x", duckdb.OutOfMemoryException, False),
        ("Conversion Error: x", duckdb.InvalidInputException, False),
        ("x IO Error", duckdb.InvalidInputException, False),
    ],
)
def test_an_error_in_arrows_words_is_duckdbs(
    text: str, kind: type[Exception], is_damage: bool
) -> None:
    found = tables_file.as_duckdb_error(pa.ArrowInvalid(text))
    assert (type(found), str(found)) == (kind, text)
    assert tables_file.as_duckdb_error(found) is found
    assert tables_file.is_damage(found) is is_damage


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
    found = sql_views._translated(error)
    assert type(found) is kind
    assert words in str(found)


def test_a_query_that_gives_no_rows_is_none() -> None:
    with pytest.raises(errors.InvalidArgumentError, match="this gives no rows"):
        sql_views._result(None)


def test_damage_that_stays_is_said_and_how_to_mend_it(log: DirectoryLog) -> None:
    tables = Tables(log, path_of(log))
    asked: list[int] = []

    def ask(cursor: duckdb.DuckDBPyConnection) -> Any:
        asked.append(1)
        raise duckdb.IOException("a block cannot be read")

    with pytest.raises(errors.InternalError, match="run `eventstore rebuild`"):
        tables.asked(ask, log.position)
    assert len(asked) == 2
    assert tables.query(COUNT, {}) == [(5,)]
    tables.close()


def test_damage_that_is_gone_with_new_tables_is_not_seen(log: DirectoryLog) -> None:
    tables = Tables(log, path_of(log))
    found = [duckdb.IOException("a block cannot be read")]

    def ask(cursor: duckdb.DuckDBPyConnection) -> Any:
        with cursor:
            if found:
                raise found.pop()
            return cursor.execute(COUNT).fetchall()

    assert tables.asked(ask, log.position) == [(5,)]
    tables.close()


@pytest.mark.parametrize("times", [1, 2])
def test_a_fold_that_fails_is_tried_once_more(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    tables = Tables(log, path_of(log))
    failing = [duckdb.IOException("a block cannot be read") for _ in range(times)]
    whole = tables_folding.apply_change

    def apply(*given: Any) -> None:
        if failing:
            raise failing.pop()
        whole(*given)

    monkeypatch.setattr(tables_module, "apply_change", apply)
    if times == 1:
        tables.fold(log.position)
    else:
        with pytest.raises(errors.InternalError, match="a block cannot be read"):
            tables.fold(log.position)
    # Nothing of what failed is in the tables.
    assert tables.query(COUNT, {}) == [(5,)]
    tables.close()


def test_a_fold_that_is_interrupted_leaves_no_half_of_it(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = Tables(log, path_of(log))
    whole = tables_folding.apply_change

    def apply(*given: Any) -> None:
        whole(*given)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(tables_module, "apply_change", apply)
    with pytest.raises(KeyboardInterrupt):
        tables.fold(log.position)
    assert tables.query(COUNT, {}) == [(0,)] or tables.query(COUNT, {}) == [(5,)]
    tables.fold(log.position)
    assert tables.query(COUNT, {}) == [(5,)]
    tables.close()


def test_tables_that_do_not_get_on_are_no_endless_loop(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = Tables(log, None)
    monkeypatch.setattr(tables, "_fold_in_transaction", lambda *_: False)
    with pytest.raises(errors.InternalError, match="stay at position 0: run `eventstore rebuild`"):
        tables.fold(log.position)


def test_what_is_current_is_not_told_while_somebody_folds(log: DirectoryLog) -> None:
    tables = Tables(log, None)
    tables.fold(log.position)
    assert tables._is_now(log.position)
    assert not tables._is_now(log.position - 1)
    tables_folding.folds.start()
    try:
        assert not tables._is_now(log.position)
    finally:
        tables_folding.folds.finish()
    assert tables._is_now(log.position)


def test_folds_are_counted_one_by_one() -> None:
    folds, seen = tables_folding.Folds(), list[bool]()

    class Noting:
        def __enter__(self) -> None:
            seen.append(True)

        def __exit__(self, *_: object) -> None:
            return

    folds._mutex = Noting()  # type: ignore[assignment]
    folds.start()
    folds.finish()
    assert (seen, folds.started, folds.finished) == ([True, True], 1, 1)


def test_where_duckdb_fails_on_what_it_knows_it_is_asked_without_that(log: DirectoryLog) -> None:
    tables = Tables(log, None)
    tables.fold(log.position)
    sql = "SELECT node.id FROM artifacts AS node JOIN artifacts AS b ON b.id = node.id ORDER BY 1"
    opaque = table_rows._opaque(sql)
    assert opaque.count("try(COLUMNS") == 2
    connection = tables._connection()
    wanted = connection.execute(sql).fetchall()
    assert connection.execute(opaque).fetchall() == wanted == [(n,) for n in range(1, 6)]
    for asked in (sql, connection.extract_statements(sql)[0]):
        cursor = mock.Mock()
        cursor.execute.side_effect = [
            duckdb.InvalidInputException(f"x {table_rows._FOLDING_FAULT} x"),
            mock.Mock(fetchall=lambda: [(1,)]),
        ]
        assert table_rows.all_rows(cursor, asked, {"a": 1}) == [(1,)]
        assert cursor.execute.call_args == mock.call(opaque, {"a": 1})
    cursor = mock.Mock()
    cursor.execute.side_effect = duckdb.InvalidInputException("another")
    with pytest.raises(errors.InvalidArgumentError, match="Invalid `filter_query`: another"):
        table_rows.all_rows(cursor, sql, {})
    assert cursor.execute.call_count == 1


@pytest.mark.parametrize("opening", [tables_file.open_tables, tables_file.open_tables_to_read])
def test_a_file_that_the_parent_has_open_is_left_to_it(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch, opening: Any
) -> None:
    tables_file.open_tables(log, path_of(log)).close()
    monkeypatch.setattr(tables_file, "_left_paths", {path_of(log).resolve()})
    opened = opening(log, path_of(log))
    assert opened.path is None
    opened.close()
    monkeypatch.setattr(tables_file, "_left_paths", set())
    opened = opening(log, path_of(log))
    assert opened.path == path_of(log).resolve()
    opened.close()


def test_tables_apart_that_cannot_be_made_leave_no_folder(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(*_: object) -> Any:
        raise duckdb.IOException("No space left on device")

    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setattr(tables_file, "IN_MEMORY_RECORDS_MAX", log.position - 1)
    monkeypatch.setattr(tables_file, "_created", refused)
    with pytest.raises(errors.ResourceExhaustedError, match=re.escape(str(folder))):
        tables_file.open_tables_apart(log)
    assert not [*folder.rglob("*.duckdb")]
    assert not [path for path in folder.iterdir() if path.is_dir()]


def test_short_logs_are_folded_in_memory(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables_file, "IN_MEMORY_RECORDS_MAX", log.position)
    opened = tables_file.open_tables_apart(log)
    assert opened.temporary is None
    opened.close()


def test_tables_are_closed_once_nobody_reads(log: DirectoryLog) -> None:
    opened = tables_file.open_tables(log, None)
    first, second = opened.keep(), opened.keep()
    with first as cursor:
        opened.close()
        assert cursor.execute("SELECT 1").fetchall() == [(1,)]
        with second as other:
            assert other.execute("SELECT 1").fetchall() == [(1,)]
        assert cursor.execute("SELECT 1").fetchall() == [(1,)]
    with pytest.raises(duckdb.ConnectionException):
        opened.connection.execute("SELECT 1")


# What a query may ask for


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
            monkeypatch.setattr("eventstore.projections.sql_sizes.SIZE_MAX", size)
            check_size(function, None)
            if size != float("inf"):
                monkeypatch.setattr(
                    "eventstore.projections.sql_sizes.SIZE_MAX", size - 0.5 - size / 99
                )
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
        sql_check.checked_query(cursor, "SELECT 1", ["nodes"])
