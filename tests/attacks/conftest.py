"""Copies of stores, to be attacked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.attacks.one_segment import three_segments


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three segments; a module that attacks another one builds its own."""
    return three_segments(tmp_path_factory.mktemp("built") / "store")


@pytest.fixture
def store(built: Path, tmp_path: Path) -> Path:
    """A copy of the store that the module has built for all its tests."""
    return Path(shutil.copytree(built, tmp_path / "store"))
