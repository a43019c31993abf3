"""What was erased since a backup was made is erased in what is restored of it, too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import eventstore
from eventstore import errors
from eventstore.copies.keyring import opened_keyring
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.stored_bytes import files_with

MARKER = "ana.example-7f3a"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MetadataStore]:
    with eventstore.open(tmp_path / "store", actor="operator") as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        with store.acting(actor=f"{MARKER}-actor"):
            store.put_artifacts([mlmd.Artifact(type_id=type_id, name=f"{MARKER}-name")])
        store.put_artifacts([mlmd.Artifact(type_id=type_id, name="other")])
        yield store


def _backed_up(store: MetadataStore, tmp_path: Path, *, encrypts: bool) -> dict[str, Path]:
    """A backup, and what `restore` takes for it but the register."""
    keys = tmp_path / "keys"
    store.backup(tmp_path / "backup", keys=keys if encrypts else None)
    return {"keys": keys} if encrypts else {}


def _register(store: MetadataStore, tmp_path: Path) -> Path:
    path = tmp_path / "register"
    path.write_text(store.register_of_erasures())
    return path


@pytest.mark.parametrize("encrypts", [False, True])
@pytest.mark.parametrize("destroys_keys", [False, True])
def test_what_was_erased_since_is_not_restored(
    store: MetadataStore, tmp_path: Path, encrypts: bool, destroys_keys: bool
) -> None:
    given = _backed_up(store, tmp_path, encrypts=encrypts)
    head = store.verify().tree_head
    store.erase("artifact", 1, reason="GDPR-17(1)(b)", who=True)
    if encrypts and destroys_keys:
        assert store.destroy_keys(given["keys"]) == 2
        assert store.destroy_keys(given["keys"]) == 0
    register = _register(store, tmp_path)
    assert MARKER not in register.read_text()
    target = tmp_path / "restored"
    report = eventstore.restore(tmp_path / "backup", target, erasures=register, **given)
    assert report.ok
    assert files_with(target, MARKER.encode()) == []
    with eventstore.open(target) as again:
        erased, other = again.get_artifacts()
        assert (erased.id, erased.name, other.name) == (1, "", "other")
        assert erased.custom_properties["erased_by"].int_value == 1
        assert [version.actor for version in again.history("artifact", 1)] == [None]
        assert head in {commit.tree_head.hex() for commit in again.log.commits()}
        assert again.verify().ok


def test_an_erasure_that_the_backup_knows_is_not_recorded_again(
    store: MetadataStore, tmp_path: Path
) -> None:
    store.erase("artifact", 1, reason="GDPR-17(1)(b)")
    store.backup(tmp_path / "backup")
    register = _register(store, tmp_path)
    eventstore.restore(tmp_path / "backup", tmp_path / "restored", erasures=register)
    with eventstore.open(tmp_path / "restored") as again:
        assert again.log_position() == store.log_position()


def test_a_record_without_key_needs_an_erasure(store: MetadataStore, tmp_path: Path) -> None:
    given = _backed_up(store, tmp_path, encrypts=True)
    store.erase("artifact", 1, reason="GDPR-17(1)(b)")
    store.destroy_keys(given["keys"])
    empty = tmp_path / "empty"
    empty.write_text("")
    with pytest.raises(errors.DataLossError, match="cannot be restored: keys of records") as told:
        eventstore.restore(tmp_path / "backup", tmp_path / "restored", erasures=empty, **given)
    assert "take the newest register of erasures, or a copy of the keys" in str(told.value)
    assert "changed" not in str(told.value)
    assert not (tmp_path / "restored").exists()


@pytest.mark.parametrize("name", ["erasures", "keys"])
def test_a_pipe_is_neither_register_nor_keys(
    store: MetadataStore, tmp_path: Path, name: str
) -> None:
    given = _backed_up(store, tmp_path, encrypts=True)
    given["erasures"] = _register(store, tmp_path)
    given[name] = tmp_path / "pipe"
    os.mkfifo(given[name])
    with pytest.raises(
        errors.InvalidArgumentError, match="pipe is no ordinary file: name "
    ) as told:
        eventstore.restore(tmp_path / "backup", tmp_path / "restored", **given)
    assert "move" not in str(told.value)
    assert ("an empty file if nothing was ever erased" in str(told.value)) == (name == "erasures")


def test_a_key_is_destroyed_in_place(store: MetadataStore, tmp_path: Path) -> None:
    keys = _backed_up(store, tmp_path, encrypts=True)["keys"]
    (version,) = store.history("artifact", 1)
    with opened_keyring(keys, store.log.store_id) as keyring:
        ((content, who),) = keyring.keys(version.position, version.position)
    assert content is not None
    assert who is not None
    store.erase("artifact", 1, reason="GDPR-17(1)(b)")
    store.destroy_keys(keys)
    assert content not in keys.read_bytes()
    assert who in keys.read_bytes()


def test_the_register_of_other_stores_alone_is_refused(
    store: MetadataStore, tmp_path: Path
) -> None:
    store.backup(tmp_path / "backup")
    with eventstore.open(tmp_path / "other") as other:
        type_id = other.put_artifact_type(mlmd.ArtifactType(name="Data"))
        other.put_artifacts([mlmd.Artifact(type_id=type_id)])
        other.erase("artifact", 1, reason="GDPR-17(1)(b)")
        register = _register(other, tmp_path)
    with pytest.raises(errors.FailedPreconditionError, match="of other stores alone"):
        eventstore.restore(tmp_path / "backup", tmp_path / "restored", erasures=register)
    assert not (tmp_path / "restored").exists()
    store.erase("artifact", 1, reason="GDPR-17(1)(b)")
    register.write_text(register.read_text() + store.register_of_erasures())
    eventstore.restore(tmp_path / "backup", tmp_path / "restored", erasures=register)
    with eventstore.open(tmp_path / "restored") as again:
        assert [artifact.name for artifact in again.get_artifacts()] == ["", "other"]


def test_keys_of_what_was_before_a_restoring_are_not_used_again(
    store: MetadataStore, tmp_path: Path
) -> None:
    keys = _backed_up(store, tmp_path, encrypts=True)["keys"]
    (later,) = store.put_artifacts([mlmd.Artifact(type_id=10, name="later")])
    store.backup(tmp_path / "second", keys=keys)
    register = tmp_path / "empty"
    register.write_text("")
    eventstore.restore(tmp_path / "backup", tmp_path / "restored", keys=keys, erasures=register)
    with eventstore.open(tmp_path / "restored") as again:
        # At the same position as the other one, and with the same key.
        again.put_artifacts([mlmd.Artifact(type_id=10, name="another")])
        again.backup(tmp_path / "third", keys=keys)
        eventstore.restore(tmp_path / "third", tmp_path / "thrice", keys=keys, erasures=register)
        store.erase("artifact", later, reason="GDPR-17(1)(b)", who=True)
        store.destroy_keys(keys)
        with pytest.raises(errors.FailedPreconditionError, match="name a new file of keys"):
            again.backup(tmp_path / "fourth", keys=keys)
        again.backup(tmp_path / "fourth", keys=tmp_path / "new-keys")
