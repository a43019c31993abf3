"""A pipe, socket or device in place of any file of a store keeps nobody waiting."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import eventstore
from eventstore import errors
from eventstore.audit import standalone_verifier
from eventstore.audit.subtree_heads import heads_of
from eventstore.log import DirectoryLog
from eventstore.log.backup import copy_store
from eventstore.log.verification import verify_directory
from eventstore.proto import metadata_store_pb2 as mlmd

pytestmark = pytest.mark.timeout(120)

FILES = (
    "manifest.json",
    "lock",
    "sealing.lock",
    "log/0000000001.parquet",
    "log/0000000002.arrows",
    "log/0000000003.arrows",
    "log/acknowledged",
    "log/commit-ends",
    "projections/index/RUN",
    "projections/index/left.tmp",
    "projections/subtree-heads",
    "projections/tables.duckdb",
    "projections/tables.duckdb.wal",
)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    # Its path may be too long for one.
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path.name)


def _link(path: Path) -> None:
    """To a pipe outside of the store, which is not the store's to remove."""
    store = next(folder for folder in path.parents if folder.name == "store")
    outside = store.with_name("outside")
    os.mkfifo(outside)
    path.symlink_to(outside)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with all files that there are."""
    directory = tmp_path_factory.mktemp("healthy") / "store"
    with eventstore.open(directory) as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
        store.put_artifacts([mlmd.Artifact(type_id=type_id) for _ in range(1500)])
        store.seal()
        log = store.log
        assert isinstance(log, DirectoryLog)
        for _ in range(260):
            store.put_artifacts([mlmd.Artifact(type_id=type_id)])
        log._seal_closed_in_background = lambda: None  # type: ignore[method-assign]
        log._write(log._rotate)
        for _ in range(257):
            store.put_artifacts([mlmd.Artifact(type_id=type_id)])
        heads_of(store._engine.log, store._engine.projections).extend(log.position)
        assert list(store.sql("SELECT count(*) FROM artifacts")) == [(2017,)]
    return directory


def _path(directory: Path, name: str) -> Path:
    if name.endswith("RUN"):
        return min((directory / "projections" / "index").glob("*.run"))
    return directory / name


def _read(directory: Path) -> None:
    with eventstore.open(directory, read_only=True) as store:
        assert [a.id for a in store.get_artifacts_by_id([1, 400, 2017])] == [1, 400, 2017]
        assert list(store.sql("SELECT count(*) FROM artifacts")) == [(2017,)]
        assert sum(1 for _ in store.changes(since=0)) > 500


def _write(directory: Path) -> None:
    with eventstore.open(directory) as store:
        before = len(store.get_artifacts())
        store.put_artifacts([mlmd.Artifact(type_id=10) for _ in range(2)])
        assert len(store.get_artifacts()) == before + 2
        assert len(store.sql("SELECT count(*) FROM artifacts")) == 1
        heads_of(store._engine.log, store._engine.projections).extend(store.log_position())


def _seal(directory: Path) -> None:
    with eventstore.open(directory) as store:
        store.seal()


def _verify(directory: Path) -> None:
    report = verify_directory(directory)
    if not report.ok:
        raise errors.DataLossError(str(report.findings))


def _verify_with_caches(directory: Path) -> None:
    with eventstore.open(directory, read_only=True) as store:
        report = store.verify()
    if not report.ok:
        raise errors.DataLossError(str((report.findings, report.cache_findings)))


def _back_up(directory: Path) -> None:
    target = directory.with_name("copy")
    shutil.rmtree(target, ignore_errors=True)
    copy_store(directory, target)
    assert verify_directory(target).ok


def _check_apart(directory: Path) -> None:
    assert sum(1 for _ in standalone_verifier.stored_records(str(directory))) > 2017


ACTIONS = (_read, _verify, _verify_with_caches, _back_up, _check_apart, _write, _seal)

ONLY_NAMED = ("lock", "sealing.lock", "log/acknowledged", "log/commit-ends")
"""What may be missing: not all have to refuse it, but whoever verifies names it."""


@pytest.mark.share(3)
@pytest.mark.parametrize(
    ("put", "name"),
    [
        *((_pipe, name) for name in FILES),
        *((_socket, name) for name in (*FILES[:1], *FILES[3:8], FILES[-2])),
        *((_link, name) for name in (*FILES[:1], *FILES[3:8], FILES[-2])),
    ],
)
def test_it_is_named_or_made_anew(
    healthy: Path, tmp_path: Path, put: Callable[[Path], None], name: str
) -> None:
    directory = tmp_path / "store"
    shutil.copytree(healthy, directory)
    path = _path(directory, name)
    path.unlink(missing_ok=True)
    put(path)
    told: dict[Callable[[Path], None], str] = {}
    for action in ACTIONS:
        try:
            action(directory)
        except (errors.StatusError, standalone_verifier.Refused) as error:
            told[action] = str(error)
    assert put is not _link or directory.with_name("outside").is_fifo()
    for text in told.values():
        assert str(path) in text
        assert "a pipe, socket or device" in text or "is not a file" in text
    if name.startswith("projections/"):
        assert not told
        assert not os.path.lexists(path) or path.is_file()
        return
    assert {_verify, _verify_with_caches, _check_apart} <= told.keys()
    if name not in ONLY_NAMED:
        assert {_read, _back_up} <= told.keys()


@pytest.mark.share(2)
@pytest.mark.parametrize("name", FILES)
def test_it_comes_while_the_store_is_open(healthy: Path, tmp_path: Path, name: str) -> None:
    directory = tmp_path / "store"
    shutil.copytree(healthy, directory)
    path = _path(directory, name)
    with eventstore.open(directory) as store:
        path.unlink(missing_ok=True)
        _pipe(path)
        assert [a.id for a in store.get_artifacts_by_id([1])] == [1]
        for act in (
            # Enough for a block of the commits' ends.
            lambda: [store.put_artifacts([mlmd.Artifact(type_id=10)]) for _ in range(256)],
            lambda: store.sql("SELECT count(*) FROM artifacts"),
            lambda: store.seal(),
        ):
            try:
                act()
            except errors.StatusError as error:
                told = str(error)
                assert name.startswith(("manifest.json", "sealing.lock", "log/")), told


@pytest.mark.parametrize("name", ["store", ".store.new", ".store.old"])
def test_it_is_where_a_store_is_opened(tmp_path: Path, name: str) -> None:
    _pipe(tmp_path / name)
    for read_only in (True, False):
        with (
            contextlib.suppress(errors.StatusError),
            eventstore.open(tmp_path / "store", read_only=read_only) as store,
        ):
            assert name != "store"
            assert store.get_artifacts() == []
