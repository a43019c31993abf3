"""An imported database of a server answers every get as ml-metadata answers it there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.importing import import_mlmd_database
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.differential.mlmd_servers import (
    downgrade,
    new_config,
    put_odd_values,
    random_puts,
    reader_url,
)
from tests.differential.oracle import Oracle
from tests.differential.reads import all_reads, outcome
from tests.sql_servers import Server


def _in_any_order(answer: Any) -> Any:
    """Servers give what is not ordered as they please."""
    if isinstance(answer, type):
        return answer
    for field, value in answer.ListFields():
        if field.name.endswith("_type"):
            # On MySQL upstream leaves it out of a type that is asked for by its name.
            value.ClearField("external_id")
        if hasattr(value, "add"):
            ordered = sorted(value, key=lambda message: message.SerializeToString())
            answer.ClearField(field.name)
            getattr(answer, field.name).extend(ordered)
    return answer


def assert_reads_alike(
    oracle: Oracle, place: Path | mlmd.ConnectionConfig, *, is_mysql: bool
) -> None:
    is_path = isinstance(place, Path)
    with eventstore.open(place) if is_path else eventstore.MetadataStore(place) as store:
        for rpc, request in all_reads(oracle.call):
            if is_mysql and rpc == "GetArtifactsByURI":
                # MySQL takes texts for equal that differ in case, or in spaces at the end.
                continue
            expected = _in_any_order(outcome(oracle.call, rpc, request))
            found = _in_any_order(outcome(store._engine.call, rpc, request))
            assert found == expected, (rpc, request)
        assert store.verify().ok


def test_imported_database_reads_as_upstream_reads_it(
    sql_server: Server, oracle: Oracle, tmp_path: Path
) -> None:
    database, config = new_config(sql_server)
    oracle.connect(config)
    put_odd_values(oracle, sql_server, database)
    random_puts(oracle, seed=7, number=60)
    report = import_mlmd_database(reader_url(sql_server, database), tmp_path / "store")
    assert report.schema_version == 10
    assert report.records["event"] > 3
    assert_reads_alike(oracle, tmp_path / "store", is_mysql=sql_server.scheme == "mysql")


def test_what_is_imported_in_place_reads_as_upstream_reads_it(
    sql_server: Server, oracle: Oracle
) -> None:
    """Side by side: upstream's own tables are as they were, and it goes on with them."""
    _, config = new_config(sql_server)
    oracle.connect(config)
    random_puts(oracle, seed=11, number=60)
    eventstore.MetadataStore(config, enable_upgrade_migration=True).close()
    assert_reads_alike(oracle, config, is_mysql=sql_server.scheme == "mysql")
    oracle.method("put_artifact_type", mlmd.ArtifactType(name="Later"))
    with eventstore.MetadataStore(config) as store, pytest.raises(errors.NotFoundError):
        store.get_artifact_type("Later")


@pytest.mark.share(2)
@pytest.mark.parametrize("version", [9, 1])
def test_older_schemas_read_as_upstream_reads_them_once_migrated(
    version: int, sql_server: Server, oracle: Oracle, tmp_path: Path
) -> None:
    database, config = new_config(sql_server)
    oracle.connect(config)
    random_puts(oracle, seed=version, number=30)
    downgrade(oracle, sql_server, config, version)
    report = import_mlmd_database(sql_server.url(database), tmp_path / "store")
    assert report.schema_version == version
    oracle.connect(config)
    assert_reads_alike(oracle, tmp_path / "store", is_mysql=sql_server.scheme == "mysql")
