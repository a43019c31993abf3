"""The logs of this project erase as every log has to."""

from __future__ import annotations

from pathlib import Path

from eventstore.log import DirectoryLog, Log, MemoryLog
from eventstore.testing import ErasingContract
from tests.contract.object_logs import InObjectStorage
from tests.contract.sql_logs import InPostgreSQLAndS3, InSqlDatabases


class TestMemoryLog(ErasingContract):
    def made(self, folder: Path) -> Log:
        return MemoryLog()


class TestDirectoryLog(ErasingContract):
    def made(self, folder: Path) -> Log:
        return DirectoryLog.create(folder / "store", segment_records_max=4)

    def again(self, log: Log) -> Log:
        assert isinstance(log, DirectoryLog)
        return DirectoryLog.open(log.directory, read_only=True)


class TestPostgreSQLLog(InSqlDatabases, ErasingContract):
    server_name = "postgresql"


class TestPostgreSQLLogWithSegmentsInS3(InPostgreSQLAndS3, ErasingContract):
    """The rows in a database, the files of segments in a bucket."""


class TestMariaDBLog(InSqlDatabases, ErasingContract):
    server_name = "mariadb"


class TestS3Log(InObjectStorage, ErasingContract):
    server_name = "s3"


class TestAzureLog(InObjectStorage, ErasingContract):
    server_name = "azure"
