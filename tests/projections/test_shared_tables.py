"""The DuckDB tables that several threads, objects or processes use at once answer each the same."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from eventstore.log import DirectoryLog, Log
from eventstore.log import record as kind_names
from eventstore.projections import Projections, tables_file
from eventstore.projections.tables import Tables
from eventstore.sql import run_sql
from tests.builders import append, draft, list_ids
from tests.projections.conftest import artifact_ids, database

ROOT = Path(__file__).parents[2]


def test_two_of_one_process_share_the_file(log: DirectoryLog) -> None:
    assert log.directory is not None
    first, second = Projections(log), Projections(DirectoryLog.open(log.directory))
    assert artifact_ids(first) == artifact_ids(second) == [1, 2, 3, 4, 5]
    append(log, draft(6))
    assert artifact_ids(first) == artifact_ids(second) == [1, 2, 3, 4, 5, 6]
    append(log, draft(6, previous=7))
    append(log, draft(7))
    assert artifact_ids(second) == artifact_ids(first) == [1, 2, 3, 4, 5, 6, 7]
    first.close()
    assert artifact_ids(second) == [1, 2, 3, 4, 5, 6, 7]
    second.close()


def test_one_that_another_process_holds_is_left_alone(
    log: DirectoryLog, caplog: pytest.LogCaptureFixture
) -> None:
    projections = Projections(log)
    artifact_ids(projections)
    projections.close()
    before = database(log).read_bytes()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); input()",
            str(database(log)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdout.readline()
    with caplog.at_level(logging.INFO, "eventstore.projections"):
        projections = Projections(log)
        append(log, draft(6))
        assert artifact_ids(projections) == [1, 2, 3, 4, 5, 6]
    assert "in use" in caplog.text
    projections.close()
    holder.communicate(b"\n")
    assert database(log).read_bytes() == before


def test_another_configuration_in_this_process_counts_as_in_use(log: DirectoryLog) -> None:
    projections = Projections(log)
    artifact_ids(projections)
    projections.close()
    held = duckdb.connect(str(database(log)), config={"threads": 1})
    assert artifact_ids(Projections(log)) == [1, 2, 3, 4, 5]
    assert held.execute("SELECT position FROM folded_position").fetchall() == [(6,)]
    held.close()


def test_a_forked_child_folds_its_own(log: DirectoryLog) -> None:
    projections = Projections(log)
    artifact_ids(projections)
    child = multiprocessing.get_context("fork").Process(
        target=lambda: os._exit(0 if artifact_ids(projections) == [1, 2, 3, 4, 5] else 1)
    )
    child.start()
    child.join()
    assert child.exitcode == 0
    append(log, draft(6))
    assert artifact_ids(projections) == [1, 2, 3, 4, 5, 6]
    projections.close()


def test_queries_run_while_another_thread_folds(tmp_path: Path) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1))
    projections = Projections(log)
    failures: list[object] = []
    is_done = threading.Event()

    def read() -> None:
        try:
            while not is_done.is_set():
                position = projections.catch_up()
                rows = list_ids(projections, kind_names.ARTIFACT, as_of=position)
                assert rows == [(node_id, node_id) for node_id in range(1, len(rows) + 1)]
                past = list_ids(projections, kind_names.ARTIFACT, as_of=max(1, position // 2))
                assert past == rows[: len(past)]
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    newest: dict[int, int] = {1: 1}
    for number in range(2, 120):
        projections.add(append(log, draft(number)))
        newest[number] = log.position
        if number % 3 == 0:
            replaced = number // 2
            projections.add(append(log, draft(replaced, previous=newest[replaced])))
            newest[replaced] = log.position
    is_done.set()
    for reader in readers:
        reader.join()
    assert not failures
    projections.close()
    shutil.rmtree(tmp_path / "store" / "projections")
    assert artifact_ids(Projections(log)) == list(range(1, 120))


def test_threads_that_open_the_tables_at_once_share_one_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for attempt in range(5):
        log = DirectoryLog.create(tmp_path / f"store-{attempt}")
        append(log, draft(1))
        path = tmp_path / f"tables-{attempt}" / "tables.duckdb"
        meeting = threading.Barrier(8)

        def opened(
            log: Log = log, path: Path = path, meeting: threading.Barrier = meeting
        ) -> tables_file.OpenedTables:
            meeting.wait(timeout=60)
            return tables_file.open_tables(log, path)

        with ThreadPoolExecutor(8) as executor:
            all_opened = [future.result() for future in [executor.submit(opened) for _ in range(8)]]
        assert [tables.path for tables in all_opened] == [path] * 8
        assert not caplog.records
        for tables in all_opened:
            tables.close()
        log.close()


def test_tables_that_another_object_folded_farther_than_is_known_are_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ahead = DirectoryLog.create(tmp_path / "store")
    append(ahead, draft(1))
    behind, late = (DirectoryLog.open(tmp_path / "store") for _ in range(2))
    projections = {log: Projections(log) for log in (ahead, behind, late)}

    def counted(projected: Projections, as_of: int) -> int:
        return int(run_sql(projected._log, projected, "FROM artifacts", None, as_of).num_rows)

    for log in (ahead, behind, late):
        projections[log].catch_up()
    assert counted(projections[behind], 1) == 1
    append(ahead, draft(2))
    projections[behind].catch_up()
    append(ahead, draft(3))
    append(ahead, draft(4))
    projections[ahead].catch_up()
    assert counted(projections[ahead], 4) == 4
    # One has tables open that were folded less far, the other opens them only now.
    found: list[int] = []
    thread = threading.Thread(
        target=lambda: found.extend(
            (counted(projections[behind], 2), counted(projections[late], 1))
        ),
        daemon=True,
    )
    thread.start()
    thread.join(timeout=60)
    assert found == [2, 1]
    assert counted(projections[ahead], 4) == 4
    assert not caplog.records
    for projected in projections.values():
        projected.close()


_COUNT = "SELECT count(*) FROM artifacts WHERE valid_to IS NULL OR valid_to > 6"


def test_what_was_folded_is_there_after_another_thread_has_emptied_the_tables(
    log: DirectoryLog,
) -> None:
    tables = Tables(log, database(log))
    tables.fold(log.position)
    before = tables.query(_COUNT, {})
    tables.clear()
    assert tables.query(_COUNT, {}) == before == [(5,)]
    assert tables.folded_position() == log.position
    tables.clear()
    assert tables.query(_COUNT, {}) == before
    tables.close()


@pytest.mark.parametrize("is_kept_in_a_file", [True, False])
def test_a_read_outlives_that_another_thread_builds_the_tables_anew(
    log: DirectoryLog, is_kept_in_a_file: bool
) -> None:
    tables = Tables(log, database(log) if is_kept_in_a_file else None)

    def ask(cursor: duckdb.DuckDBPyConnection) -> object:
        tables.clear()
        assert tables.query(_COUNT, {}) == [(5,)]
        return cursor.execute(_COUNT).fetchall()

    assert tables.asked(ask, log.position) == [(5,)]
    assert tables.query(_COUNT, {}) == [(5,)]
    tables.close()


def test_tables_are_built_anew_that_another_object_has_open(log: DirectoryLog) -> None:
    first, second = Projections(log), Projections(log)
    assert artifact_ids(first) == artifact_ids(second) == [1, 2, 3, 4, 5]
    first.rebuild()
    second.rebuild()
    append(log, draft(6))
    assert artifact_ids(first) == artifact_ids(second) == [1, 2, 3, 4, 5, 6]
    first.close()
    second.close()


def test_tables_opened_to_read_are_folded_when_another_has_taken_their_file(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the fold, which saves in the file, and the read, which opens it again."""
    assert log.directory is not None
    tables = Tables(log, database(log), read_only=True, saves=True)
    let_others_read = tables._let_others_read

    def letting() -> None:
        let_others_read()
        tables_file.remove_tables(database(log))

    monkeypatch.setattr(tables, "_let_others_read", letting)
    tables.fold(log.position)
    assert tables.query(_COUNT, {}) == [(5,)]
    tables.close()


def test_a_file_that_another_process_takes_meanwhile_is_no_failure(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = Tables(log, database(log))

    def taken(*_: object) -> bool:
        monkeypatch.undo()
        raise duckdb.TransactionException('Failed to commit: Could not set lock on file "x.wal"')

    monkeypatch.setattr(tables, "_fold_in_transaction", taken)
    tables.fold(log.position)
    tables.raise_if_not_kept()
    assert tables.query(_COUNT, {}) == [(5,)]
    tables.close()
