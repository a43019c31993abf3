"""The next command finds what one command has folded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
import pytest

import eventstore
from eventstore.projections import tables
from tests.builders import put_types
from tests.command_line.runner import run
from tests.conftest import PENGUIN_DATABASE


@pytest.fixture
def folds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches of records that are folded into tables."""
    counted: list[int] = []
    fold_batch = tables.Tables._fold_batch

    def counting(self: tables.Tables, batch: object, erased: int) -> bool:
        counted.append(batch.num_rows)  # type: ignore[attr-defined]
        return fold_batch(self, batch, erased)  # type: ignore[arg-type]

    monkeypatch.setattr(tables.Tables, "_fold_batch", counting)
    return counted


def test_tables_are_folded_once(tmp_path: Path, folds: list[int]) -> None:
    directory = tmp_path / "store"
    with eventstore.open(directory) as store:
        put_types(store)
        position = store.log_position()
    shutil.rmtree(directory / "projections", ignore_errors=True)
    assert run("info", directory).code == 0
    assert folds == []
    for _ in range(3):
        assert run("sql", directory, "FROM artifacts").code == 0
    assert folds == [position]
    with eventstore.open(directory) as store:
        store.put_artifact_type(eventstore.proto.ArtifactType(name="Another"))
    for _ in range(3):
        assert run("sql", directory, "FROM artifacts").code == 0
    assert folds == [position, 1]


def test_an_import_folds_what_later_commands_read(tmp_path: Path, folds: list[int]) -> None:
    directory = tmp_path / "store"
    assert run("import", PENGUIN_DATABASE, directory).code == 0
    assert sum(folds) == 314
    assert '"artifact":27' in run("info", directory, "--json").out
    assert sum(folds) == 314


def test_a_cache_that_disagrees_is_no_damage_of_the_store(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    assert run("import", PENGUIN_DATABASE, directory).code == 0
    path = directory / "projections" / "tables.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE artifacts SET uri = 'forged'")
    done = run("verify", directory)
    assert done.code == 4
    assert str(path) in done.out
    assert "a cache does not agree with the log, which is sound" in " ".join(done.err.split())
    assert "damaged" not in done.out + done.err
    report = json.loads(run("verify", directory, "--json").out)
    assert (report["ok"], report["findings"]) == (False, [])
    assert [found["file"] for found in report["cache_findings"]] == [str(path)]
    assert str(path) in run("verify", directory, "--csv").out
    assert run("verify", directory, "--no-caches").code == 0
    assert run("rebuild", directory).code == 0
    done = run("verify", directory)
    assert (done.code, done.err) == (0, "")
    path.write_bytes(b"junk")
    done = run("verify", directory)
    assert (done.code, "is sound" in done.out) == (0, True)
    assert "which is not usable and will be rebuilt" in " ".join(done.err.split())


def test_a_store_of_another_user_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "store"
    eventstore.open(directory).close()
    shutil.rmtree(directory / "projections", ignore_errors=True)
    monkeypatch.setattr("os.geteuid", lambda: 12_345_678)
    assert run("info", directory).code == 0
    assert not (directory / "projections").exists()
