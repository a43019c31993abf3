"""What is said of servers that cannot be imported from, and what is never said of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from eventstore import errors
from eventstore.importing import import_mlmd_database
from eventstore.importing.mlmd_database import MlmdDatabase
from eventstore.importing.server_source import ServerSource
from tests.sql_servers import PASSWORD, Server

SECRET = "hunter2@/:%"


def refused(url: str, tmp_path: Path) -> errors.StatusError:
    with pytest.raises(errors.StatusError) as raised:
        import_mlmd_database(url, tmp_path / "store")
    assert list(tmp_path.iterdir()) == []
    assert "\n" not in raised.value.message
    for secret in (SECRET, PASSWORD, "hunter2", "s3cr3t"):
        assert secret not in raised.value.message
    assert raised.value.__cause__ is None
    return raised.value


def test_what_a_server_refuses_is_one_line(sql_server: Server, tmp_path: Path) -> None:
    database = sql_server.new_database()
    wrong = refused(sql_server.url(database, password=SECRET), tmp_path)
    assert isinstance(wrong, errors.UnauthenticatedError)
    assert "check the name and the password" in wrong.message
    missing = refused(sql_server.url("nowhere"), tmp_path)
    assert isinstance(missing, errors.NotFoundError)
    assert "nowhere: there is no such database" in missing.message
    empty = refused(sql_server.url(database), tmp_path)
    assert isinstance(empty, errors.FailedPreconditionError)
    assert "it has no table MLMDEnv" in empty.message
    sql_server.execute(
        "CREATE TABLE MLMDEnv (schema_version INT)",
        "INSERT INTO MLMDEnv VALUES (11)",
        database=database,
    )
    newer = refused(sql_server.url(database), tmp_path)
    assert isinstance(newer, errors.FailedPreconditionError)
    assert "has MLMD schema version 11; versions 0 to 10 can be imported" in newer.message
    sql_server.execute("UPDATE MLMDEnv SET schema_version = 10", database=database)
    incomplete = refused(sql_server.url(database), tmp_path)
    assert isinstance(incomplete, errors.DataLossError)
    assert "table Type is missing or lacks id, name" in incomplete.message


def test_a_user_who_may_not_read_the_tables(sql_server: Server, tmp_path: Path) -> None:
    database = sql_server.new_database()
    sql_server.execute("CREATE TABLE MLMDEnv (schema_version INT)", database=database)
    if sql_server.scheme == "mysql":
        sql_server.execute("CREATE USER nobody IDENTIFIED BY 'niemand-ä密'")
        grant = f"GRANT {{}} ON {database}.* TO nobody"
    else:
        sql_server.execute("CREATE USER nobody PASSWORD 'niemand-ä密'")
        grant = "GRANT {} ON MLMDEnv TO nobody"
    url = sql_server.url(database, user="nobody", password="niemand-ä密")
    if sql_server.scheme == "postgresql":
        assert "no table MLMDEnv that this user may read" in refused(url, tmp_path).message
    sql_server.execute(grant.format("INSERT"), database=database)
    error = refused(url, tmp_path)
    assert isinstance(error, errors.PermissionDeniedError)
    assert "grant SELECT on all of its tables" in error.message


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("mysql://u:hunter2@127.0.0.1:1/db", "mysql://u@127.0.0.1:1/db is out of reach"),
        ("postgresql://u:hunter2@127.0.0.1:1/db", "postgresql://u@127.0.0.1:1/db is out of"),
        ("postgresql://u:hunter2@/", "names no database"),
        ("mysql://u:hunter2@host:no/db", "cannot be read: write mysql://user:password@host"),
        ("oracle://u:hunter2@host/db", "a database of oracle:// cannot be imported"),
    ],
)
def test_urls_that_lead_nowhere(url: str, what: str, tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy")
    assert what in refused(url, tmp_path).message


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("mysql://u@h/db", "pymysql", "mysql"),
        ("postgresql://u@h/db", "psycopg", "postgresql"),
        ("mysql://u@h/db", "sqlalchemy", "mysql"),
    ],
)
def test_a_driver_that_is_missing_is_named(
    url: str, module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    error = refused(url, tmp_path)
    assert f"the package {module}: pip install 'mlmd-eventstore[{extra}]'" in error.message


def test_a_database_of_any_encoding_is_read(postgresql: Server, tmp_path: Path) -> None:
    postgresql.execute("CREATE DATABASE bytes ENCODING SQL_ASCII TEMPLATE template0")
    assert "it has no table MLMDEnv" in refused(postgresql.url("bytes"), tmp_path).message


def test_a_password_from_the_surroundings(mariadb: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    database = mariadb.new_database()
    monkeypatch.setenv("MYSQL_PWD", PASSWORD)
    source = ServerSource(f"mysql://admin@127.0.0.1:{mariadb.port}/{database}")
    with pytest.raises(errors.FailedPreconditionError, match="no table MLMDEnv"):
        MlmdDatabase(source)
    source.close()
