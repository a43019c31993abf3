"""A manifest that no store has written, with a SHA-256 that fits it: named, and nothing removed."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

import eventstore
from eventstore import errors
from eventstore.log.manifest import read_manifest, write_manifest
from eventstore.log.verification import verify_directory
from eventstore.proto import metadata_store_pb2 as mlmd


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {"file": "0000000002.arrows"},
        {"file": "a\0b"},
        {"number": 2},
        {"first_position": 2},
        {"first_position": -5},
        {"last_position": 1},
        {"last_position": 2**63 - 1},
        {"first_commit": 0},
        {"last_commit": 3},
        {"last_recorded_at": 2**62},
        {"first_recorded_at": -1},
    ],
    ids=str,
)
def test_a_segment_in_it(store: Path, changes: dict[str, Any], read_only: bool) -> None:
    manifest = read_manifest(store)
    first, *others = manifest.segments
    segments = (msgspec.structs.replace(first, **changes), *others)
    refuse(store, msgspec.structs.replace(manifest, segments=segments), read_only=read_only)


@pytest.mark.parametrize(
    "changes", [{"frontier": ("zz" * 32,) * 2}, {"frontier": ()}, {"tree_head": "zz"}], ids=str
)
def test_the_tree_in_it(store: Path, changes: dict[str, Any]) -> None:
    manifest = read_manifest(store)
    *others, newest = manifest.segments
    segments = (*others, msgspec.structs.replace(newest, **changes))
    refuse(store, msgspec.structs.replace(manifest, segments=segments), read_only=False)


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {"file": "0000000002.arrows"},
        {"number": 4},
        {"first_position": 2**63 - 1},
        {"header_bytes": 2**62},
        {"header_bytes": -1},
    ],
    ids=str,
)
def test_the_active_segment_in_it(
    store: Path,
    changes: dict[str, Any],
    read_only: bool,
) -> None:
    manifest = read_manifest(store)
    active = msgspec.structs.replace(manifest.active, **changes)
    refuse(store, msgspec.structs.replace(manifest, active=active), read_only=read_only)


def put_body(directory: Path, body: str) -> None:
    digest = hashlib.sha256(body.encode()).hexdigest()
    text = f'{{"format_version":2,"sha256":"{digest}","manifest":{body}}}\n'
    (directory / "manifest.json").write_text(text)


@pytest.mark.parametrize("header_bytes", [10**30, 2**63, 65_537, 0, -1, -(10**30)])
def test_the_length_of_the_active_header(store: Path, header_bytes: int) -> None:
    body = (store / "manifest.json").read_text().partition(',"manifest":')[2][:-2]
    active = (store / "log" / read_manifest(store).active.file).read_bytes()
    body = re.sub('"header_bytes":[0-9]+', f'"header_bytes":{header_bytes}', body)
    digest = hashlib.sha256(active[:header_bytes]).hexdigest()
    put_body(store, re.sub('"header_sha256":"[0-9a-f]+"', f'"header_sha256":"{digest}"', body))
    assert not verify_directory(store).ok
    with pytest.raises(errors.DataLossError, match="manifest"):
        eventstore.open(store)


@pytest.mark.parametrize(
    ("name", "value"),
    [("generation", 0), ("generation", 2**63), ("created_at", -1), ("created_at", 10**30)],
)
def test_what_it_says_of_itself(store: Path, name: str, value: int) -> None:
    body = (store / "manifest.json").read_text().partition(',"manifest":')[2][:-2]
    put_body(store, re.sub(f'"{name}":[0-9]+', f'"{name}":{value}', body))
    assert not verify_directory(store).ok
    with pytest.raises(errors.DataLossError, match="is damaged"):
        eventstore.open(store)


@pytest.mark.parametrize("text", ['{{"format_version":2,"x":{}}}', "{}"], ids=["member", "all"])
def test_a_manifest_that_is_nested_too_deep(store: Path, text: str) -> None:
    (store / "manifest.json").write_text(text.format("[" * 100_000 + "]" * 100_000))
    assert not verify_directory(store).ok
    for read_only in (True, False):
        with pytest.raises(errors.DataLossError, match="is damaged"):
            eventstore.open(store, read_only=read_only)


def refuse(directory: Path, manifest: Any, *, read_only: bool) -> None:
    write_manifest(directory, manifest)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    assert not verify_directory(directory).ok
    with pytest.raises(errors.DataLossError, match="cannot be"):
        eventstore.open(directory, read_only=read_only)
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before


def test_a_manifest_that_is_forged_while_the_store_is_open(store: Path) -> None:
    with eventstore.open(store) as opened:
        manifest = read_manifest(store)
        first, *others = manifest.segments
        forged = msgspec.structs.replace(first, file="0000000002.arrows")
        write_manifest(store, msgspec.structs.replace(manifest, segments=(forged, *others)))
        before = sorted(path.name for path in (store / "log").iterdir())
        for use in (opened.seal, lambda: opened.put_artifact_type(mlmd.ArtifactType(name="New"))):
            with pytest.raises(errors.DataLossError, match="segment 1 cannot be"):
                use()
        assert sorted(path.name for path in (store / "log").iterdir()) == before
