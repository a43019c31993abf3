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
from eventstore.projections import duckdb_errors, table_queries, table_writing, tables_file
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
    found = duckdb_errors.as_duckdb_error(pa.ArrowInvalid(text))
    assert (type(found), str(found)) == (kind, text)
    assert duckdb_errors.as_duckdb_error(found) is found
    assert duckdb_errors.is_damage(found) is is_damage


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
    whole = table_writing.apply_change

    def apply(*given: Any) -> None:
        if failing:
            raise failing.pop()
        whole(*given)

    monkeypatch.setattr(table_writing, "apply_change", apply)
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
    whole = table_writing.apply_change

    def apply(*given: Any) -> None:
        whole(*given)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(table_writing, "apply_change", apply)
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
    table_writing.folds.start()
    try:
        assert not tables._is_now(log.position)
    finally:
        table_writing.folds.finish()
    assert tables._is_now(log.position)


def test_folds_are_counted_one_by_one() -> None:
    folds, seen = table_writing.Folds(), list[bool]()

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
    opaque = table_queries._opaque(sql)
    assert opaque.count("try(COLUMNS") == 2
    connection = tables._connection()
    wanted = connection.execute(sql).fetchall()
    assert connection.execute(opaque).fetchall() == wanted == [(n,) for n in range(1, 6)]
    for asked in (sql, connection.extract_statements(sql)[0]):
        cursor = mock.Mock()
        cursor.execute.side_effect = [
            duckdb.InvalidInputException(f"x {table_queries._FOLDING_FAULT} x"),
            mock.Mock(fetchall=lambda: [(1,)]),
        ]
        assert table_queries.all_rows(cursor, asked, {"a": 1}) == [(1,)]
        assert cursor.execute.call_args == mock.call(opaque, {"a": 1})
    cursor = mock.Mock()
    cursor.execute.side_effect = duckdb.InvalidInputException("another")
    with pytest.raises(errors.InvalidArgumentError, match=r"^another$"):
        table_queries.all_rows(cursor, sql, {})
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
    monkeypatch.setattr(tables_file, "_connected_apart", refused)
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
