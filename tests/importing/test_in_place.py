"""What MLMD has in a database is imported once, into a store in the same database."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import sqlalchemy as sa

import eventstore
from eventstore import errors
from eventstore.copies.copying import copy_log
from eventstore.importing import in_place
from eventstore.log import MemoryLog
from eventstore.log.places import StoreUrl
from eventstore.log.sql import connecting
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.testing.drafts import append, draft
from tests.contract.sql_logs import config_of
from tests.importing.minimal import make_database
from tests.sql_servers import Server

ADVICE = "enable_upgrade_migration=True"


@pytest.fixture
def config(sql_server: Server) -> mlmd.ConnectionConfig:
    """Names a database of MLMD's, with an artifact."""
    name = sql_server.new_database()
    make_database(sql_server, name)
    config = config_of(sql_server, name)
    config.retry_options.max_num_retries = 0
    return config


@pytest.fixture
def impatient(config: mlmd.ConnectionConfig, sql_server: Server) -> Iterator[None]:
    """Locks are waited for no longer than a second."""
    if sql_server.scheme == "mysql":
        (before,) = sql_server.execute("SELECT @@GLOBAL.innodb_lock_wait_timeout")[0]
        sql_server.execute("SET GLOBAL innodb_lock_wait_timeout = 1")
        yield
        sql_server.execute(f"SET GLOBAL innodb_lock_wait_timeout = {before}")
    else:
        sql_server.execute(f"ALTER DATABASE {_database(config)} SET lock_timeout = '1s'")
        yield


def _opened(config: mlmd.ConnectionConfig, *, upgrade: bool = True) -> MetadataStore:
    return MetadataStore(config, enable_upgrade_migration=upgrade)


def _uris(store: MetadataStore) -> list[str]:
    return [artifact.uri for artifact in store.get_artifacts()]


def _database(config: mlmd.ConnectionConfig) -> str:
    return config.mysql.database or config.postgresql.dbname


def test_it_is_imported_once_and_only_if_that_is_wanted(
    config: mlmd.ConnectionConfig, sql_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    url = sql_server.url(_database(config))
    for refused in (lambda: eventstore.open(url), lambda: _opened(config, upgrade=False)):
        with pytest.raises((errors.FailedPreconditionError, RuntimeError), match=ADVICE) as told:
            refused()
        assert "\n" not in str(told.value)
    with _opened(config) as store:
        assert _uris(store) == ["first"]
        assert (next(store.changes()).reason or "").startswith("import of ")
        assert store.verify().ok
        position = store.log_position()
    assert "imported 2 records of ML Metadata" in caplog.text
    # A server of MLMD's that still runs is no longer heard.
    insert = "INSERT INTO Artifact VALUES (2, 1, 'late')"
    sql_server.execute(insert, database=_database(config))
    for upgrade in (True, False):
        with _opened(config, upgrade=upgrade) as store:
            assert (_uris(store), store.log_position()) == (["first"], position)
    rows = sql_server.execute("SELECT uri FROM Artifact ORDER BY id", database=_database(config))
    assert rows == [("first",), ("late",)]


def test_without_tables_of_mlmds_an_upgrade_makes_an_empty_store(sql_server: Server) -> None:
    config = config_of(sql_server, sql_server.new_database())
    with _opened(config) as store:
        assert _uris(store) == []


def test_a_copy_can_be_put_beside_them(config: mlmd.ConnectionConfig, sql_server: Server) -> None:
    """Such as a store that has followed MLMD until it was stopped."""
    source = MemoryLog()
    append(source, draft(1))
    copy_log(source, StoreUrl(sql_server.url(_database(config))))
    with closing(_opened(config)) as store:
        assert store.log.store_id == source.store_id


@pytest.mark.share(2)
@pytest.mark.parametrize("is_patient", [True, False])
def test_of_two_that_open_at_once_one_imports_and_the_other_waits_or_is_told(
    config: mlmd.ConnectionConfig,
    sql_server: Server,
    is_patient: bool,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    import_into, imports = in_place.import_into, []
    is_importing, goes_on = threading.Event(), threading.Event()

    def imported(*arguments: object, **named: object) -> object:
        imports.append(True)
        is_importing.set()
        assert goes_on.wait(60)
        return import_into(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(in_place, "import_into", imported)
    if not is_patient:
        request.getfixturevalue("impatient")
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(_opened, config)
        while not is_importing.wait(0.1):
            assert not first.done(), first.result()
        second = threads.submit(_opened, config)
        if is_patient:
            while not _waiting(sql_server):
                assert not second.done()
            goes_on.set()
            stores = [first.result(), second.result()]
        else:
            with pytest.raises((errors.UnavailableError, RuntimeError), match="once that is done"):
                second.result()
            goes_on.set()
            stores = [first.result()]
    assert imports == [True]
    for store in stores:
        assert _uris(store) == ["first"]
        store.close()


def _waiting(server: Server) -> bool:
    """Whether anybody is at the row that makes a store, which another one holds."""
    table, said = ("pg_stat_activity", "query")
    if server.scheme == "mysql":
        # What InnoDB tells of locks stands still for whoever asks often.
        table, said = ("information_schema.processlist", "info")
    begun = f"{said} LIKE 'INSERT INTO eventstore_log%'"
    at_it = " AND wait_event_type = 'Lock'" if said == "query" else ""
    return bool(server.execute(f"SELECT 1 FROM {table} WHERE {begun}{at_it}"))


_BEFORE = (
    "CREATE TABLE eventstore_segments",
    "INSERT INTO eventstore_log",
    "INSERT INTO eventstore_commits",
    "INSERT INTO eventstore_segment_parts",
)


@pytest.mark.share(2)
def test_an_import_that_is_killed_leaves_nothing(sql_server: Server) -> None:
    for before in (*_BEFORE, "the commit"):
        name = sql_server.new_database()
        make_database(sql_server, name)
        config = config_of(sql_server, name)
        _kill_import(config, before)
        with pytest.raises((errors.FailedPreconditionError, RuntimeError), match=ADVICE):
            _opened(config, upgrade=False)
        with _opened(config) as store:
            assert _uris(store) == ["first"]
            assert store.verify().ok


def _kill_import(config: mlmd.ConnectionConfig, before: str) -> None:
    """Have a process import, and kill itself before a statement or the end of the transaction."""
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(60)
            sa.event.listen(sa.Engine, "before_cursor_execute", _killing_before(before))
            in_place.import_in_place(connecting.of_config(config))
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


def _killing_before(before: str) -> Callable[..., None]:
    def kill(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def strike(_: object, __: object, statement: str, *___: object) -> None:
        if " ".join(statement.split()).startswith(before):
            kill()
        if "eventstore_segment_parts" in statement:
            sa.event.listen(sa.Engine, "commit", kill)

    return strike
