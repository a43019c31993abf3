"""An imported database answers every get as ml-metadata answers it from a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import eventstore
from eventstore.importing import import_mlmd_database
from tests.conftest import DATA
from tests.differential.oracle import Oracle
from tests.differential.reads import all_reads, outcome

DATABASES = sorted(DATA.glob("*.db"))


@pytest.mark.parametrize("database", DATABASES, ids=[path.stem for path in DATABASES])
def test_imported_database_reads_as_upstream_reads_it(
    database: Path, oracle: Oracle, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.db"
    shutil.copy(database, copy)
    oracle.open(copy)
    import_mlmd_database(database, tmp_path / "store")
    with eventstore.open(tmp_path / "store") as store:
        call = store._engine.call
        asked = 0
        for rpc, request in all_reads(oracle.call):
            expected = outcome(oracle.call, rpc, request)
            assert outcome(call, rpc, request) == expected, (rpc, request)
            asked += 1
    assert asked > 100
