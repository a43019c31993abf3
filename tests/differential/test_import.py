"""An imported database answers every get as ml-metadata answers it from a copy."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import eventstore
from eventstore.importing import import_mlmd_database
from tests.differential.oracle import Oracle
from tests.differential.reads import outcome
from tests.differential.recorded import DATABASES, ask, recorded

pytestmark = pytest.mark.parametrize(
    "database", DATABASES, ids=[database.stem for database in DATABASES]
)


def test_imported_database_reads_as_upstream_reads_it(
    database: Path, oracle: Oracle, tmp_path: Path
) -> None:
    import_mlmd_database(database, tmp_path / "store")
    answers = ask(oracle, database)
    assert len(answers) > 100
    with eventstore.open(tmp_path / "store") as store:
        for rpc, request, expected in answers:
            assert outcome(store._engine.call, rpc, request) == expected, (rpc, request)


def test_recorded_answers_are_upstreams(database: Path, oracle: Oracle) -> None:
    # As sets: the order of requests is that of Python's sets, which differs from run to run.
    def shown(answers: list[tuple[str, object, object]]) -> Counter[str]:
        return Counter(f"{rpc}({request}): {answer}" for rpc, request, answer in answers)

    assert shown(recorded(database)) == shown(ask(oracle, database)), (
        "run `python -m tests.differential.recorded`"
    )
