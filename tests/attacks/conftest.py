"""Copies of stores, to be attacked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def store(built: Path, tmp_path: Path) -> Path:
    """A copy of the store that the module has built for all its tests."""
    return Path(shutil.copytree(built, tmp_path / "store"))
