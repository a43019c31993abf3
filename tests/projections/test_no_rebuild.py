"""Errors that say nothing of the tables cost no rebuilding; damage to an index lets nothing by."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

import eventstore
from eventstore import errors
from eventstore.projections import tables_file
from eventstore.projections.tables import Tables
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import open_with

_DAMAGED_RUNS = 60


@pytest.fixture
def store(tmp_path: Path) -> eventstore.MetadataStore:
    opened = eventstore.open(tmp_path / "store")
    type_id = opened.put_artifact_type(mlmd.ArtifactType(name="T"))
    opened.put_artifacts([mlmd.Artifact(type_id=type_id, uri=f"u{n}") for n in range(50)])
    assert opened.sql("SELECT count(*) FROM artifacts").rows() == [(50,)]
    return opened


def _folds(store: eventstore.MetadataStore) -> tuple[object, object]:
    """A value that changes once tables are built again or separately."""
    tables = store._engine.projections._tables
    assert tables is not None
    assert tables._opened is not None
    path = tables._opened.path
    return tables._opened, path and path.stat().st_ino


_WRONG = [
    "SELEC 1",
    "SELECT nothing FROM artifacts",
    "FROM nothing",
    "SELECT error('Corrupt database file')",
    "SELECT error('IO Error: No space left on device') FROM artifacts",
    "SELECT CAST(uri AS INTEGER) FROM artifacts",
    "SELECT 9223372036854775807 + id FROM artifacts",
    "SELECT * FROM artifacts WHERE uri = error('INTERNAL Error: FATAL Error')",
    "SELECT $1",
]


@pytest.mark.parametrize("query", _WRONG)
def test_a_users_own_error_builds_nothing_again(
    store: eventstore.MetadataStore, query: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = _folds(store)
    with pytest.raises(errors.InvalidArgumentError):
        store.sql(query)
    assert _folds(store) == before
    assert "again" not in caplog.text
    store.close()


@pytest.mark.parametrize(
    "error",
    [
        duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate 1 GiB"),
        duckdb.IOException(
            "IO Error: Could not write to a temporary file: No space left on device"
        ),
        duckdb.IOException("IO Error: Could not write to a temporary file: Disk quota exceeded"),
    ],
)
def test_a_lack_of_memory_or_space_builds_nothing_again(
    store: eventstore.MetadataStore, error: duckdb.Error, caplog: pytest.LogCaptureFixture
) -> None:
    before, tables = _folds(store), store._engine.projections._tables
    assert isinstance(tables, Tables)

    def lacking(_: duckdb.DuckDBPyConnection) -> None:
        raise error

    with pytest.raises(errors.ResourceExhaustedError):
        tables.asked(lacking, tables.folded_position())
    assert _folds(store) == before
    assert "again" not in caplog.text
    assert store.sql("SELECT count(*) FROM artifacts").rows() == [(50,)]
    store.close()


def test_a_query_beyond_its_memory_builds_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tables_file, "memory_limit_bytes", lambda: 30 * 2**20)
    with eventstore.open(tmp_path / "small") as store:
        store.sql("FROM artifacts")
        before = _folds(store)
        with pytest.raises(errors.ResourceExhaustedError):
            store.sql("SELECT list(a.range || b.range) FROM range(4000) AS a, range(4000) AS b")
        assert _folds(store) == before
    assert "again" not in caplog.text


def _put_name(store: eventstore.MetadataStore) -> object:
    return store.put_contexts([mlmd.Context(type_id=10, name="c7")])


def _put_external_id(store: eventstore.MetadataStore) -> object:
    return store.put_contexts([mlmd.Context(type_id=10, name="new", external_id="x7")])


@pytest.mark.parametrize("put", [_put_name, _put_external_id])
def test_no_damage_to_the_index_lets_a_duplicate_by(
    tmp_path: Path,
    put: Callable[[eventstore.MetadataStore], object],
) -> None:
    """What looks like absence is checked, too: by checksums of what an index does not have."""
    template = tmp_path / "template"
    with open_with(template, closing_records_min=1) as store:
        assert store.put_context_type(mlmd.ContextType(name="T")) == 10
        store.put_contexts(
            [mlmd.Context(type_id=10, name=f"c{n}", external_id=f"x{n}") for n in range(40)]
        )
        with store.acting(request_id="once"):
            first = store.put_contexts([mlmd.Context(type_id=10, name="of a request")])
        position = store.log_position()
    (run,) = (template / "projections" / "index").glob("*.run")
    content = run.read_bytes()
    chance = random.Random(7)
    for _ in range(_DAMAGED_RUNS):
        damaged = bytearray(content)
        damaged[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path = tmp_path / "store"
        shutil.copytree(template, path)
        (path / "projections" / "index" / run.name).write_bytes(damaged)
        with eventstore.open(path) as store:
            with pytest.raises(errors.AlreadyExistsError):
                put(store)
            with store.acting(request_id="once"):
                again = store.put_contexts([mlmd.Context(type_id=10, name="of a request")])
            assert again == first
            assert store.log_position() == position
        shutil.rmtree(path)
