"""How long a query may take and how much, and what becomes of one that does not end."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

import eventstore
from eventstore import errors
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.projections import ending
from eventstore.projections.tables_file import OpenedTables
from eventstore.sql import views
from tests.builders import artifact, put_types


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MetadataStore]:
    with eventstore.open(tmp_path_factory.mktemp("limits") / "store") as opened:
        type_id, _, _ = put_types(opened)
        opened.put_artifacts([artifact(type_id, name="a")])
        yield opened


ENDLESS = (
    "SELECT count(*) FROM range(1000000000) AS a, range(1000000000) AS b WHERE a.range % 7 = 9"
)


def test_a_query_ends_at_its_deadline(store: MetadataStore) -> None:
    for query in (ENDLESS, "FROM range(1000000000000000) WHERE range < 0"):
        with pytest.raises(errors.DeadlineExceededError, match="timeout"):
            store.sql(query, timeout_seconds=0.05)
    for seconds in (60, 1e20, float("inf")):
        assert store.sql("SELECT 1", timeout_seconds=seconds).rows() == [(1,)]
    for seconds in (0, -1, float("nan")):
        with pytest.raises(errors.InvalidArgumentError, match="timeout_seconds"):
            store.sql("SELECT 1", timeout_seconds=seconds)


def test_a_query_can_be_interrupted(store: MetadataStore) -> None:
    timer = threading.Timer(0.2, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        store.sql(ENDLESS, timeout_seconds=60)
    timer.join()
    assert store.sql("SELECT 1").rows() == [(1,)]


def test_a_result_takes_no_more_memory_than_it_may(
    store: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "RESULT_BYTES_MAX", 4 * 2**20)
    assert len(store.sql("FROM range(400000)")) == 400_000
    with pytest.raises(errors.ResourceExhaustedError, match="LIMIT"):
        store.sql("FROM range(1000000000000)")
    assert store.sql("SELECT 1").rows() == [(1,)]


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("SELECT repeat('x', 4000000000)", None),
        ("SELECT length(REPEAT('xy', 60000000))", None),
        ("SELECT repeat('x', ?)", [4_000_000_000]),
        ("SELECT repeat('x', $n)", {"n": 4_000_000_000}),
        ("SELECT repeat('x', 4 * 1000 * 1000000::BIGINT)", None),
        ("SELECT repeat('x', (10 ** 10)::BIGINT), repeat('x', 1 << 40)", None),
        ("FROM artifacts WHERE length(lpad(name, 2000000000, 'y')) = 1", None),
        ("SELECT (SELECT rpad('x', 2000000000, 'y'))", None),
        ("WITH t AS (SELECT len(range(1000000000000)) AS n) FROM t", None),
        ("SELECT len(generate_series(1, 1000000000))", None),
        ("SELECT list_aggregate(range(-5, 300000000000, 2), 'sum')", None),
        ("SELECT list_resize([1], 2000000000)", None),
        ("SELECT printf('%1000000000d', 1)", None),
        ("SELECT format('{:>1000000000}', 'x')", None),
        ("EXPLAIN SELECT repeat('x', 4000000000)", None),
    ],
)
def test_a_value_out_of_all_proportion_is_refused(
    store: MetadataStore, query: str, parameters: Any
) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="more than 100000000"):
        store.sql(query, parameters)


def test_sizes_in_proportion_are_not_refused(store: MetadataStore) -> None:
    query = (
        "SELECT length(repeat('x', 2 * 3)), len(range(2, 9)), lpad('x', 3, 'y'), 5000000000, "
        "printf('%5d', 1), (SELECT count(*) FROM range(2000000000, 2000000002)) "
        "FROM range(200000000) LIMIT 1"
    )
    assert store.sql(query).rows() == [(6, 7, "yyx", 5_000_000_000, "    1", 2)]
    assert store.sql("SELECT repeat(NULL, NULL), repeat('x', ?)", [3]).rows() == [(None, "xxx")]


def test_a_query_that_no_interrupt_reaches_is_left(
    store: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "ENDING_SECONDS", 0.1)
    slow = "SELECT levenshtein(repeat('a', 40000), repeat('b', 40000))"
    with pytest.raises(errors.DeadlineExceededError):
        store.sql(slow, timeout_seconds=0.5)
    monkeypatch.setattr(ending, "LEFT_MAX", 1)
    with pytest.raises(errors.ResourceExhaustedError, match="still"):
        store.sql("SELECT 1")
    for thread in ending._watch.left:
        thread.join()
    assert store.sql("SELECT 1").rows() == [(1,)]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[MetadataStore, OpenedTables]]:
    """A store in a directory, and the tables that it has open."""
    with eventstore.open(tmp_path / "store") as store:
        store.sql("SELECT 1")
        tables = store._engine.projections._tables
        assert tables is not None
        assert tables._opened is not None
        yield store, tables._opened


def assert_closed_with(store: MetadataStore, tables: OpenedTables) -> None:
    """DuckDB lets go of the file with the store."""
    store.close()
    with pytest.raises(duckdb.ConnectionException, match="closed"):
        tables.connection.execute("SELECT 1")


def test_tables_are_closed_after_a_query_was_refused(
    opened: tuple[MetadataStore, OpenedTables], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, tables = opened
    monkeypatch.setattr(ending, "LEFT_MAX", 0)
    with pytest.raises(errors.ResourceExhaustedError, match="still"):
        store.sql("SELECT 1")
    assert_closed_with(store, tables)


FILTER = eventstore.ListOptions(filter_query="uri LIKE '%x%'")


THREADED: dict[str, Callable[[MetadataStore], object]] = {
    "sql": lambda store: store.sql("SELECT 1"),
    "sql in time": lambda store: store.sql("SELECT 1", timeout_seconds=9),
    "filter": lambda store: store.get_artifacts(FILTER),
    "rebuild": lambda store: store.rebuild(),
}


@pytest.mark.parametrize("asking", THREADED)
def test_no_further_thread_is_a_resource_that_is_exhausted(
    opened: tuple[MetadataStore, OpenedTables], asking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, tables = opened
    THREADED[asking](store)
    # One without a thread; that of the old one goes on waiting.
    monkeypatch.setattr(ending, "_watch", ending._Watch())

    def cannot_start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", cannot_start)
        with pytest.raises(errors.ResourceExhaustedError, match="can't start new thread"):
            THREADED[asking](store)
    assert not ending._watch.running
    THREADED[asking](store)
    current = store._engine.projections._tables
    assert current is not None
    assert_closed_with(store, current._opened or tables)


@pytest.mark.parametrize("interrupts", [1, 2])
def test_an_interrupted_query_is_counted_as_left(
    interrupts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, watch = threading.Event(), ending._Watch()
    monkeypatch.setattr(ending, "_watch", watch)
    monkeypatch.setattr(ending, "ENDING_SECONDS", 0.1)
    waits = ending._Query.ends_by
    rest = [KeyboardInterrupt()] * interrupts
    begun = threading.Event()

    def interrupted(query: ending._Query, end: float) -> None:
        begun.wait()
        if rest:
            raise rest.pop()
        waits(query, end)

    monkeypatch.setattr(ending._Query, "ends_by", interrupted)

    def ask(_: object) -> None:
        begun.set()
        ended.wait()

    with duckdb.connect(":memory:") as connection, pytest.raises(KeyboardInterrupt):
        ending.answer_in_time(connection.cursor(), ask, 9, may_be_left=True)
    (thread,) = watch.left
    ended.set()
    thread.join()
    watch.check_left()
    assert watch.left == []
