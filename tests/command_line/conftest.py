"""Stores that the tests of the command line read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import hostile


@pytest.fixture(scope="session")
def hostile_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("hostile") / "store"
    hostile.make_store(directory)
    return directory
