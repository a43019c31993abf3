"""Imports against what ml-metadata answered once: needs no ml-metadata."""

from __future__ import annotations

from pathlib import Path

import pytest

import eventstore
from eventstore.importing import import_mlmd_database
from tests.differential.reads import outcome
from tests.differential.recorded import DATABASES, recorded


@pytest.mark.parametrize("database", DATABASES, ids=[database.stem for database in DATABASES])
def test_imported_database_reads_as_upstream_read_it(database: Path, tmp_path: Path) -> None:
    import_mlmd_database(database, tmp_path / "store")
    answers = recorded(database)
    assert len(answers) > 100
    with eventstore.open(tmp_path / "store") as store:
        for rpc, request, expected in answers:
            assert outcome(store._engine.call, rpc, request) == expected, (rpc, request)
        assert store.verify().ok
