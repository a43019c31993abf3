"""What each cache forgets in a forked child; `tests/crash/test_forked_children.py` forks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from eventstore.log import DirectoryLog, columns, forking, sealing
from eventstore.projections import (
    Projections,
    projections,
    run_batches,
    run_merging,
    run_writing,
    table_writing,
    tables_file,
)
from eventstore.projections.limits import IndexLimits, Limits
from eventstore.projections.point_index import PointIndex
from eventstore.projections.tables import Tables
from tests.builders import ARTIFACTS, append, draft, wait_until_written


@pytest.fixture
def log(tmp_path: Path) -> DirectoryLog:
    made = DirectoryLog.create(tmp_path / "store")
    for number in range(1, 20):
        append(made, draft(number))
    return made


@pytest.mark.parametrize(
    ("read_only", "saves", "is_kept"),
    [(False, False, True), (True, False, False), (True, True, True)],
)
def test_an_index_is_opened_anew_at_its_first_use(
    log: DirectoryLog,
    monkeypatch: pytest.MonkeyPatch,
    read_only: bool,
    saves: bool,
    is_kept: bool,
) -> None:
    made = Projections(log, read_only=read_only, saves=saves)
    made.catch_up()
    parents = made.index
    shared = made._mutex, made.planner, made._bases
    made.after_fork_in_child()
    assert "index" not in made.__dict__
    own = made._mutex, made.planner, made._bases
    assert all(new is not old for new, old in zip(own, shared, strict=True))
    with pytest.raises(AttributeError, match="'Projections' object has no attribute 'nonsense'"):
        made.nonsense  # type: ignore[attr-defined]  # noqa: B018
    locked: list[bool] = []

    def opened(*arguments: Any, **options: Any) -> PointIndex:
        locked.append(made._renewing.locked())
        return PointIndex(*arguments, **options)

    monkeypatch.setattr(projections, "PointIndex", opened)
    index = made.index
    assert index is made.index is not parents
    assert made.open_missing("index") is index
    assert locked == [True]
    assert (index._folder is not None) is is_kept
    assert made.catch_up() == 19
    assert [*made.index.keys(ARTIFACTS, 19)] == [*range(1, 20)]
    made.close()


def test_an_index_leaves_its_threads_and_its_folder_to_the_parent(log: DirectoryLog) -> None:
    limits, folder = IndexLimits(tail_records_max=5), log.directory / "projections" / "index"
    index = PointIndex(log, folder, limits, read_only=True)
    for commit in log.commits(0):
        index.add(commit)
    wait_until_written(index)
    pools = [index._writer._pool, index._merger._pool]
    temporary, locks = index._temporary, (index._swap, index._repairing)
    assert None not in pools
    assert temporary is not None
    with mock.patch.object(type(temporary), "leave_to_the_parent") as leave:
        index.after_fork_in_child()
        assert leave.call_count == 1
        index.after_fork_in_child()
        assert leave.call_count == 1
    assert (index._writer._pool, index._merger._pool, index._temporary) == (None, None, None)
    assert not index._writer.is_busy()
    assert (index._swap, index._repairing) != locks
    assert [*index.keys(ARTIFACTS, 19)] == [*range(1, 20)]
    for pool in pools:
        assert pool is not None
        pool.shutdown()
    temporary.close()


@pytest.mark.parametrize("is_kept", [True, False])
def test_tables_are_left_to_the_parent(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch, is_kept: bool
) -> None:
    monkeypatch.setattr(tables_file, "_left_paths", set())
    monkeypatch.setattr(tables_file, "IN_MEMORY_RECORDS_MAX", 0)
    path = log.directory / "projections" / "tables.duckdb"
    tables = Tables(log, path)
    if not is_kept:
        tables._take(tables_file.open_tables_apart(log))
    tables.fold(19)
    opened, mutex, statements = tables._opened, tables._mutex, tables._statements
    assert opened is not None
    assert statements
    left = len(tables_file.left_to_the_parent)
    with mock.patch("eventstore.log.temporary_folder.TemporaryFolder.leave_to_the_parent") as leave:
        tables.after_fork_in_child()
        assert leave.call_count == (0 if is_kept else 1)
    assert tables_file.left_to_the_parent[left:] == [opened, statements]
    assert tables_file._left_paths == ({path.resolve()} if is_kept else set())
    assert tables._opened is None
    assert tables._mutex is not mutex
    assert tables._statements == {}
    tables.fold(19)
    apart = tables._opened
    assert apart is not None
    assert apart.path is None
    assert apart.connection is not opened.connection
    assert tables.query("SELECT count(*) FROM artifacts", {}) == [(19,)]
    tables.close()
    tables.after_fork_in_child()
    # Nothing was open any more.
    assert len(tables_file.left_to_the_parent) == left + 3
    opened.close()


def test_nobody_folds_in_a_new_child(monkeypatch: pytest.MonkeyPatch) -> None:
    writers = {Path("a"): mock.Mock()}
    monkeypatch.setattr(table_writing, "_writers", writers)
    folds = table_writing.Folds()
    folds.start()
    folds.start()
    folds.finish()
    mutex = folds._mutex
    folds.after_fork_in_child()
    assert (folds.started, folds.finished, writers) == (2, 2, {})
    assert folds._mutex is not mutex


def test_the_background_keeps_forks_from_each_of_its_steps_in_libraries(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child could use Arrow or DuckDB no more: the lock of an import is held there for ever."""
    found: set[tuple[str, bool]] = set()

    def watch(owner: Any, name: str) -> None:
        watched: Callable[..., object] = getattr(owner, name)

        def noted(*arguments: Any, **options: Any) -> object:
            if threading.current_thread().name.startswith("eventstore-"):
                found.add((name, threading.get_ident() in forking._in_libraries))
            return watched(*arguments, **options)

        monkeypatch.setattr(owner, name, noted)

    def close(opened: tables_file.OpenedTables) -> None:
        connection = opened.connection
        opened.connection = SimpleNamespace(close=connection.close)  # type: ignore[assignment]
        watch(opened.connection, "close")
        closed(opened)

    closed = tables_file.OpenedTables._close
    monkeypatch.setattr(tables_file.OpenedTables, "_close", close)
    steps = [
        (columns, "with_derived_columns"),
        (sealing, "_packed"),
        (sealing, "_is_group"),
        (run_batches, "run_batch"),
        (run_merging, "_merged_rows"),
        (run_writing, "_value_checksums"),
        (run_writing, "_divided"),
        (tables_file, "_connected"),
        (Tables, "_take"),
        (Tables, "_fold_in_transaction"),
    ]
    for owner, name in steps:
        watch(owner, name)
    limits = Limits(background_records=5, index=IndexLimits(tail_records_max=5))
    made = Projections(log, limits)
    made.catch_up()
    log._rotate()
    assert log._sealer is not None
    log._sealer.shutdown()
    log._sealer = None
    for number in range(20, 32):
        made.add(append(log, draft(number)))
    thread = made._background._thread
    if thread is not None:
        thread.join()
    made.close()
    assert found == {("close", True), *((name, True) for _, name in steps)}
