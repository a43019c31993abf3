"""The manifest: what is read as one, and what a store that is open appends by."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from eventstore import errors
from eventstore.log import DirectoryLog
from eventstore.log.manifest import (
    COMPACTED_VERSION,
    FORMAT_VERSION,
    Manifest,
    manifest_to_append_by,
    read_manifest,
    write_durably,
    write_manifest,
)
from eventstore.log.syncing import sync_directory
from tests.builders import append, draft


@pytest.fixture
def store(tmp_path: Path) -> Path:
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1))
    log.seal()
    append(log, draft(2))
    log.seal()
    append(log, draft(3))
    log.close()
    return tmp_path / "store"


def rewrite(store: Path, change: Callable[[dict[str, Any]], object], **stored: Any) -> None:
    """Change what is in the manifest, and its digest with it unless `stored` gives one."""
    path = store / "manifest.json"
    document = json.loads(path.read_text())
    change(document["manifest"])
    body = json.dumps(document["manifest"], separators=(",", ":"))
    document["sha256"] = hashlib.sha256(body.encode()).hexdigest()
    path.write_text(json.dumps(document | stored, separators=(",", ":")) + "\n")


def nothing(_: dict[str, Any]) -> None:
    pass


def test_what_was_written_is_read(store: Path) -> None:
    before = read_manifest(store)
    rewrite(store, nothing)
    assert read_manifest(store) == before
    assert [entry.number for entry in before.segments] == [1, 2]
    assert before.active.number == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.update(more=1),
        lambda manifest: manifest.pop("active"),
        lambda manifest: manifest.update(generation="5"),
        lambda manifest: manifest.update(store_id="none"),
        lambda manifest: manifest["segments"][0].update(more=1),
        lambda manifest: manifest["segments"][0].pop("tree_head"),
        lambda manifest: manifest["active"].update(more=1),
        lambda manifest: manifest.update(store_id=manifest["store_id"].upper()),
        lambda manifest: manifest.update(manifest.pop("active") and {}),
    ],
)
def test_what_is_no_manifest_is_damage(
    store: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    rewrite(store, change)
    with pytest.raises(errors.DataLossError, match=r"the manifest .*manifest.json is damaged"):
        read_manifest(store)


@pytest.mark.parametrize(
    ("stored", "error", "words"),
    [
        ({"sha256": "00" * 32}, errors.DataLossError, "does not match its SHA-256"),
        ({"more": 1}, errors.DataLossError, "is damaged"),
        ({"format_version": 0}, errors.DataLossError, "is damaged"),
        (
            {"format_version": FORMAT_VERSION - 1},
            errors.FailedPreconditionError,
            f"has format version {FORMAT_VERSION - 1}; this version reads {FORMAT_VERSION} and ",
        ),
        # No segment of it was merged.
        (
            {"format_version": COMPACTED_VERSION},
            errors.DataLossError,
            "does not match its SHA-256",
        ),
        ({"format_version": "2"}, errors.DataLossError, "with a format_version"),
        (
            {"format_version": COMPACTED_VERSION + 1},
            errors.FailedPreconditionError,
            f"has format version {COMPACTED_VERSION + 1}; this version reads up to "
            f"{COMPACTED_VERSION}",
        ),
    ],
)
def test_another_envelope(
    store: Path, stored: dict[str, Any], error: type[errors.StatusError], words: str
) -> None:
    rewrite(store, nothing, **stored)
    with pytest.raises(error, match=words):
        read_manifest(store)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{}", b'"\xff"'])
def test_what_is_not_read_as_json(store: Path, content: bytes) -> None:
    (store / "manifest.json").write_bytes(content)
    with pytest.raises(errors.DataLossError, match="not readable as JSON"):
        read_manifest(store)


def test_other_bytes_of_the_same_manifest(store: Path) -> None:
    path = store / "manifest.json"
    text = path.read_bytes()
    for other in (text + b"\n", text[:-1], text.replace(b",", b", ", 1), b" " + text):
        path.write_bytes(other)
        with pytest.raises(errors.DataLossError, match="does not match its SHA-256"):
            read_manifest(store)


# By which manifest a store that is open appends


def replaced(known: Manifest, **changes: Any) -> Manifest:
    return msgspec.structs.replace(known, **changes)


def first_segment(known: Manifest, **changes: Any) -> Manifest:
    first, *others = known.segments
    return replaced(known, segments=(msgspec.structs.replace(first, **changes), *others))


def test_segments_may_be_sealed_meanwhile(store: Path) -> None:
    known = read_manifest(store)
    for found in (
        known,
        replaced(known, generation=known.generation + 1),
        first_segment(known, sealed=False, file="0000000001.arrows", file_bytes=1),
    ):
        write_manifest(store, found)
        assert manifest_to_append_by(store, known) == found


@pytest.mark.parametrize(
    "change",
    [
        lambda known: replaced(known, generation=known.generation - 1),
        lambda known: replaced(known, store_id=UUID(int=1)),
        lambda known: replaced(known, segments=known.segments[:1]),
        lambda known: replaced(known, segments=()),
        lambda known: replaced(
            known, active=msgspec.structs.replace(known.active, number=known.active.number + 1)
        ),
        lambda known: first_segment(known, number=7),
        lambda known: first_segment(known, last_position=7),
        lambda known: first_segment(known, tree_head="00" * 32),
    ],
)
def test_a_manifest_of_another_history_is_not_appended_by(
    store: Path, change: Callable[[Manifest], Manifest]
) -> None:
    known = read_manifest(store)
    write_manifest(store, change(known))
    with pytest.raises(errors.DataLossError, match=r"older than the store, .*: nothing was put"):
        manifest_to_append_by(store, known)


def test_a_manifest_that_is_missing_or_damaged_is_not_appended_by(store: Path) -> None:
    known = read_manifest(store)
    path = store / "manifest.json"
    path.write_bytes(b"{}")
    with pytest.raises(errors.DataLossError, match=r"is damaged: .*; nothing was put$"):
        manifest_to_append_by(store, known)
    path.unlink()
    with pytest.raises(errors.DataLossError, match=r"is missing: nothing was put"):
        manifest_to_append_by(store, known)


# Writing


def test_a_file_is_durable_before_it_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, calls = tmp_path / "file", []
    fsync, replace = os.fsync, os.replace

    def syncing(descriptor: int) -> None:
        is_folder = os.path.samestat(os.fstat(descriptor), tmp_path.stat())
        calls.append(("folder" if is_folder else "file", os.fstat(descriptor).st_size))
        fsync(descriptor)

    def replacing(source: Path, target: Path) -> None:
        calls.append(("replace", source.stat().st_size))
        assert source.parent == target.parent
        replace(source, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", replacing)
    write_durably(path, b"content")
    assert [name for name, _ in calls] == ["file", "replace", "folder"]
    assert calls[0][1] == calls[1][1] == 7
    assert path.read_bytes() == b"content"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_file_that_cannot_be_written_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    unlink = Path.unlink

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, name, refused)
        with pytest.raises(errors.UnavailableError, match=r"writing .*/file failed"):
            write_durably(path, b"content")
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_bytes() == b"before"
    # That the temporary file cannot be removed either changes nothing of what is said.
    with monkeypatch.context() as patched:
        patched.setattr(os, name, refused)
        patched.setattr(Path, "unlink", refused)
        with pytest.raises(errors.UnavailableError, match=r"writing .*/file failed"):
            write_durably(path, b"content")
    assert Path.unlink is unlink
    assert path.read_bytes() == b"before"


def test_a_folder_is_synced_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(os, "fsync", seen.append)
    sync_directory(tmp_path)
    (descriptor,) = seen
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
