"""The log in a directory holds against other processes, deaths and a disk that fails."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from eventstore.log import DirectoryLog, Log
from eventstore.log.active_segment import ActiveSegmentFile
from eventstore.log.followed_segment import FollowedSegment
from eventstore.testing import SharedLogContract
from eventstore.testing.shared_contract import Opens
from tests.contract.object_logs import InObjectStorage
from tests.contract.sql_logs import InPostgreSQLAndS3, InSqlDatabases


def _fail(*_: Any) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@contextmanager
def _unsynced() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(FollowedSegment, "_sync", _fail)
        yield


@contextmanager
def _written_in_part(part: int | None) -> Iterator[None]:
    """So many bytes are written, or all, and cannot be taken back."""
    pwrite = os.pwrite

    def partly(descriptor: int, data: bytes, offset: int) -> int:
        pwrite(descriptor, data[:part], offset)
        _fail()
        raise AssertionError

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ActiveSegmentFile, "_make_room", _fail_not)
        patched.setattr(os, "pwrite", partly)
        patched.setattr(os, "ftruncate", _fail)
        yield


def _fail_not(*_: Any) -> None:
    """In the place of what would fail before."""


class TestDirectoryLog(SharedLogContract):
    def made(self, folder: Path) -> Log:
        return DirectoryLog.create(folder / "store", segment_records_max=40)

    def opens(self, log: Log) -> Opens:
        assert log.directory is not None
        return partial(DirectoryLog.open, log.directory, segment_records_max=40)

    def faults(self) -> Iterator[Any]:
        yield _unsynced()
        for part in (0, 50, None):
            yield _written_in_part(part)


class TestPostgreSQLLog(InSqlDatabases, SharedLogContract):
    server_name = "postgresql"


class TestPostgreSQLLogWithSegmentsInS3(InPostgreSQLAndS3, SharedLogContract):
    """The rows in a database, the files of segments in a bucket."""


class TestMariaDBLog(InSqlDatabases, SharedLogContract):
    server_name = "mariadb"


class TestS3Log(InObjectStorage, SharedLogContract):
    server_name = "s3"


class TestAzureLog(InObjectStorage, SharedLogContract):
    server_name = "azure"
