"""No reader takes notice of a commit that its writer may still take back."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path

import pytest

import eventstore
from eventstore import errors
from eventstore.log import DirectoryLog
from eventstore.log.acknowledged import FILE_NAME
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import append, draft


def _segment(directory: Path) -> Path:
    (path,) = (directory / "log").glob("*.arrows")
    return path


def _names(store: eventstore.MetadataStore) -> list[str]:
    return [artifact.name for artifact in store.get_artifacts()]


def test_a_commit_whose_sync_fails_is_never_seen_by_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = eventstore.open(tmp_path / "store")
    type_id = writer.put_artifact_type(mlmd.ArtifactType(name="T"))
    readers = [
        eventstore.open(tmp_path / "store"),
        eventstore.open(tmp_path / "store", read_only=True),
    ]
    position = readers[0].log_position()
    sync = os.fdatasync

    def failing(descriptor: int) -> None:
        with monkeypatch.context() as working:
            working.setattr("os.fdatasync", sync)
            opened = eventstore.open(tmp_path / "store", read_only=True)
            for reader in (*readers, opened):
                assert reader.log_position() == position
                assert _names(reader) == []
            opened.close()
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("os.fdatasync", failing)
        with pytest.raises(errors.UnavailableError):
            writer.put_artifacts([mlmd.Artifact(type_id=type_id, name="phantom")])
    other = eventstore.open(tmp_path / "store")
    other.put_artifacts([mlmd.Artifact(type_id=type_id, name="genuine")])
    for reader in readers:
        assert _names(reader) == ["genuine"]
    for store in (writer, other, *readers):
        store.close()


def test_a_commit_is_seen_once_it_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = DirectoryLog.create(tmp_path / "store")
    reader = DirectoryLog.open(tmp_path / "store", read_only=True)
    seen = []
    sync = os.fdatasync

    def looking(descriptor: int) -> None:
        seen.append(reader.refresh())
        sync(descriptor)

    monkeypatch.setattr("os.fdatasync", looking)
    append(writer, draft(1))
    assert seen == [False]
    assert reader.refresh()
    assert reader.position == 1
    writer.close()
    reader.close()


@pytest.mark.parametrize("read_only", [True, False])
def test_what_a_writer_left_unacknowledged_is_synced_before_it_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_only: bool
) -> None:
    directory = tmp_path / "store"
    writer = DirectoryLog.create(directory)
    append(writer, draft(1))
    acknowledged = (directory / "log" / FILE_NAME).read_bytes()
    reader = DirectoryLog.open(directory, read_only=read_only)
    append(writer, draft(2))
    # As if it had died between its sync, or its write, and its acknowledgement.
    (directory / "log" / FILE_NAME).write_bytes(acknowledged)
    synced = []
    sync = os.fdatasync
    segment = os.stat(_segment(directory))

    def noting(descriptor: int) -> None:
        synced.append(os.path.samestat(os.fstat(descriptor), segment))
        sync(descriptor)

    monkeypatch.setattr("os.fdatasync", noting)
    assert reader.refresh()
    assert synced == [True]
    opened = DirectoryLog.open(directory, read_only=read_only)
    assert opened.position == 2
    assert synced == [True, True]
    for log in (writer, reader, opened):
        log.close()


def test_a_disk_that_fails_the_reader_shows_it_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "store"
    writer = DirectoryLog.create(directory)
    append(writer, draft(1))
    (directory / "log" / FILE_NAME).unlink()

    def failing(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("os.fdatasync", failing)
        with pytest.raises(errors.UnavailableError, match="syncing"):
            DirectoryLog.open(directory, read_only=True)
    writer.close()


def test_a_writer_that_is_stopped_between_write_and_sync_stops_no_reader(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    writer = DirectoryLog.create(directory)
    append(writer, draft(1))
    acknowledged = (directory / "log" / FILE_NAME).read_bytes()
    reader = DirectoryLog.open(directory)
    append(writer, draft(2))
    (directory / "log" / FILE_NAME).write_bytes(acknowledged)
    stopped = os.open(_segment(directory), os.O_RDWR)
    fcntl.flock(stopped, fcntl.LOCK_EX)
    opened = DirectoryLog.open(directory, read_only=True)
    assert not reader.refresh()
    assert (reader.position, opened.position) == (1, 1)
    assert [commit.last_position for commit in reader.commits()] == [1]
    os.close(stopped)
    assert reader.refresh()
    assert opened.refresh()
    for log in (writer, reader, opened):
        log.close()


def test_a_segment_that_was_replaced_by_one_as_long_is_noticed(tmp_path: Path) -> None:
    """As by copying a backup over an open store."""
    directory = tmp_path / "store"
    first = DirectoryLog.create(directory)
    append(first, draft(1))
    first.close()
    shutil.copytree(directory, tmp_path / "other")
    for copy, entity_id in ((directory, 2), (tmp_path / "other", 3)):
        log = DirectoryLog.open(copy)
        append(log, draft(entity_id))
        log.close()
    reader = DirectoryLog.open(directory, read_only=True)
    assert reader.position == 2
    replaced, other = _segment(directory), _segment(tmp_path / "other")
    assert replaced.stat().st_size == other.stat().st_size
    replaced.write_bytes(other.read_bytes())
    with pytest.raises(errors.DataLossError, match="replaced"):
        reader.refresh()
    reader.close()
