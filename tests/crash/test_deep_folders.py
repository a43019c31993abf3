"""Folders far below a store are walked and removed, however deep they are."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import eventstore
from eventstore.audit import standalone_verifier
from eventstore.proto import metadata_store_pb2 as mlmd

_LEVELS = 1_500
"""More than Python's stack has, and less than a path can name."""


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "store"
    with eventstore.open(directory) as store:
        store.put_artifact_type(mlmd.ArtifactType(name="T"))
    yield directory
    # With the shell's, for pytest removes old folders by Python's.
    os.system(f"rm -rf '{tmp_path}'")


def _dig(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(folder):
        for _ in range(_LEVELS):
            os.mkdir("d")
            os.chdir("d")
        Path("file").touch()


@pytest.mark.parametrize("place", ["", "log"])
def test_they_are_named(directory: Path, place: str) -> None:
    _dig(directory / place)
    named = pytest.raises(eventstore.errors.DataLossError, match="d belongs to nothing")
    with eventstore.open(directory) as store, named:
        store.verify()
    with pytest.raises(standalone_verifier.Refused, match="d belongs to nothing"):
        list(standalone_verifier.stored_records(str(directory)))


def test_they_go_with_the_caches(directory: Path) -> None:
    _dig(directory / "projections" / "index")
    with eventstore.open(directory) as store:
        assert store.verify().ok
        assert store.info()
        store.rebuild()
        assert not (directory / "projections" / "index" / "d").exists()
        assert store.get_artifact_type("T").name == "T"


def test_they_go_with_a_store_that_is_packed(directory: Path) -> None:
    _dig(directory / "projections")
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(directory)
    eventstore.downgrade_schema(config, 0)
    assert [path.name for path in directory.parent.iterdir()] == ["store"]
    assert directory.is_file()
