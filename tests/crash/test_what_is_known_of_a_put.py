"""What a put that fails says of its commit, and what a sealing takes for its source."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from eventstore import errors
from eventstore.log import DirectoryLog
from eventstore.log.followed_segment import FollowedSegment
from eventstore.log.ipc_stream import END_OF_STREAM
from eventstore.log.manifest import read_manifest, write_manifest
from eventstore.log.stores import sealed_files_of
from tests.attacks.one_segment import path_of, rewrite
from tests.builders import append, draft, rotate


@pytest.fixture
def log(tmp_path: Path) -> DirectoryLog:
    made = DirectoryLog.create(tmp_path / "store")
    append(made, draft(1))
    return made


@pytest.mark.parametrize(
    ("interruption", "raised"),
    [(KeyboardInterrupt(), KeyboardInterrupt), (MemoryError(), errors.OutcomeUnknownError)],
)
def test_an_interrupted_put_whose_segment_cannot_be_read_again(
    log: DirectoryLog,
    monkeypatch: pytest.MonkeyPatch,
    interruption: BaseException,
    raised: type[BaseException],
) -> None:
    """No error of the second failure's, which would say that nothing was appended."""
    calls: list[object] = []

    def broken(segment: FollowedSegment) -> None:
        calls.append(segment)
        if len(calls) == 1:
            raise interruption
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(FollowedSegment, "_sync", broken)
        with pytest.raises(raised) as found:
            append(log, draft(2))
    assert found.type is raised
    with pytest.raises(errors.UnavailableError, match="reopen the store"):
        append(log, draft(3))
    log.close()
    # It was kept after all.
    again = DirectoryLog.open(log.directory)
    assert again.position == 2
    append(again, draft(3))
    assert again.verify().ok
    again.close()


@pytest.mark.parametrize("part", [0, 50, None], ids=["nothing", "some", "all"])
def test_a_put_that_can_neither_be_written_nor_taken_back(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch, part: int | None
) -> None:
    """Whatever reached the file is still there, and may be the whole commit."""
    pwrite = os.pwrite

    def refused(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def partly(descriptor: int, data: bytes, offset: int) -> int:
        pwrite(descriptor, data[:part], offset)
        refused()
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr(log._active, "_make_room", lambda _: None)
        patched.setattr(os, "pwrite", partly)
        patched.setattr(os, "ftruncate", refused)
        with pytest.raises(errors.OutcomeUnknownError, match=r"appending to .*reopen the store"):
            append(log, draft(2))
    with pytest.raises(errors.UnavailableError, match="reopen the store"):
        append(log, draft(3))
    log.close()
    again = DirectoryLog.open(log.directory)
    assert again.position == (2 if part is None else 1)
    append(again, draft(3))
    assert again.verify().ok
    again.close()


def test_a_lock_that_cannot_be_given_back(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit is there, and is not to be put again."""
    flock, close, lock = fcntl.flock, os.close, log._lock

    def unlocking_fails(descriptor: Any, operation: int) -> None:
        if operation == fcntl.LOCK_UN and descriptor == lock.descriptor:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        flock(descriptor, operation)

    def closing_fails(descriptor: int) -> None:
        close(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", unlocking_fails)
        patched.setattr(os, "close", closing_fails)
        commit = append(log, draft(2))
    assert commit.number == 2
    append(log, draft(3))
    assert log.verify().ok
    log.close()


def test_a_closed_segment_that_was_cut_is_not_sealed(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though what is left of it is whole: else it would look sound, and the file would be gone."""
    monkeypatch.setattr(log, "_seal_closed_in_background", lambda: None)
    end = log._active.end
    path = log._active.path
    append(log, draft(2))
    rotate(log)
    append(log, draft(3))
    whole = path.read_bytes()
    path.write_bytes(whole[:end] + END_OF_STREAM)
    with pytest.raises(errors.DataLossError, match=r"1.arrows is damaged: .* SHA-256"):
        log.seal()
    with pytest.raises(errors.DataLossError, match="is damaged"):
        list(log.commits())
    path.write_bytes(whole)
    log.seal()
    assert [commit.number for commit in log.commits()] == [1, 2, 3]
    assert log.verify().ok
    log.close()


def test_a_segment_that_ended_without_a_commit_is_put_to(tmp_path: Path) -> None:
    """Its writer was to put a sealed segment in its place, and died before."""
    DirectoryLog.create(tmp_path / "store").close()
    with (tmp_path / "store/log/0000000001.arrows").open("ab") as file:
        file.write(END_OF_STREAM)
    reader = DirectoryLog.open(tmp_path / "store", read_only=True)
    assert reader.verify().ok
    log = DirectoryLog.open(tmp_path / "store")
    commit = append(log, draft(1))
    assert reader.refresh()
    assert [*reader.commits()] == [commit]
    for opened in (reader, log):
        opened.close()


def test_the_files_of_a_store_that_has_taken_the_place_of_another(
    log: DirectoryLog, tmp_path: Path
) -> None:
    log.seal()
    other = DirectoryLog.create(tmp_path / "other")
    other.close()
    (tmp_path / "store").rename(tmp_path / "moved")
    (tmp_path / "other").rename(tmp_path / "store")
    with pytest.raises(errors.FailedPreconditionError, match="holds another store now"):
        log.sealed_files()
    log.close()


def test_a_manifest_that_no_store_has_written_names_no_file(log: DirectoryLog) -> None:
    """Neither one to read nor, while the store is open, one to seal and then remove."""
    append(log, draft(2))
    log.seal()
    manifest = read_manifest(log.directory)
    (segment,) = manifest.segments
    for changes in ({"file": "../../other.parquet"}, {"sealed": False, "file": "../x.arrows"}):
        forged = msgspec.structs.replace(segment, **changes)
        write_manifest(log.directory, msgspec.structs.replace(manifest, segments=(forged,)))
        for ask in (log.sealed_files, lambda: sealed_files_of(log.directory), log.seal):
            with pytest.raises(errors.DataLossError, match="segment 1 cannot be"):
                ask()
    write_manifest(log.directory, manifest)
    append(log, draft(3))
    log.close()


def test_a_commit_ends_in_its_segment(log: DirectoryLog) -> None:
    log.seal()
    append(log, draft(2))
    log.seal()
    log.close()
    for number, name, value in ((1, "tree_head", None), (2, "commit", 1)):
        path = path_of(log.directory, number)
        table = parquet.read_table(path)
        field = table.schema.field(name)
        column = table.column_names.index(name)
        parquet.write_table(table.set_column(column, field, pa.array([value], field.type)), path)
        rewrite(log.directory, number, path.read_bytes())
    with (
        closing(DirectoryLog.open(log.directory, read_only=True)) as reader,
        pytest.raises(errors.DataLossError, match="not the last of a commit"),
    ):
        list(reader.commits())
