"""Caches of a log on a server are believed of that log alone, as it is now."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

import eventstore
from eventstore.log.remote import remote_log
from eventstore.log.sql.opening import open_database
from eventstore.log.sql.schema import TABLES
from eventstore.metadata_store import opening
from eventstore.projections.limits import IndexLimits, Limits
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import wait_until_written
from tests.contract.sql_logs import database_of
from tests.own_process import assert_runs
from tests.sql_servers import Server


@contextlib.contextmanager
def opened(
    server: Server, name: str, caches: Path, *, read_only: bool = False
) -> Iterator[eventstore.MetadataStore]:
    log = open_database(
        database_of(server, name), cache_folder=caches, read_only=read_only, segment_records_max=30
    )
    limits = Limits(index=IndexLimits(tail_records_max=4))
    engine = opening.engine_of(log, read_only=read_only, saves_caches=True, limits=limits)
    with eventstore.MetadataStore._of(engine) as store:
        yield store


def put(store: eventstore.MetadataStore, what: str) -> None:
    """Put some artifacts one by one, and fold them into runs, tables and heads."""
    type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
    for number in range(20):
        store.put_artifacts([mlmd.Artifact(type_id=type_id, uri=f"{what} {number}")])
    wait_until_written(store._engine.projections.index)
    assert len(told(store)) >= 20


def told(store: eventstore.MetadataStore) -> list[str]:
    """The uris of all artifacts, which the index and the tables say alike."""
    found = [artifact.uri for artifact in store.get_artifacts_by_id(range(1, 61))]
    listed = store.get_artifacts(eventstore.ListOptions(filter_query="uri LIKE '%'"))
    assert sorted(found) == sorted(artifact.uri for artifact in listed)
    return found


def copied(server: Server, name: str) -> str:
    """The name of another database with the same rows."""
    other = server.new_database()
    source, target = (database_of(server, each) for each in (name, other))
    open_database(database_of(server, other)).close()
    with target.transaction("copying") as connection:
        for table in TABLES:
            connection.execute(table.delete())
            if rows := [row._asdict() for row in source.rows(sa.select(table))]:
                connection.execute(table.insert(), rows)
    return other


@pytest.fixture(autouse=True)
def _stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times tell nothing: a machine's clock may be behind that of the newest commit."""
    monkeypatch.setattr(remote_log, "now_in_microseconds", lambda: 1)


@pytest.mark.share(2)
def test_two_copies_that_part_share_no_caches(sql_server: Server, tmp_path: Path) -> None:
    name = sql_server.new_database()
    with opened(sql_server, name, tmp_path) as store:
        put(store, "both")
    other = copied(sql_server, name)
    for each in (name, other):
        with opened(sql_server, each, tmp_path) as store:
            put(store, each)
    for each in (name, other):
        with opened(sql_server, each, tmp_path, read_only=True) as store:
            assert told(store) == [f"{what} {n}" for what in ("both", each) for n in range(20)]
            assert store.verify().ok


@pytest.mark.share(2)
def test_a_server_that_was_set_back_makes_no_cache_lie(
    sql_server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = sql_server.new_database()
    with opened(sql_server, name, tmp_path) as store:
        put(store, "kept")
        kept, position = store.log.commit_number, store.log_position()
        put(store, "lost")
        store.seal()
        segments = store.log.segments()
    sealed = len([s for s in segments if s.last_position <= position])
    for table, last in (("commits", kept), ("segments", sealed), ("segment_parts", sealed)):
        statement = f"DELETE FROM eventstore_{table} WHERE number > {last}"
        sql_server.execute(statement, database=name)
    with opened(sql_server, name, tmp_path, read_only=True) as store:
        assert told(store) == [f"kept {n}" for n in range(20)]
    assert len([r for r in caplog.records if "thrown away and folded anew" in r.message]) == 1
    caplog.clear()
    with opened(sql_server, name, tmp_path) as store:
        put(store, "other")
        assert store.verify().ok
    with opened(sql_server, name, tmp_path) as store:
        assert told(store) == [f"{what} {n}" for what in ("kept", "other") for n in range(20)]
    assert not [record for record in caplog.records if "thrown away" in record.message]


_READS = """
import sys
from pathlib import Path
import eventstore

with eventstore.open(sys.argv[1], read_only=True, cache_folder=Path(sys.argv[2])) as store:
    assert len(store.get_artifacts()) == 20
    listed = store.get_artifacts(eventstore.ListOptions(filter_query="uri LIKE '%1%'"))
    assert len(listed) == 11
    assert len(list(store.changes())) > 20
"""


@pytest.mark.share(2)
def test_processes_of_a_machine_share_them(sql_server: Server, tmp_path: Path) -> None:
    name = sql_server.new_database()
    with opened(sql_server, name, tmp_path) as store:
        put(store, "shared")
        for _ in range(2):
            assert_runs(_READS, sql_server.url(name), tmp_path)
        folder = store.log.cache_folder()
        runs = {path.name for path in (folder / "index").iterdir()}
        assert store.verify().ok
    (there,) = tmp_path.iterdir()
    assert {path.name for path in there.iterdir()} == {folder.name, "history.json"}
    assert runs <= {path.name for path in (folder / "index").iterdir()}
