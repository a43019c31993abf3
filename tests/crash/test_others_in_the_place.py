"""A folder, a link or a file in place of another: the error names it and says what to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import eventstore
from eventstore import errors
from eventstore.proto import metadata_store_pb2 as mlmd

pytestmark = pytest.mark.timeout(60)


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "kept").write_text("a user's")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _file(path: Path) -> None:
    path.write_text("a user's")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A store with caches."""
    made = tmp_path / "store"
    with eventstore.open(made) as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
        store.put_artifacts([mlmd.Artifact(type_id=type_id)])
        store.rebuild()
    return made


def _replace(path: Path, make: Callable[[Path], None]) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    make(path)


@pytest.mark.parametrize("make", [_folder, _loop])
def test_in_place_of_what_is_acknowledged(directory: Path, make: Callable[[Path], None]) -> None:
    place = directory / "log" / "acknowledged"
    _replace(place, make)
    with pytest.raises(errors.UnavailableError, match="move it away") as raised:
        eventstore.open(directory)
    assert str(place) in str(raised.value)
    os.rename(place, directory.with_name("moved"))
    with eventstore.open(directory) as store:
        store.put_artifacts([mlmd.Artifact(type_id=store.get_artifacts()[0].type_id)])
        assert len(store.get_artifacts()) == 2


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("projections", _file),
        ("projections", _loop),
        ("projections", os.mkfifo),
        ("projections/tables.duckdb", _folder),
        ("projections/tables.duckdb.wal", _folder),
    ],
)
def test_in_place_of_caches(directory: Path, name: str, make: Callable[[Path], None]) -> None:
    place = directory / name
    _replace(place, make)
    with eventstore.open(directory) as store:
        with pytest.raises(errors.UnavailableError, match="move it away") as raised:
            store.rebuild()
        assert len(store.get_artifacts()) == 1
    assert str(place) in str(raised.value)
    os.rename(place, directory.with_name("moved"))
    with eventstore.open(directory) as store:
        store.rebuild()


def test_a_pipe_in_place_of_the_index_is_not_waited_for(directory: Path) -> None:
    place = directory / "projections" / "index"
    _replace(place, os.mkfifo)
    with eventstore.open(directory) as store:
        store.rebuild()
        assert len(store.get_artifacts()) == 1
    assert not place.is_fifo()
