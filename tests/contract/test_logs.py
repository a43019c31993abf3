"""The logs of this project pass what every log has to pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventstore import errors
from eventstore.log import DirectoryLog, Log, MemoryLog
from eventstore.testing import LogContract
from tests.builders import append, draft
from tests.contract.object_logs import InObjectStorage
from tests.contract.sql_logs import InPostgreSQLAndS3, InSqlDatabases


class TestMemoryLog(LogContract):
    """In memory nothing outlives the log."""

    def made(self, folder: Path) -> Log:
        return MemoryLog()

    def test_it_has_no_files(self, log: Log, tmp_path: Path) -> None:
        assert log.cache_folder() is None
        assert log.cache_folder(make=True) is None
        with pytest.raises(errors.FailedPreconditionError, match="in memory has no files"):
            log.sealed_files()
        with pytest.raises(errors.FailedPreconditionError, match="no files to back up"):
            log.backup(tmp_path / "copy")


class TestDirectoryLog(LogContract):
    """In a directory, with segments of a few records."""

    def made(self, folder: Path) -> Log:
        return DirectoryLog.create(folder / "store", segment_records_max=4)

    def again(self, log: Log) -> Log:
        assert isinstance(log, DirectoryLog)
        return DirectoryLog.open(log.directory, read_only=True)

    def test_its_files(self, log: Log, tmp_path: Path) -> None:
        for number in range(1, 7):
            append(log, draft(2 * number), draft(2 * number + 1))
        before = self.again(log)
        log.seal()
        files = log.sealed_files()
        assert [(file.first_position, file.last_position) for file in files] == [
            (1, 4),
            (5, 8),
            (9, 12),
        ]
        assert all(file.path.stat().st_size == file.file_bytes for file in files)
        # Though they were sealed after it was opened.
        assert before.sealed_files() == files
        assert log.backup(tmp_path / "copy").position == 12

    def test_caches_lie_in_the_store_as_long_as_it_is_there(self, log: Log, tmp_path: Path) -> None:
        folder = log.cache_folder()
        assert folder is not None
        assert not folder.exists()
        assert log.cache_folder(make=True) == folder
        assert folder.is_dir()
        folder.rmdir()
        (tmp_path / "store").rename(tmp_path / "moved")
        with pytest.raises(FileNotFoundError):
            log.cache_folder(make=True)
        assert log.cache_folder() == folder


class TestPostgreSQLLog(InSqlDatabases, LogContract):
    server_name = "postgresql"


class TestPostgreSQLLogWithSegmentsInS3(InPostgreSQLAndS3, LogContract):
    """The rows in a database, the files of segments in a bucket."""


class TestMariaDBLog(InSqlDatabases, LogContract):
    server_name = "mariadb"


class TestS3Log(InObjectStorage, LogContract):
    server_name = "s3"


class TestAzureLog(InObjectStorage, LogContract):
    server_name = "azure"
