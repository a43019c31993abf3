"""Whatever happens to the manifest of an open store, no put is acknowledged that nobody finds."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.log import DirectoryLog, store_place
from eventstore.log.manifest import MANIFEST_NAME
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import append, draft


def _remove(manifest: Path) -> None:
    manifest.unlink()


def _cut(manifest: Path) -> None:
    os.truncate(manifest, manifest.stat().st_size // 2)


def _empty(manifest: Path) -> None:
    os.truncate(manifest, 0)


def _flip(manifest: Path) -> None:
    content = bytearray(manifest.read_bytes())
    content[len(content) // 2] ^= 1
    manifest.write_bytes(content)


def _replace_by_a_folder(manifest: Path) -> None:
    manifest.unlink()
    manifest.mkdir()


def _active(manifest: bytes) -> object:
    return json.loads(manifest)["manifest"]["active"]


_DAMAGES = [_remove, _cut, _empty, _flip, _replace_by_a_folder]


@pytest.mark.parametrize("damage", _DAMAGES)
@pytest.mark.parametrize("has_put", [True, False])
def test_no_put_is_acknowledged_without_a_manifest(
    tmp_path: Path, damage: Callable[[Path], None], has_put: bool
) -> None:
    DirectoryLog.create(tmp_path / "store").close()
    log = DirectoryLog.open(tmp_path / "store")
    manifest = tmp_path / "store" / MANIFEST_NAME
    if has_put:
        append(log, draft(1))
    kept, position = manifest.read_bytes(), log.position
    damage(manifest)
    for _ in range(2):
        with pytest.raises(errors.StatusError, match=r"manifest\.json.*nothing was put") as raised:
            append(log, draft(2))
        assert damage is _replace_by_a_folder or "backup" in str(raised.value)
        with pytest.raises(errors.StatusError, match=r"manifest\.json"):
            log.seal()
    assert len(list(log.commits())) == position
    if manifest.is_dir():
        manifest.rmdir()
    manifest.write_bytes(kept)
    append(log, draft(2))
    log.close()
    opened = DirectoryLog.open(tmp_path / "store")
    assert opened.position == position + 1
    assert opened.verify().ok
    opened.close()


@pytest.mark.parametrize("damage", _DAMAGES)
def test_a_store_says_so_and_reads_on(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    with eventstore.open(tmp_path / "store") as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
        damage(tmp_path / "store" / MANIFEST_NAME)
        with pytest.raises(errors.StatusError, match=r"manifest\.json.*nothing was put"):
            store.put_artifacts([mlmd.Artifact(type_id=type_id)])
        assert [found.name for found in store.get_artifact_types()] == ["T"]
        assert store.get_artifacts() == []


def test_manifests_that_writers_replace_stop_nobody(tmp_path: Path) -> None:
    first = DirectoryLog.create(tmp_path / "store", segment_records_max=2)
    second = DirectoryLog.open(tmp_path / "store", segment_records_max=2)
    for number in range(1, 30):
        log = (first, second)[number // 3 % 2]
        log.refresh()
        append(log, draft(number))
        if number % 7 == 0:
            log.seal()
    manifest = tmp_path / "store" / MANIFEST_NAME
    for log in (first, second):
        log.seal()
    # The same in another file, as a tool that copies in place leaves it.
    copy = manifest.with_name("copy")
    copy.write_bytes(manifest.read_bytes())
    copy.replace(manifest)
    for log in (first, second):
        log.refresh()
        append(log, draft(99 + log.position))
        log.close()
    opened = DirectoryLog.open(tmp_path / "store")
    assert opened.position == 31
    assert opened.verify().ok
    opened.close()


def test_an_older_manifest_takes_no_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DirectoryLog, "_seal_closed_in_background", lambda _: None)
    log = DirectoryLog.create(tmp_path / "store", segment_records_max=2)
    append(log, draft(1))
    manifest = tmp_path / "store" / MANIFEST_NAME
    older = manifest.read_bytes()
    for number in range(2, 6):
        append(log, draft(number))
    newer = manifest.read_bytes()
    manifest.write_bytes(older)
    for _ in range(2):
        with pytest.raises(errors.DataLossError, match=r"manifest\.json.*older.*backup"):
            append(log, draft(6))
    manifest.write_bytes(newer)
    append(log, draft(6))
    log.close()


@pytest.mark.parametrize("is_sealed", [True, False])
def test_opening_by_an_older_manifest_removes_and_overwrites_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_sealed: bool
) -> None:
    monkeypatch.setattr(DirectoryLog, "_seal_closed_in_background", lambda _: None)
    directory = tmp_path / "store"
    log = DirectoryLog.create(directory, segment_records_max=2)
    manifest = directory / MANIFEST_NAME
    older = []
    for number in range(1, 8):
        append(log, draft(number))
        older.append(manifest.read_bytes())
    if is_sealed:
        log._seal_closed()
    log.close()
    newer = manifest.read_bytes()
    kept = {path: path.read_bytes() for path in (directory / "log").glob("0*")}
    for content in older:
        manifest.write_bytes(content)
        with contextlib.suppress(errors.DataLossError):
            DirectoryLog.open(directory).close()
        if _active(content) != _active(newer):
            with pytest.raises(errors.DataLossError, match=r"older|is missing"):
                append(DirectoryLog.open(directory), draft(8))
    assert {path: path.read_bytes() for path in (directory / "log").glob("0*")} == kept
    manifest.write_bytes(newer)
    opened = DirectoryLog.open(directory)
    assert opened.position == 7
    assert opened.verify().ok
    opened.close()


def test_a_segment_is_not_created_over(tmp_path: Path) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1))
    log.close()
    for path in (tmp_path / "store").iterdir():
        if path.is_file():
            path.unlink()
    # What a creation that died leaves looks like this, but for the commit.
    (tmp_path / "store" / "log" / "acknowledged").unlink()
    kept = (tmp_path / "store" / "log" / "0000000001.arrows").read_bytes()
    with pytest.raises(errors.DataLossError, match=MANIFEST_NAME):
        DirectoryLog.create(tmp_path / "store")
    assert (tmp_path / "store" / "log" / "0000000001.arrows").read_bytes() == kept


@pytest.mark.parametrize("seconds_behind", [0, 3600])
def test_folders_replaced_within_a_tick_of_the_clock_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds_behind: int
) -> None:
    """As where a file system gives the number of a removed folder again, at once.

    Times of a server may have whole seconds, by a clock that is behind.
    """
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1))
    folder, manifest = tmp_path / "store" / "log", tmp_path / "store" / MANIFEST_NAME
    now = time.time_ns()
    if seconds_behind:
        now = (now // 1_000_000_000 - seconds_behind) * 1_000_000_000
    stat = os.stat

    def coarse(path: Any, **named: Any) -> Any:
        found = stat(path, **named)
        if Path(path) not in (folder, manifest):
            return found
        size = found.st_size if Path(path) == manifest else 0
        frozen = SimpleNamespace(st_dev=1, st_ino=2, st_size=size)
        frozen.st_mtime_ns = frozen.st_ctime_ns = now
        return frozen

    monkeypatch.setattr(store_place, "os", SimpleNamespace(stat=coarse, fspath=os.fspath))
    append(log, draft(2))
    append(log, draft(3))
    (tmp_path / "store").rename(tmp_path / "moved")
    other = DirectoryLog.create(tmp_path / "store")
    append(other, draft(77))
    with pytest.raises(errors.FailedPreconditionError, match="moved, removed or replaced"):
        append(log, draft(4))
    assert other.position == 1
    other.close()
    log.close()


def test_a_copy_with_the_times_of_what_it_replaces_is_told_apart(tmp_path: Path) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1))
    append(log, draft(2))
    folder = tmp_path / "store" / "log"
    (segment,) = folder.glob("*.arrows")
    times = folder.stat()
    copy = folder / "copy"
    copy.write_bytes(segment.read_bytes())
    copy.replace(segment)
    os.utime(folder, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(errors.FailedPreconditionError, match="moved, removed or replaced"):
        append(log, draft(3))
    log.close()
