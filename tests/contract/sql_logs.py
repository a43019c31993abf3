"""Logs in SQL databases, for the tests of what holds for every log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import partial
from typing import Any, Literal
from uuid import UUID

import pytest
from sqlalchemy import Insert

from eventstore.log import Log
from eventstore.log.sql import SqlLog, connecting
from eventstore.log.sql.database import Database
from eventstore.log.sql.opening import open_database
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.object_servers import ObjectServer
from tests.sql_servers import PASSWORD, Server


def database_of(
    server: Server, name: str, *, port: int | None = None, retries_max: int | None = None
) -> Database:
    """A database of a server, by its administrator."""
    config = config_of(server, name, port=port)
    if retries_max is not None:
        config.retry_options.max_num_retries = retries_max
    return connecting.of_config(config)


def config_of(server: Server, name: str, *, port: int | None = None) -> mlmd.ConnectionConfig:
    """MLMD's configuration of it."""
    who = {"host": "127.0.0.1", "user": "admin", "password": PASSWORD}
    config = mlmd.ConnectionConfig()
    if server.scheme == "mysql":
        config.mysql.MergeFrom(
            mlmd.MySQLDatabaseConfig(database=name, port=port or server.port, **who)
        )
    else:
        config.postgresql.MergeFrom(
            mlmd.PostgreSQLDatabaseConfig(dbname=name, port=str(port or server.port), **who)
        )
    return config


def opened(config: bytes) -> SqlLog:
    """The log that a configuration names: for other processes, too."""
    database = connecting.of_config(mlmd.ConnectionConfig.FromString(config))
    return open_database(database, segment_records_max=40)


@contextmanager
def losing(where: Literal["before", "after"], times: int) -> Iterator[None]:
    """So many insertions of commits lose their connection before or after they are done."""
    run, left = Database._run, times

    def lose(self: Database, statement: Any, parameters: Any) -> Any:
        nonlocal left
        is_lost = isinstance(statement, Insert) and left > 0
        if not is_lost or where == "after":
            found = run(self, statement, parameters)
        if is_lost:
            left -= 1
            raise self._driver.OperationalError(2013, "the connection was cut")
        return found

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Database, "_run", lose)
        yield


class InSqlDatabases:
    """Makes logs, each in a database of its own, and closes them."""

    server_name: str
    segments: str | None = None
    """Where in object storage their segments lie."""

    @pytest.fixture(autouse=True)
    def _server(self, request: pytest.FixtureRequest) -> Iterator[None]:
        self.server: Server = request.getfixturevalue(self.server_name)
        self.names: dict[UUID, str] = {}
        with ExitStack() as self.opened:
            yield

    def made(self, folder: object) -> Log:
        return self.open(self.server.new_database())

    def again(self, log: Log) -> Log:
        return self.open(self.names[log.store_id], read_only=True)

    def opens(self, log: Log) -> Callable[[], Log]:
        config = config_of(self.server, self.names[log.store_id])
        config.retry_options.max_num_retries = 2
        return partial(opened, config.SerializeToString())

    def faults(self) -> Iterator[AbstractContextManager[object]]:
        for times in (1, 9):
            yield losing("before", times)
            yield losing("after", times)

    def open(self, name: str, *, read_only: bool = False) -> SqlLog:
        database = database_of(self.server, name)
        log = open_database(
            database, read_only=read_only, segment_records_max=4, segments=self.segments
        )
        self.names[log.store_id] = name
        return self.opened.enter_context(closing(log))


class InPostgreSQLAndS3(InSqlDatabases):
    """In databases of PostgreSQL, with sealed segments in S3."""

    server_name = "postgresql"

    @pytest.fixture(autouse=True)
    def _segments(self, s3: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        self.segments = s3.url(s3.new_prefix())
