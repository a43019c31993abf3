"""Making a store: what is in the way of one, and what is durable when."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventstore import errors
from eventstore.log import DirectoryLog, creation
from eventstore.log.creation import create_store, make_directory, start_segment
from eventstore.log.manifest import read_manifest
from tests.builders import append, draft
from tests.crash.locks import is_locked


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, list[str]]]:
    """Every folder that is synced, with the names in it then."""
    seen: list[tuple[Path, list[str]]] = []
    fsync = os.fsync

    def observing(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_dir():
            seen.append((path, sorted(entry.name for entry in path.iterdir())))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", observing)
    return seen


def test_each_folder_that_is_made_is_made_for_good(
    tmp_path: Path, synced: list[tuple[Path, list[str]]]
) -> None:
    make_directory(tmp_path / "a" / "b" / "c")
    assert synced == [
        (tmp_path, ["a"]),
        (tmp_path / "a", ["b"]),
        (tmp_path / "a" / "b", ["c"]),
    ]
    synced.clear()
    make_directory(tmp_path / "a" / "b")
    assert synced == []


def test_what_a_new_store_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: list[tuple[Path, list[str]]]
) -> None:
    directory = tmp_path / "store"
    directory.mkdir()
    seen = []
    write_manifest = creation.write_manifest  # type: ignore[attr-defined]

    def observing(*arguments: Any) -> None:
        seen.append(is_locked(directory / "lock"))
        write_manifest(*arguments)

    monkeypatch.setattr(creation, "write_manifest", observing)
    monkeypatch.setattr("time.time_ns", lambda: 5_000_999)
    manifest = create_store(directory)
    assert seen == [True]
    assert not is_locked(directory / "lock")
    assert read_manifest(directory) == manifest
    assert (manifest.generation, manifest.segments, manifest.created_at) == (1, (), 5_000)
    active = manifest.active
    assert (active.number, active.first_position, active.file) == (1, 1, "0000000001.arrows")
    assert (directory / "log" / active.file).stat().st_size == active.header_bytes
    # One that died may have made the folder, and not have synced the one it is in.
    assert (tmp_path, ["store"]) in synced
    assert (directory / "log", ["0000000001.arrows"]) in synced
    assert synced[-1] == (directory, ["lock", "log", "manifest.json"])


def test_a_parent_that_may_not_be_opened_bars_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "store"
    directory.mkdir()
    sync_directory = creation.sync_directory  # type: ignore[attr-defined]

    def refusing(path: Path) -> None:
        if path == tmp_path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        sync_directory(path)

    monkeypatch.setattr(creation, "sync_directory", refusing)
    create_store(directory)
    DirectoryLog.open(directory).close()


def _file(name: str) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"years of work")

    return make


def _header_alone(directory: Path) -> None:
    (directory / "log").mkdir()
    path = directory / "log" / "0000000001.arrows"
    path.write_bytes(b"half of a header")


def _commits(directory: Path) -> None:
    log = DirectoryLog.create(directory / "other")
    append(log, draft(1))
    log.close()
    (directory / "other" / "log").rename(directory / "log")
    (directory / "log" / "acknowledged").unlink()
    for path in (directory / "other").iterdir():
        path.unlink()
    (directory / "other").rmdir()


@pytest.mark.parametrize(
    ("prepare", "error", "words"),
    [
        (lambda directory: None, None, ""),
        (lambda directory: (directory / "log").mkdir(), None, ""),
        (_file("lock"), None, ""),
        (_file("manifest.json.77.tmp"), None, ""),
        (_file("log/0000000001.arrows.77.tmp"), None, ""),
        (_header_alone, None, ""),
        (_file("manifest.json"), errors.AlreadyExistsError, "there is a store at .* already"),
        (_file("log/0000000002.arrows"), errors.DataLossError, "without its manifest.json"),
        (_file("log/0000000001.parquet"), errors.DataLossError, "without its manifest.json"),
        (_file("log/acknowledged"), errors.DataLossError, "without its manifest.json"),
        (_commits, errors.DataLossError, "holds commits, but the manifest.json of its store"),
        (
            _file("notes.txt"),
            errors.FailedPreconditionError,
            "neither empty nor a store",
        ),
        (_file("sealing.lock"), errors.FailedPreconditionError, "it holds .*sealing.lock"),
        (_file("manifest.tmp"), errors.FailedPreconditionError, "it holds .*manifest.tmp"),
        (_file("folder/file"), errors.FailedPreconditionError, "it holds .*folder"),
    ],
)
@pytest.mark.parametrize("is_before_the_lock", [True, False])
def test_what_is_in_the_way(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[Path], None],
    error: type[errors.StatusError] | None,
    words: str,
    is_before_the_lock: bool,
) -> None:
    """Before the lock is asked for, when it leaves no file, and once it is had."""
    directory = tmp_path / "store"
    directory.mkdir()
    if is_before_the_lock:
        prepare(directory)
    else:
        exclusive = creation.exclusive  # type: ignore[attr-defined]

        def after_another(path: Path) -> Any:
            with monkeypatch.context() as patched:
                patched.setattr(creation, "exclusive", exclusive)
                prepare(directory)
            return exclusive(path)

        monkeypatch.setattr(creation, "exclusive", after_another)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    if error is None:
        create_store(directory)
        assert not [*directory.rglob("*.tmp")]
        log = DirectoryLog.open(directory)
        append(log, draft(1))
        assert log.verify().ok
        log.close()
        return
    with pytest.raises(error, match=words):
        create_store(directory)
    if is_before_the_lock and prepare is not _commits:
        assert {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_segment_that_is_there_is_begun_anew_only_without_commits(
    tmp_path: Path, more: int
) -> None:
    store_id = create_store(tmp_path / "store").store_id
    path = tmp_path / "store" / "log" / "0000000002.arrows"
    first = start_segment(path.parent, store_id, 2, first_position=7)
    path.write_bytes(b"x" * (first.header_bytes + more))
    if more > 0:
        with pytest.raises(errors.DataLossError, match="holds commits"):
            start_segment(path.parent, store_id, 2, first_position=7)
    else:
        assert start_segment(path.parent, store_id, 2, first_position=7) == first
        assert path.stat().st_size == first.header_bytes
