"""With the rights that docs/sql-databases.md gives it, no application changes history."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import eventstore
from eventstore import errors
from eventstore.log import MemoryLog
from eventstore.log.copying import copy_commits
from eventstore.log.sql import SqlLog, connecting
from eventstore.log.sql.opening import open_database
from eventstore.log.sql.schema import TABLES
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.testing.drafts import as_erased, erased_of
from tests.builders import append, append_erasure, draft
from tests.sql_servers import Server

_DOCUMENT = Path(__file__).parents[2] / "docs" / "sql-databases.md"
_ROLES = ("pipeline", "auditor", "eraser")
_PASSWORD = "choose one"


@pytest.fixture
def name(sql_server: Server) -> str:
    """A database with the tables of a store, and the roles of the document."""
    name = sql_server.new_database()
    open_database(connecting.of_url(sql_server.url(name))).close()
    of_postgresql, of_mysql = re.findall(r"```sql\n(.*?)```", _DOCUMENT.read_text(), re.DOTALL)
    script = of_mysql if sql_server.scheme == "mysql" else of_postgresql
    script = script.replace("metadata.", f"{name}.")
    for role in _ROLES:
        script = re.sub(rf"\b{role}\b", f"{role}_{name}", script)
    statements = [statement for statement in script.split(";") if statement.strip()]
    assert len(statements) == (15 if sql_server.scheme == "mysql" else 8)
    sql_server.execute(*statements, database=name)
    return name


@contextlib.contextmanager
def opened_by(role: str, server: Server, name: str) -> Iterator[SqlLog]:
    url = server.url(name, user=f"{role}_{name}", password=_PASSWORD)
    with contextlib.closing(open_database(connecting.of_url(url), segment_records_max=4)) as log:
        yield log


def test_the_server_refuses_to_change_history(sql_server: Server, name: str) -> None:
    with opened_by("pipeline", sql_server, name) as log:
        for number in range(1, 6):
            append(log, draft(number))
        log.seal()
        commits = [*log.commits()]
        url = sql_server.url(name, user=f"pipeline_{name}", password=_PASSWORD)
        database = connecting.of_url(url)
        for table in TABLES:
            for statement in (
                f"UPDATE {table.name} SET {table.columns.keys()[-1]} = NULL",
                f"DELETE FROM {table.name}",
                f"TRUNCATE TABLE {table.name}",
                f"DROP TABLE {table.name}",
                f"ALTER TABLE {table.name} ADD COLUMN more INTEGER",
            ):
                with (
                    pytest.raises(errors.PermissionDeniedError, match=r"denied|must be owner"),
                    database.transaction("changing") as connection,
                ):
                    connection.exec_driver_sql(statement)
        with pytest.raises(errors.PermissionDeniedError, match="denied"):
            log.destroy(erased_of([2]))
        log.conceal(erased_of([2]))
        assert [*log.commits()] != commits
        log.conceal(erased_of())
        assert [*log.commits()] == commits
        assert log.verify().ok


def test_erasing_runs_under_another_role(sql_server: Server, name: str) -> None:
    with opened_by("pipeline", sql_server, name) as log:
        for number in range(1, 7):
            append(log, draft(number))
        records = [record for commit in log.commits() for record in commit.records]
        erased = erased_of([2, 5])
        with opened_by("eraser", sql_server, name) as eraser:
            eraser.destroy(erased)
            append_erasure(eraser, erased)
        log.refresh()
        found = [record for commit in log.commits() for record in commit.records]
        assert found[:6] == as_erased(records, erased)
        assert log.verify().ok
    kept = sql_server.execute(
        "SELECT message FROM eventstore_commits WHERE number IN (2, 5)", database=name
    )
    assert kept == [(None,), (None,)]


def test_who_may_only_add_begins_no_erasure(sql_server: Server, name: str) -> None:
    url = sql_server.url(name, user=f"pipeline_{name}", password=_PASSWORD)
    with eventstore.open(url) as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
        (artifact_id,) = store.put_artifacts([mlmd.Artifact(type_id=type_id, name="kept")])
        before = store.log_position()
        with pytest.raises(errors.PermissionDeniedError, match="denied"):
            store.erase("artifact", artifact_id, reason="GDPR-17")
        assert store.log_position() == before
        assert store.get_artifacts_by_id([artifact_id])[0].name == "kept"


def test_who_may_only_add_copies_into_it(sql_server: Server, name: str) -> None:
    with opened_by("pipeline", sql_server, name) as log:
        source = MemoryLog(log.store_id)
        for number in range(1, 4):
            append(source, draft(number))
        assert not copy_commits(source, log)
        append(log, draft(4))
        assert [*log.commits(0, 3)] == [*source.commits()]
        assert log.verify().ok


def test_who_may_only_read_reads_all(sql_server: Server, name: str) -> None:
    with opened_by("pipeline", sql_server, name) as log:
        commit = append(log, draft(1))
        with opened_by("auditor", sql_server, name) as reader:
            assert [*reader.commits()] == [commit]
            with pytest.raises(errors.PermissionDeniedError, match="denied"):
                append(reader, draft(2))
            later = append(log, draft(2))
            assert reader.refresh()
            assert [*reader.commits()] == [commit, later]
            assert reader.verify().ok


def test_tables_that_may_not_be_made_are_said_to_be_missing(sql_server: Server, name: str) -> None:
    user, empty = f"pipeline_{name}", sql_server.new_database()
    if sql_server.scheme == "mysql":
        sql_server.execute(f"GRANT SELECT ON {empty}.* TO {user}")
    url = sql_server.url(empty, user=user, password=_PASSWORD)
    with pytest.raises(errors.PermissionDeniedError, match="making tables in"):
        open_database(connecting.of_url(url))
