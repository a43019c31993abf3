"""Stores over the logs of this project answer and keep as every store has to."""

from __future__ import annotations

from pathlib import Path

from eventstore.log import DirectoryLog, Log, MemoryLog
from eventstore.testing import StoreContract
from tests.contract.object_logs import InObjectStorage
from tests.contract.sql_logs import InSqlDatabases


class TestMemoryLog(StoreContract):
    def made(self, folder: Path) -> Log:
        return MemoryLog()


class TestDirectoryLog(StoreContract):
    def made(self, folder: Path) -> Log:
        return DirectoryLog.create(folder / "store", segment_records_max=4)


class TestPostgreSQLLog(InSqlDatabases, StoreContract):
    server_name = "postgresql"


class TestMariaDBLog(InSqlDatabases, StoreContract):
    server_name = "mariadb"


class TestS3Log(InObjectStorage, StoreContract):
    server_name = "s3"


class TestAzureLog(InObjectStorage, StoreContract):
    server_name = "azure"
