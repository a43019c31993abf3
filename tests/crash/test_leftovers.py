"""What may be removed, taken back or said after a fault, and under which lock."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path

import pytest

import eventstore
from eventstore import errors
from eventstore.log import DirectoryLog, sealing
from eventstore.log.backup import copy_store
from eventstore.log.manifest import Manifest, read_manifest
from eventstore.log.replacing import settle
from eventstore.log.verification import verify_directory
from tests.builders import append, draft
from tests.crash.locks import is_locked


@pytest.fixture
def store(tmp_path: Path) -> Path:
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1), draft(2))
    append(log, draft(3))
    log.close()
    return tmp_path / "store"


def is_active_locked(directory: Path) -> bool:
    return is_locked(directory / "log" / read_manifest(directory).active.file)


def test_a_file_with_the_active_segments_number_is_no_leftover(store: Path) -> None:
    stray = store / "log" / "0000000001.parquet"
    stray.write_bytes(b"years of work")
    with eventstore.open(store):
        assert stray.exists()
    assert any(str(stray) in finding.what for finding in verify_directory(store).findings)


@pytest.mark.parametrize("name", ["²", "٣", "²٣.parquet"])
def test_numbers_that_no_segment_has_bar_no_opening(store: Path, name: str) -> None:
    stray = store / "log" / name
    stray.write_bytes(b"years of work")
    with eventstore.open(store):
        assert stray.exists()
    assert any(str(stray) in finding.what for finding in verify_directory(store).findings)


def test_leftovers_are_removed_under_the_writers_lock(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = DirectoryLog.open(store)
    seen = []
    remove = sealing.remove_leftovers

    def observing(folder: Path, manifest: Manifest) -> None:
        seen.append(is_active_locked(store))
        remove(folder, manifest)

    monkeypatch.setattr(sealing, "remove_leftovers", observing)
    log.seal()
    assert seen
    assert all(seen)
    assert not is_active_locked(store)
    log.close()


def test_an_opening_waits_for_no_writer(store: Path) -> None:
    left = store / "manifest.json.77.tmp"
    left.write_bytes(b"half")
    writer = DirectoryLog.open(store, read_only=True)
    with (store / "log" / writer.manifest.active.file).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        reader = DirectoryLog.open(store)
        assert reader.position == 3
        assert left.exists()
    append(reader, draft(4))
    reader.close()
    writer.close()
    DirectoryLog.open(store).close()
    assert not left.exists()


@pytest.mark.parametrize("is_synced", [True, False])
def test_what_is_said_when_a_commit_is_taken_back(
    store: Path, monkeypatch: pytest.MonkeyPatch, is_synced: bool
) -> None:
    log = DirectoryLog.open(store)
    size = (store / "log" / "0000000001.arrows").stat().st_size
    calls: list[tuple[str, int]] = []
    ftruncate, fsync = os.ftruncate, os.fsync

    def failing(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def truncate(descriptor: int, length: int) -> None:
        calls.append(("ftruncate", descriptor))
        ftruncate(descriptor, length)

    def sync(descriptor: int) -> None:
        calls.append(("fsync", descriptor))
        if not is_synced:
            failing(descriptor)
        fsync(descriptor)

    with monkeypatch.context() as patched:
        for name, call in (("fdatasync", failing), ("ftruncate", truncate), ("fsync", sync)):
            patched.setattr(os, name, call)
        words = "the commit was taken back" if is_synced else "whether the commit was kept is not"
        with pytest.raises(errors.UnavailableError, match=words) as raised:
            append(log, draft(4))
    assert (raised.type is errors.OutcomeUnknownError) is not is_synced
    assert [name for name, _ in calls] == ["ftruncate", "fsync"]
    assert len({descriptor for _, descriptor in calls}) == 1
    assert (store / "log" / "0000000001.arrows").stat().st_size == size
    log.close()


def test_a_backup_says_how_far_it_goes(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    assert copy_store(store, copy).records == 3
    path = copy / "log" / "0000000001.arrows"
    log = DirectoryLog.open(store, read_only=True)
    end = log._active._ends.offsets[0]
    log.close()
    path.write_bytes(path.read_bytes()[:end])
    (finding,) = verify_directory(copy).findings
    assert "commit 2 is missing" in finding.what
    with pytest.raises(errors.DataLossError, match="missing, though it was acknowledged"):
        DirectoryLog.open(copy)


def test_a_lock_that_cannot_be_taken_is_said(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = DirectoryLog.open(store)

    def full(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", full)
        with pytest.raises(errors.StatusError, match="No locks available"):
            log.reserved(lambda: None)
        with pytest.raises(errors.StatusError, match="No locks available"):
            append(log, draft(4))

    def put() -> None:
        assert is_active_locked(store)
        append(log, draft(4))

    log.reserved(put)
    assert not is_active_locked(store)
    log.close()


def test_what_is_left_of_a_replaced_store_is_removed(store: Path) -> None:
    old = store.with_name(".store.old")
    shutil.copytree(store, old)
    # Its manifest goes first, so that what is left of it is no store.
    (old / "manifest.json").unlink()
    settle(store)
    assert not old.exists()
    assert verify_directory(store).ok


def test_an_old_store_that_is_another_one_stays(store: Path, tmp_path: Path) -> None:
    DirectoryLog.create(tmp_path / "other").close()
    old = (tmp_path / "other").rename(store.with_name(".store.old"))
    settle(store)
    assert verify_directory(old).ok
    assert verify_directory(store).ok


def test_what_a_living_process_makes_beside_a_store_is_left_alone(store: Path) -> None:
    new, old = store.with_name(".store.new"), store.with_name(".store.old")
    new.mkdir()
    descriptor = os.open(new, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    settle(store)
    assert new.exists()
    store.rename(old)
    with pytest.raises(errors.UnavailableError, match="another process is packing"):
        settle(store)
    assert new.exists()
    os.close(descriptor)
    settle(store)
    assert not new.exists()
    assert not old.exists()
    assert verify_directory(store).ok


@pytest.mark.parametrize("records", [1, 7, 8, 9, 63, 64, 65, 72, 73, 130])
def test_commits_of_any_size_are_read_as_they_were_put(tmp_path: Path, records: int) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    committed = append(log, *(draft(number) for number in range(1, records + 1)), actor=None)
    (read,) = log.commits()
    assert read == committed
    for batch in log.scan(columns=["position", "actor", "previous", "salt", "commitment"]):
        batch.validate(full=True)
        assert batch["actor"].null_count == batch["previous"].null_count == records
    log.close()
    assert verify_directory(tmp_path / "store").ok
