"""Stores in SQL databases are opened, or one line says why not; no password is told anywhere."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
import traceback
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from sqlalchemy import Connection, MetaData
from sqlalchemy.exc import ProgrammingError

import eventstore
from eventstore import errors
from eventstore.log.sql import connecting, database
from eventstore.log.sql.opening import open_database
from eventstore.log.sql.schema import TABLES
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import put_types
from tests.contract.sql_logs import config_of, database_of
from tests.sql_servers import PASSWORD, Server


def open_url(url: str, *, creates: bool = True) -> None:
    open_database(connecting.of_url(url), creates=creates).close()


def refusal(url: str, caplog: pytest.LogCaptureFixture) -> errors.StatusError:
    """The error of opening a URL, which tells no password, nor does anything else."""
    with caplog.at_level(logging.DEBUG), pytest.raises(errors.StatusError) as met:
        open_url(url)
    told = "".join(traceback.format_exception(met.value)) + caplog.text + repr(met.value)
    for password in (PASSWORD, quote(PASSWORD, safe=""), "an0ther"):
        assert password not in told
    assert "\n" not in met.value.message
    return met.value


def test_a_store_is_opened_by_url_and_by_configuration(sql_server: Server) -> None:
    name = sql_server.new_database()
    with contextlib.closing(open_database(connecting.of_url(sql_server.url(name)))) as log:
        assert log.name == f"{sql_server.scheme}://admin@127.0.0.1:{sql_server.port}/{name}"
        assert PASSWORD not in repr(log.__dict__)
    with eventstore.MetadataStore(config_of(sql_server, name)) as store:
        put_types(store)
        assert {kind.name for kind in store.get_execution_types()} >= {"Train"}
    with contextlib.closing(open_database(database_of(sql_server, name), creates=False)) as log:
        assert log.commit_number > 1
        assert log.verify().ok


def test_a_store_is_opened_by_eventstore_open(sql_server: Server) -> None:
    url = sql_server.url(sql_server.new_database())
    with eventstore.open(url, actor="somebody") as store:
        type_ids = put_types(store)
        assert PASSWORD not in repr(store)
    with eventstore.open(url, read_only=True) as store:
        assert store.get_artifact_type("DataSet").id == type_ids[0]
        assert {commit.actor for commit in store.changes()} >= {"somebody"}


def test_a_database_is_made_unless_that_is_to_be_skipped(sql_server: Server) -> None:
    config = config_of(sql_server, "made-by config")
    (chosen,) = (config.mysql, config.postgresql)[sql_server.scheme != "mysql" :][:1]
    chosen.skip_db_creation = True
    with pytest.raises(RuntimeError, match="made-by config"):
        eventstore.MetadataStore(config)
    chosen.skip_db_creation = False
    for _ in range(2):
        with eventstore.MetadataStore(config) as store:
            store.put_artifact_type(mlmd.ArtifactType(name="T"))


def test_what_is_wrong_with_the_address_is_said_in_a_line(
    sql_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    name = sql_server.new_database()
    met = refusal(sql_server.url(name, password="an0ther"), caplog)
    assert isinstance(met, errors.UnauthenticatedError)
    assert "check the user and the password" in met.message
    met = refusal(sql_server.url("n0ne"), caplog)
    assert isinstance(met, errors.NotFoundError)
    assert "n0ne" in met.message
    for url in (
        f"{sql_server.scheme}://127.0.0.1/",
        f"{sql_server.scheme}://a:an0ther@b/c?d=an0ther",
    ):
        assert isinstance(refusal(url, caplog), errors.InvalidArgumentError)
    config = mlmd.ConnectionConfig()
    config.mysql.SetInParent()
    with pytest.raises(RuntimeError, match=r"set mysql\.database"):
        eventstore.MetadataStore(config)
    config.postgresql.port = "many"
    config.postgresql.dbname = "a"
    with pytest.raises(RuntimeError, match="'many'"):
        eventstore.MetadataStore(config)


def test_a_password_may_have_any_characters(
    sql_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    name, password = sql_server.new_database(), "an0ther-pässwort-密-😀"
    if sql_server.scheme == "mysql":
        sql_server.execute(f"CREATE USER wide IDENTIFIED BY '{password}'")
        sql_server.execute(f"GRANT ALL ON {name}.* TO wide")
    else:
        sql_server.execute(f"CREATE USER wide PASSWORD '{password}'")
        sql_server.execute(f"ALTER DATABASE {name} OWNER TO wide")
    open_url(sql_server.url(name, user="wide", password=password))
    met = refusal(sql_server.url(name, user="wide", password=f"{password}!"), caplog)
    assert isinstance(met, errors.UnauthenticatedError)


def test_a_database_has_any_encoding(postgresql: Server) -> None:
    for encoding in ("SQL_ASCII", "LATIN1"):
        postgresql.execute(f"CREATE DATABASE {encoding} ENCODING {encoding} TEMPLATE template0")
        with eventstore.open(postgresql.url(encoding.lower())) as store:
            store.put_artifact_type(mlmd.ArtifactType(name="密"))
        with eventstore.open(postgresql.url(encoding.lower()), read_only=True) as store:
            assert store.get_artifact_type("密").id
            assert store.verify().ok


def test_a_server_that_is_not_there_is_waited_for_as_often_as_is_configured(
    sql_server: Server,
) -> None:
    with pytest.raises(errors.UnavailableError, match="refused"):
        open_database(database_of(sql_server, "any", port=1, retries_max=1))


def test_a_mistyped_address_is_answered_at_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "time", SimpleNamespace(sleep=pytest.fail, monotonic=lambda: 0.0))
    for scheme in ("postgresql", "mysql"):
        for host in ("127.0.0.1:1", "no-such-host.invalid"):
            met = refusal(f"{scheme}://u:an0ther@{host}/name", caplog)
            assert isinstance(met, errors.UnavailableError)
            assert host.partition(":")[0] in met.message


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:an0ther@127.0.0.1:99999/name",
        "postgresql://u:an0ther@127.0.0.1:99999/name",
        "postgresql://u:an0ther@127.0.0.1/name?sslmode=sure",
        "postgresql://u:an0ther@127.0.0.1/name?connect_timeout=soon",
    ],
)
def test_what_no_server_could_take_is_refused_at_once(
    url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "time", SimpleNamespace(sleep=pytest.fail, monotonic=lambda: 0.0))
    assert isinstance(refusal(url, caplog), errors.InvalidArgumentError)


@pytest.mark.parametrize("scheme", ["mysql", "postgresql"])
def test_what_listens_and_is_no_such_server_is_not_waited_for(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1_000, 60))
    monkeypatch.setattr(
        database, "time", SimpleNamespace(sleep=pytest.fail, monotonic=lambda: next(clock))
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up() -> None:
            while True:
                try:
                    listening.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=hang_up, daemon=True).start()
        with pytest.raises(errors.UnavailableError):
            open_url(f"{scheme}://u:p@127.0.0.1:{listening.getsockname()[1]}/name")
        listening.shutdown(socket.SHUT_RDWR)


def test_a_store_is_opened_that_another_process_is_making(sql_server: Server) -> None:
    create_all = MetaData.create_all
    others = [*TABLES]

    def overtaken(self: MetaData, connection: Connection) -> None:
        if others:
            others.pop(0).create(connection)
            raise ProgrammingError("CREATE TABLE", {}, Exception("it exists"))
        create_all(self, connection)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(MetaData, "create_all", overtaken)
        open_url(sql_server.url(sql_server.new_database()))


def test_tables_of_others_and_of_newer_versions_are_refused(
    sql_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    name = sql_server.new_database()
    sql_server.execute("CREATE TABLE MLMDEnv (schema_version INTEGER)", database=name)
    met = refusal(sql_server.url(name), caplog)
    assert isinstance(met, errors.FailedPreconditionError)
    assert "has the tables of ML Metadata" in met.message

    name = sql_server.new_database()
    open_url(sql_server.url(name))
    sql_server.execute("UPDATE eventstore_log SET format_version = 3", database=name)
    met = refusal(sql_server.url(name), caplog)
    assert isinstance(met, errors.FailedPreconditionError)
    assert "format version 3; this version reads up to 2: upgrade" in met.message

    name = sql_server.new_database()
    with pytest.raises(errors.NotFoundError, match="there is no store at"):
        open_url(sql_server.url(name), creates=False)


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(errors.FailedPreconditionError, match=r"pip install .*\[mysql\]"):
        connecting.of_url("mysql://user:secret@localhost/name")


def test_unusable_options_of_tls_are_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="options of TLS"):
        connecting.of_url(f"mysql://u:p@localhost/n?ssl_ca={tmp_path / 'none.pem'}")
    for said in ("maybe", ""):
        with pytest.raises(errors.InvalidArgumentError, match="write true or false"):
            connecting.of_url(f"mysql://u@h/db?ssl_verify_server_cert={said}")
    with pytest.raises(errors.InvalidArgumentError, match="no option ssl_color of mysql"):
        connecting.of_url("mysql://u:p@localhost/n?ssl_color=red")
    with pytest.raises(errors.InvalidArgumentError, match="write a number of seconds"):
        connecting.of_url("mysql://u:p@localhost/n?read_timeout=long")
