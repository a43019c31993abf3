"""A copy of a small MLMD database that a test may change."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import DATA

Change = Callable[..., Path]


@pytest.fixture
def changed(tmp_path: Path) -> Change:
    """Runs SQL statements on a copy of tests/data/mlmd-v10.db (or another); the copy's path."""

    def change(*statements: str, database: str = "mlmd-v10.db") -> Path:
        copy = tmp_path / database
        shutil.copy(DATA / database, copy)
        with closing(sqlite3.connect(copy)) as connection, connection:
            for statement in statements:
                connection.execute(statement)
        return copy

    return change
