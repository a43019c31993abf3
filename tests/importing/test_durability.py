"""An import that dies at its very end: what is put into its store later is durable, too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import eventstore
from eventstore.importing import import_mlmd_database
from eventstore.log import stores
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.conftest import DATA


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to name open files")
def test_the_next_opening_syncs_the_name_that_an_import_has_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "here" / "store"
    target.parent.mkdir()

    def died(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stores, "sync_directory", died)
        with pytest.raises(KeyboardInterrupt):
            import_mlmd_database(DATA / "mlmd-v10.db", target)
    assert target.is_dir()
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    with eventstore.open(target, read_only=True) as store:
        store.get_artifacts()
    assert synced == []
    with eventstore.open(target) as store:
        # Before anything is acknowledged.
        assert str(target.parent) in synced
        store.put_artifact_type(mlmd.ArtifactType(name="Another"))
