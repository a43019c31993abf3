"""A store packed into one file, and back."""

from __future__ import annotations

from pathlib import Path

import pytest

import eventstore
from eventstore import errors
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import artifact, put_types


def test_a_store_survives_packing(tmp_path: Path) -> None:
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(tmp_path / "store")
    with pytest.raises(RuntimeError, match="no store at"):
        eventstore.downgrade_schema(config, 0)
    with eventstore.MetadataStore(config) as store:
        type_id, _, _ = put_types(store)
        store.put_artifacts([artifact(type_id, name="one")])
        position, artifacts = store.log_position(), store.get_artifacts()
    for version, words in (
        (-1, "not specified"),
        (1, "cannot be downgraded"),
        (3, "cannot be downgraded"),
    ):
        with pytest.raises(errors.InvalidArgumentError, match=words):
            eventstore.downgrade_schema(config, version)
    eventstore.downgrade_schema(config, 2)
    eventstore.downgrade_schema(config, 0)
    eventstore.downgrade_schema(config, 0)
    assert (tmp_path / "store").is_file()
    with pytest.raises(RuntimeError, match="chema migration is disabled"):
        eventstore.MetadataStore(config)
    with eventstore.MetadataStore(config, enable_upgrade_migration=True) as store:
        assert (store.log_position(), store.get_artifacts()) == (position, artifacts)
        assert store.verify().ok
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_damaged_packed_store_is_kept(tmp_path: Path) -> None:
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(tmp_path / "store")
    eventstore.MetadataStore(config).close()
    eventstore.downgrade_schema(config, 0)
    content = bytearray((tmp_path / "store").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "store").write_bytes(content)
    with pytest.raises(RuntimeError, match="packed store"):
        eventstore.MetadataStore(config, enable_upgrade_migration=True)
    assert (tmp_path / "store").read_bytes() == bytes(content)
