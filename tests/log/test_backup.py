"""Backups are whole, verified copies, or are not there."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

import eventstore
from eventstore import errors
from eventstore.cli.main import cli
from eventstore.log import DirectoryLog, backup
from eventstore.log.backup import copy_store
from eventstore.log.manifest import read_manifest
from eventstore.log.replacing import made_beside
from eventstore.log.verification import verify_directory
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import append, draft, memory_store, rotate
from tests.open_files import nothing_left_open


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A store with a sealed, a closed and an active segment, which is open elsewhere."""
    directory = tmp_path / "store"
    log = DirectoryLog.create(directory, segment_records_max=1_000)
    append(log, *(draft(number) for number in range(1, 4)))
    log.seal()
    append(log, draft(4))
    rotate(log)
    append(log, draft(5), draft(6))
    append(log, draft(7))
    log._acknowledged_descriptor, descriptor = -1, log._acknowledged_descriptor
    log.close()
    os.close(descriptor)
    return directory


def _files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def _records(directory: Path) -> list[object]:
    log = DirectoryLog.open(directory, read_only=True)
    try:
        return list(log.commits())
    finally:
        log.close()


def test_a_backup_has_all_records_and_leaves_its_source_alone(source: Path, tmp_path: Path) -> None:
    before = _files(source)
    done: list[tuple[int, int]] = []
    report = copy_store(source, tmp_path / "backup", lambda *counts: done.append(counts))
    assert (report.ok, report.records) == (True, 7)
    assert _files(source) == before
    assert _records(tmp_path / "backup") == _records(source)
    assert done[-1] == (14, 14)
    assert sorted(done) == done
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "store"]
    copy_store(tmp_path / "backup", tmp_path / "restored")
    log = DirectoryLog.open(tmp_path / "restored")
    append(log, draft(8))
    assert log.verify().ok
    log.close()


def test_a_backup_of_a_store_that_is_written_and_sealed_is_whole(tmp_path: Path) -> None:
    log = DirectoryLog.create(tmp_path / "store", segment_records_max=5)
    done = threading.Event()
    acknowledged = [append(log, draft(1)).last_position]

    def write() -> None:
        while not done.is_set():
            commit = append(log, draft(log.position + 1), draft(log.position + 2))
            # Only now: the log knows of a commit a moment before it is acknowledged.
            acknowledged.append(commit.last_position)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for number in range(5):
            before = acknowledged[-1]
            report = copy_store(tmp_path / "store", tmp_path / f"backup-{number}")
            assert report.position >= before
    finally:
        done.set()
        writing.join()
    commits = {commit.number: commit for commit in log.commits()}
    for number in range(5):
        found = _records(tmp_path / f"backup-{number}")
        assert found == [commits[n] for n in range(1, len(found) + 1)]
    log.close()


def test_a_segment_that_is_sealed_meanwhile_is_copied_as_it_is_then(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = backup._copied_segment

    def sealing_first(*arguments: object) -> object:
        log = DirectoryLog.open(source)
        log.seal()
        log.close()
        return copied(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(backup, "_copied_segment", sealing_first)
    assert copy_store(source, tmp_path / "backup").records == 7
    states = [entry.sealed for entry in read_manifest(tmp_path / "backup").segments]
    assert states == [True, True]


def _name(source: Path, number: int) -> str:
    return sorted(path.name for path in (source / "log").glob("0*"))[number]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_damaged_source_is_named_and_nothing_is_made(
    source: Path, tmp_path: Path, number: int
) -> None:
    path = source / "log" / _name(source, number)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if number < 2 else 1_500] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(errors.DataLossError, match=path.name):
        copy_store(source, tmp_path / "backup")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_copy_that_does_not_verify_is_not_kept(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the disk of the copy does not keep what is written to it."""
    write = backup.write_manifest

    def damaging(directory: Path, manifest: object) -> None:
        write(directory, manifest)  # type: ignore[arg-type]
        path = directory / "log" / _name(directory, 0)
        content = bytearray(path.read_bytes())
        content[100] ^= 1
        path.write_bytes(content)

    monkeypatch.setattr(backup, "write_manifest", damaging)
    with pytest.raises(errors.DataLossError):
        copy_store(source, tmp_path / "backup")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize("step", range(8))
def test_a_backup_that_dies_is_never_taken_for_a_whole_one(
    source: Path, tmp_path: Path, step: int
) -> None:
    child = os.fork()
    if child == 0:
        sync, steps = os.fsync, iter(range(100))

        def dying(descriptor: int) -> None:
            if next(steps) == step:
                os._exit(7)
            sync(descriptor)

        os.fsync = dying
        copy_store(source, tmp_path / "backup")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert not (tmp_path / "backup").exists()
    assert copy_store(source, tmp_path / "backup").records == 7
    assert verify_directory(tmp_path / "backup").ok
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "store"]


def _with_a_file(target: Path) -> None:
    target.write_text("years of work")


def _with_a_store(target: Path) -> None:
    DirectoryLog.create(target).close()


@pytest.mark.parametrize("prepare", [_with_a_file, _with_a_store])
def test_nothing_is_overwritten(
    source: Path, tmp_path: Path, prepare: Callable[[Path], None]
) -> None:
    target = tmp_path / "target"
    prepare(target)
    before = target.read_text() if target.is_file() else _files(target)
    with pytest.raises(errors.AlreadyExistsError, match="target"):
        copy_store(source, target)
    assert (target.read_text() if target.is_file() else _files(target)) == before


def test_targets_and_sources_that_will_not_do_are_named(source: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.NotFoundError, match="no store"):
        copy_store(tmp_path / "nothing", tmp_path / "backup")
    with pytest.raises(errors.NotFoundError, match="no directory"):
        copy_store(source, tmp_path / "missing" / "backup")
    with pytest.raises(errors.InvalidArgumentError, match="inside"):
        copy_store(source, source / "backup")
    with memory_store() as store, pytest.raises(errors.FailedPreconditionError, match="memory"):
        store.backup(tmp_path / "backup")
    (tmp_path / "empty").mkdir()
    assert copy_store(source, tmp_path / "empty").ok


def _with_an_empty_directory(target: Path) -> None:
    target.mkdir()


def _with_nothing(target: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("prepare", "error", "words"),
    [
        (_with_a_file, errors.AlreadyExistsError, "has appeared at .*target"),
        (_with_a_store, errors.AlreadyExistsError, "has appeared at .*target"),
        (_with_an_empty_directory, errors.UnavailableError, "moving the copy to .*target"),
        (_with_nothing, errors.UnavailableError, "moving the copy to .*target"),
    ],
)
def test_a_copy_that_cannot_take_its_name(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[Path], None],
    error: type[errors.StatusError],
    words: str,
) -> None:
    target = tmp_path / "target"

    def failing(_from: Path, to: Path) -> None:
        assert to == target
        prepare(target)
        raise OSError(errno.EIO, "the disk is gone")

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(error, match=words):
        copy_store(source, target)
    monkeypatch.undo()
    assert {path.name for path in tmp_path.iterdir()} <= {"store", "target"}


def test_two_backups_to_one_target_do_not_mix(source: Path, tmp_path: Path) -> None:
    with (
        made_beside(tmp_path / "backup", is_directory=True),
        pytest.raises(errors.UnavailableError, match="another process"),
    ):
        copy_store(source, tmp_path / "backup")
    with made_beside(tmp_path / "backup", is_directory=True) as made:
        # As when another begins while this one has just given its copy the name.
        made.rename(tmp_path / "whole")
        made.mkdir()
    assert made.is_dir()


def test_a_directory_beside_the_target_is_left_alone(source: Path, tmp_path: Path) -> None:
    beside = tmp_path / "backup.partial"
    beside.mkdir()
    _with_a_file(beside / "thesis")
    with pytest.raises(errors.AlreadyExistsError):
        copy_store(source, beside)
    assert copy_store(source, tmp_path / "backup").ok
    assert _files(beside) == {"thesis": b"years of work"}


def test_from_python_and_the_command_line(tmp_path: Path) -> None:
    with eventstore.open(tmp_path / "store") as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
        store.put_artifacts([mlmd.Artifact(type_id=type_id, name="one")])
        assert store.backup(tmp_path / "first").ok
        run = CliRunner().invoke(cli, ["backup", str(tmp_path / "store"), str(tmp_path / "second")])
        assert run.exit_code == 0, run.output
        assert f"{store.log_position()} records" in run.output
    shutil.rmtree(tmp_path / "store")
    run = CliRunner().invoke(cli, ["restore", str(tmp_path / "second"), str(tmp_path / "store")])
    assert run.exit_code == 0, run.output
    assert eventstore.restore(tmp_path / "first", tmp_path / "other").ok
    for name in ("store", "other"):
        with eventstore.open(tmp_path / name) as store:
            assert [node.name for node in store.get_artifacts()] == ["one"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to name open files")
def test_every_part_of_a_backup_is_durable_before_it_has_its_name(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "backup"
    synced: dict[str, int] = {}
    fsync = os.fsync

    def observing(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        parts = path.relative_to(tmp_path).as_posix()
        size = path.stat().st_size if path.is_file() else len([*path.iterdir()])
        synced[parts if target.exists() or path != tmp_path else "before"] = size
        fsync(descriptor)

    with monkeypatch.context() as patched, nothing_left_open():
        patched.setattr(os, "fsync", observing)
        copy_store(source, target)
    # After the copy has its name, the folder it is in.
    assert synced.pop(".") == 2
    synced.pop("before", None)
    copied = [path for path in (target / "log").iterdir() if path.name != "0000000003.arrows"]
    assert len(copied) == 3
    for path in copied:
        assert synced[f".backup.new/log/{path.name}"] == path.stat().st_size
    assert synced[".backup.new/log"] == 4
    assert synced[".backup.new"] == 2
    # What is written under another name first.
    for name in (".backup.new/log/0000000003.arrows.", ".backup.new/manifest.json."):
        assert any(one.startswith(name) and one.endswith(".tmp") for one in synced)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_backup_that_fails_leaves_nothing_open(
    source: Path, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    damage(source / "log" / "0000000002.arrows")
    with nothing_left_open(), pytest.raises(errors.DataLossError, match="segment 2"):
        copy_store(source, tmp_path / "backup")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_store_that_changes_all_the_time_is_not_waited_for(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    read = backup.read_manifest  # type: ignore[attr-defined]

    def changing(directory: Path) -> Any:
        manifest = read(directory)
        calls.append(directory)
        entry = msgspec.structs.replace(manifest.segments[1], file=f"{len(calls)}.arrows")
        return msgspec.structs.replace(manifest, segments=(manifest.segments[0], entry))

    (source / "log" / "0000000002.arrows").unlink()
    monkeypatch.setattr(backup, "read_manifest", changing)
    with pytest.raises(errors.UnavailableError, match="changes all the time: try again"):
        copy_store(source, tmp_path / "backup")
    assert len(calls) == 100
