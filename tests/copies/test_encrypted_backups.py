"""Backups that only their keys open, and what of them is left when keys are destroyed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import eventstore
from eventstore import errors
from eventstore.copies.encrypted_backup import read_backup
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.proto import metadata_store_pb2 as mlmd

MARKER = "ana.example-7f3a"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MetadataStore]:
    with eventstore.open(tmp_path / "store", actor=f"{MARKER}-actor") as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        for number in range(5):
            artifact = mlmd.Artifact(type_id=type_id, name=f"{MARKER}-{number}")
            artifact.custom_properties["score"].double_value = float("nan")
            store.put_artifacts([artifact])
        yield store


@pytest.fixture
def register(tmp_path: Path) -> Path:
    path = tmp_path / "register"
    path.write_text("")
    return path


def _bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.parametrize("seals", [False, True])
def test_a_restored_store_is_the_same_log(
    store: MetadataStore, tmp_path: Path, register: Path, seals: bool
) -> None:
    if seals:
        store.seal()
    keys, backup, target = tmp_path / "keys", tmp_path / "backup", tmp_path / "restored"
    made = store.backup(backup, keys=keys)
    head = store.verify().tree_head
    assert (made.records, made.tree_head) == (store.log_position(), head)
    report = eventstore.restore(backup, target, keys=keys, erasures=register)
    assert report.ok
    assert report.tree_head == head
    with eventstore.open(target) as again:
        assert [a.name for a in again.get_artifacts()] == [f"{MARKER}-{n}" for n in range(5)]
        assert [*again.log.commits()] == [*store.log.commits()]
        again.put_artifacts([mlmd.Artifact(type_id=10, name="later")])
        assert again.verify().ok


def test_a_backup_that_has_lost_what_describes_it(
    store: MetadataStore, tmp_path: Path, register: Path
) -> None:
    keys, backup = tmp_path / "keys", tmp_path / "backup"
    store.backup(backup, keys=keys)
    (backup / "backup.json").unlink()
    with pytest.raises(errors.NotFoundError, match=r"there is no backup\.json in "):
        eventstore.restore(backup, tmp_path / "restored", keys=keys, erasures=register)
    assert not (tmp_path / "restored").exists()


def test_nothing_of_what_was_put_is_readable_without_the_keys(
    store: MetadataStore, tmp_path: Path
) -> None:
    keys, backup = tmp_path / "keys", tmp_path / "backup"
    store.backup(backup, keys=keys)
    assert MARKER.encode() not in _bytes_of(backup)
    assert keys.stat().st_mode & 0o077 == 0
    assert b"score" not in _bytes_of(backup)


def test_backups_share_keys_and_need_those_they_were_made_with(
    store: MetadataStore, tmp_path: Path, register: Path
) -> None:
    keys = tmp_path / "keys"
    store.backup(tmp_path / "first", keys=keys)
    before = keys.read_bytes()
    store.put_artifacts([mlmd.Artifact(type_id=10, name="later")])
    store.backup(tmp_path / "second", keys=keys)
    assert keys.read_bytes().startswith(before)
    for name in ("first", "second"):
        eventstore.restore(tmp_path / name, tmp_path / f"of-{name}", keys=keys, erasures=register)
    keys.write_bytes(before)
    with pytest.raises(errors.NotFoundError, match="keys up to position"):
        eventstore.restore(tmp_path / "second", tmp_path / "again", keys=keys, erasures=register)
    others = bytearray(before)
    others[-1] ^= 1
    keys.write_bytes(others)
    with pytest.raises(errors.DataLossError, match="the key does not open the who at position"):
        eventstore.restore(tmp_path / "first", tmp_path / "again", keys=keys, erasures=register)
    assert not (tmp_path / "again").exists()


def test_keys_and_register_are_demanded(
    store: MetadataStore, tmp_path: Path, register: Path
) -> None:
    keys, backup, target = tmp_path / "keys", tmp_path / "backup", tmp_path / "restored"
    store.backup(backup, keys=keys)
    for given in ({}, {"keys": keys}, {"erasures": register}):
        with pytest.raises(errors.FailedPreconditionError, match="is encrypted: give"):
            eventstore.restore(backup, target, **given)
    register.write_text('{"store_id": 1}\n')
    with pytest.raises(errors.DataLossError, match="line 1"):
        eventstore.restore(backup, target, keys=keys, erasures=register)
    assert not target.exists()
    with pytest.raises(errors.AlreadyExistsError):
        store.backup(backup, keys=keys)
    for inside in (tmp_path / "other" / "keys", tmp_path / "store" / "keys"):
        with pytest.raises(errors.InvalidArgumentError, match="keep the keys apart"):
            store.backup(tmp_path / "other", keys=inside)


def test_keys_of_another_store_are_refused(
    store: MetadataStore, tmp_path: Path, register: Path
) -> None:
    keys, backup = tmp_path / "keys", tmp_path / "backup"
    store.backup(backup, keys=keys)
    with eventstore.open(tmp_path / "other") as other:
        with pytest.raises(errors.FailedPreconditionError, match="keys of another store"):
            other.backup(tmp_path / "other-backup", keys=keys)
        other.backup(tmp_path / "other-backup", keys=tmp_path / "other-keys")
    with pytest.raises(errors.FailedPreconditionError, match="keys of another store"):
        eventstore.restore(
            backup, tmp_path / "again", keys=tmp_path / "other-keys", erasures=register
        )
    (tmp_path / "no-keys").write_text("nothing")
    with pytest.raises(errors.DataLossError, match="no file of keys"):
        eventstore.restore(backup, tmp_path / "again", keys=tmp_path / "no-keys", erasures=register)


def test_a_flipped_bit_anywhere_is_found(
    store: MetadataStore, tmp_path: Path, register: Path
) -> None:
    keys, backup = tmp_path / "keys", tmp_path / "backup"
    store.backup(backup, keys=keys)
    (entry,) = read_backup(backup).files
    path = backup / entry.file
    content = path.read_bytes()
    for at in range(0, len(content), max(1, len(content) // 50)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(errors.DataLossError, match="SHA-256"):
            eventstore.restore(backup, tmp_path / "again", keys=keys, erasures=register)
    path.write_bytes(content)
    said = (backup / "backup.json").read_text()
    digest = hashlib.sha256(content + b" ").hexdigest()
    (backup / "backup.json").write_text(said.replace(entry.sha256, digest))
    path.write_bytes(content + b" ")
    with pytest.raises(errors.DataLossError):
        eventstore.restore(backup, tmp_path / "again", keys=keys, erasures=register)


def test_a_plain_backup_is_restored_with_a_register(
    store: MetadataStore, tmp_path: Path, register: Path
) -> None:
    store.backup(tmp_path / "backup")
    report = eventstore.restore(tmp_path / "backup", tmp_path / "restored", erasures=register)
    assert report.ok
    with eventstore.open(tmp_path / "restored") as again:
        assert [*again.log.commits()] == [*store.log.commits()]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_a_backup_says_of_itself_is_compared_with_its_files(
    store: MetadataStore, tmp_path: Path, register: Path
) -> None:
    keys, backup = tmp_path / "keys", tmp_path / "backup"
    store.backup(backup, keys=keys)
    path, said = backup / "backup.json", read_backup(backup)
    for field, value in (("tree_head", said.tree_head[::-1]), ("commits", said.commits + 1)):
        path.write_bytes(msgspec.json.encode(msgspec.structs.replace(said, **{field: value})))
        with pytest.raises(errors.DataLossError, match="damaged: it says"):
            eventstore.restore(backup, tmp_path / "restored", keys=keys, erasures=register)
    path.write_bytes(msgspec.json.encode(said))
    (backup / said.files[0].file).unlink()
    with pytest.raises(errors.DataLossError, match="damaged: it is missing"):
        eventstore.restore(backup, tmp_path / "restored", keys=keys, erasures=register)
    assert not (tmp_path / "restored").exists()
