"""Logs in SQL databases, for the tests of what holds for every log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from eventstore.log import Log
from eventstore.log.sql import SqlLog, connecting
from eventstore.log.sql.database import Database
from eventstore.log.sql.opening import open_database
from eventstore.proto import metadata_store_pb2 as mlmd
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


class InSqlDatabases:
    """Makes logs, each in a database of its own, and closes them."""

    server_name: str

    @pytest.fixture(autouse=True)
    def _server(self, request: pytest.FixtureRequest) -> Iterator[None]:
        self.server: Server = request.getfixturevalue(self.server_name)
        self.names: dict[int, str] = {}
        with ExitStack() as self.opened:
            yield

    def made(self, folder: object) -> Log:
        return self.open(self.server.new_database())

    def again(self, log: Log) -> Log:
        return self.open(self.names[id(log)], read_only=True)

    def open(self, name: str, *, read_only: bool = False) -> SqlLog:
        database = database_of(self.server, name)
        log = open_database(database, read_only=read_only, segment_records_max=4)
        self.names[id(log)] = name
        return self.opened.enter_context(closing(log))
