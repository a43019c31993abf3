"""Messages that match their checksum and that no store has written: found, and named in errors."""

from __future__ import annotations

import hashlib
import random
import struct
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import eventstore
from eventstore import errors
from eventstore.log import DirectoryLog
from eventstore.log.columns import ACTIVE_SCHEMA
from eventstore.log.ipc_message import CHECKSUM_BYTES, NODES_AT, ROWS_AT
from eventstore.log.ipc_stream import END_OF_STREAM, schema_message_bytes, walk_messages
from eventstore.log.verification import verify_directory
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.attacks.one_segment import path_of, rewrite

CLOSED, ACTIVE = 2, 3
NAMES = [name for name in ACTIVE_SCHEMA.names if name != "checksum"]


def with_checksum(message: bytes) -> bytes:
    content = message[:-CHECKSUM_BYTES]
    return content + hashlib.sha256(content + bytes(CHECKSUM_BYTES)).digest()


def forge(directory: Path, number: int, which: int, change: Any) -> None:
    """Let `change` make another message of one of a segment's."""
    content = path_of(directory, number).read_bytes()
    start = schema_message_bytes(memoryview(content))
    bounds = [start, *walk_messages(memoryview(content), start).ends]
    begin, end = [*pairwise(bounds)][which]
    forged = with_checksum(change(content[begin:end]))
    rewrite(directory, number, content[:begin] + forged + content[end:])


def stored(directory: Path) -> list[dict[str, Any]]:
    with closing(DirectoryLog.open(directory, read_only=True)) as log:
        return [row for batch in log.scan(columns=NAMES) for row in batch.to_pylist()]


def read_and_seal(directory: Path) -> None:
    with closing(DirectoryLog.open(directory)) as log:
        assert [*log.commits()]
        log.seal()


def assert_found_or_the_same(directory: Path, expected: Iterable[dict[str, Any]]) -> None:
    """A finding, unless nothing is told otherwise; readers and sealing raise DataLossError."""
    if verify_directory(directory).ok:
        assert stored(directory) == expected
    with suppress(errors.DataLossError):
        read_and_seal(directory)


@pytest.mark.share(3)
@pytest.mark.parametrize("number", [CLOSED, ACTIVE])
@pytest.mark.parametrize("seed", range(8))
def test_any_bytes_of_a_message(store: Path, number: int, seed: int) -> None:
    chance, expected = random.Random(seed), stored(store)
    files = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}

    def change(message: bytes) -> bytes:
        changed = bytearray(message)
        at = chance.randrange(8, len(changed) - CHECKSUM_BYTES)
        if chance.random() < 0.7:
            changed[at] ^= 1 << chance.randrange(8)
        else:
            value = chance.choice([-1, 0, 1, 2**31, 2**62])
            at -= at % 8
            changed[at : at + 8] = value.to_bytes(8, "little", signed=True)
        return bytes(changed)

    for _ in range(10):
        forge(store, number, chance.randrange(2), change)
        assert_found_or_the_same(store, expected)
        for path in {path for path in store.rglob("*") if path.is_file()} - {*files}:
            path.unlink()
        for path, content in files.items():
            path.write_bytes(content)


def replaced(name: str, values: list[Any]) -> Any:
    """What makes a message in which a column has other values."""

    def change(message: bytes) -> bytes:
        batch = pa.ipc.read_record_batch(pa.py_buffer(message), ACTIVE_SCHEMA)
        place = ACTIVE_SCHEMA.get_field_index(name)
        columns = [*batch.columns]
        columns[place] = pa.array(values, ACTIVE_SCHEMA.field(name).type)
        written: bytes = (
            pa.RecordBatch.from_arrays(columns, schema=ACTIVE_SCHEMA).serialize().to_pybytes()
        )
        return written

    return change


@pytest.mark.parametrize("number", [CLOSED, ACTIVE])
@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("position", [6, None], "a value is missing that every record has"),
        ("commit", [None, None], "a value is missing that every record has"),
        ("recorded_at", [None, 1], "a value is missing that every record has"),
        ("kind", [None, "artifact"], "a value is missing that every record has"),
        ("entity_id", [1, None], "a value is missing that every record has"),
        ("kind", ["artifact", "thing"], "'thing'"),
        ("position", [3, 9], "is out of order"),
        ("position", [6, 2**62], "is out of order"),
        ("commit", [4, 3], "is out of order"),
        ("commit", [2**63 - 1] * 2, "is out of order"),
        ("recorded_at", [2**62] * 2, ""),
        ("recorded_at", [1, 0], "is out of order"),
    ],
)
def test_values_of_a_message(
    store: Path, number: int, name: str, values: list[Any], words: str
) -> None:
    forge(store, number, 0, replaced(name, values))
    findings = verify_directory(store).findings
    assert any(words in finding.what for finding in findings), findings
    with pytest.raises(errors.DataLossError, match="is damaged"):
        read_and_seal(store)


@pytest.mark.parametrize("number", [CLOSED, ACTIVE])
@pytest.mark.parametrize(
    ("heads", "words"),
    [([None, None], "is out of order"), ([bytes(32), bytes(32)], "do not give its tree head")],
)
def test_heads_of_a_commit(store: Path, number: int, heads: list[Any], words: str) -> None:
    forge(store, number, 0, replaced("tree_head", heads))
    findings = verify_directory(store).findings
    assert any(words in finding.what for finding in findings), findings


@pytest.mark.parametrize("number", [CLOSED, ACTIVE])
@pytest.mark.parametrize("what", ["metadata", "version", "compression"])
def test_a_message_says_no_more_than_a_commit(store: Path, number: int, what: str) -> None:
    """Whoever reads the file would see what no hash is over."""
    options = pa.ipc.IpcWriteOptions(
        metadata_version=pa.ipc.MetadataVersion.V4
        if what == "version"
        else None or pa.ipc.MetadataVersion.V5,
        compression="zstd" if what == "compression" else None,
    )

    def change(message: bytes) -> bytes:
        batch = pa.ipc.read_record_batch(pa.py_buffer(message), ACTIVE_SCHEMA)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, ACTIVE_SCHEMA, options=options) as writer:
            metadata = {"more": "x"} if what == "metadata" else None
            writer.write_batch(batch, custom_metadata=metadata)
        stream: bytes = sink.getvalue().to_pybytes()
        return stream[schema_message_bytes(memoryview(stream)) : -len(END_OF_STREAM)]

    forge(store, number, 0, change)
    assert not verify_directory(store).ok


@pytest.mark.parametrize("number", [CLOSED, ACTIVE])
def test_a_header_has_no_metadata_of_a_column(store: Path, number: int) -> None:
    content = path_of(store, number).read_bytes()
    length = schema_message_bytes(memoryview(content))
    schema = pa.ipc.read_schema(pa.py_buffer(content[:length]))
    place = schema.get_field_index("actor")
    schema = schema.set(place, schema.field(place).with_metadata({"more": "x"}))
    rewrite(store, number, schema.serialize().to_pybytes() + content[length:])
    assert any("other columns" in f.what for f in verify_directory(store).findings)


def of_one(**fields: Any) -> bytes:
    """A message of one record, which says it is an artifact's, to follow the store's commits."""
    payload = mlmd.Artifact(id=9, type_id=10).SerializeToString()
    record = {
        "position": 9,
        "commit": 6,
        "kind": "artifact",
        "entity_id": 9,
        "type_id": 10,
        "recorded_at": time.time_ns() // 1000,
        "salt": bytes(16),
        "payload": payload,
        "tree_head": bytes(32),
        "checksum": bytes(32),
        **fields,
    }
    columns = [
        pa.array([record.get(name)], pa.int64()).view(field.type)
        if name == "recorded_at"
        else pa.array([record.get(name)], field.type)
        for name, field in zip(ACTIVE_SCHEMA.names, ACTIVE_SCHEMA, strict=True)
    ]
    message: bytes = (
        pa.RecordBatch.from_arrays(columns, schema=ACTIVE_SCHEMA).serialize().to_pybytes()
    )
    return with_checksum(message)


def add(directory: Path, message: bytes) -> None:
    """Put a message after the commits of the active segment."""
    path = path_of(directory, ACTIVE)
    content = path.read_bytes()
    end = walk_messages(memoryview(content), schema_message_bytes(memoryview(content))).stopped_at
    path.write_bytes(content[:end] + message)


def use(store: eventstore.MetadataStore) -> None:
    """Ask what can be asked; and put."""
    store.get_artifacts()
    store.get_artifacts_by_id([9])
    assert [*store.changes()]
    store.put_artifact_type(mlmd.ArtifactType(name="T"))
    store.seal()


@pytest.mark.parametrize(
    "fields",
    [
        {"position": 1009},
        {"position": 1},
        {"position": 2**63 - 1},
        {"commit": 7},
        {"recorded_at": 1},
        {"recorded_at": 2**62},
        {"payload": b"\xff"},
        {"payload": None},
        {"salt": None},
        {"salt": bytes(16), "commitment": bytes(32)},
        {"entity_id": 0},
        {"kind": "thing"},
        {"tree_head": None},
    ],
    ids=str,
)
def test_a_message_more(store: Path, fields: dict[str, Any]) -> None:
    add(store, of_one(**fields))
    manifest = (store / "manifest.json").read_bytes()
    assert not verify_directory(store).ok
    for _ in range(2):
        with (
            pytest.raises(errors.DataLossError, match="is damaged"),
            eventstore.open(store) as opened,
        ):
            use(opened)
    assert (store / "manifest.json").read_bytes() == manifest


def test_a_message_without_records(store: Path) -> None:
    message = bytearray(of_one())
    struct.pack_into("<q", message, ROWS_AT, 0)
    struct.pack_into(
        f"<{2 * len(ACTIVE_SCHEMA)}q", message, NODES_AT, *bytes(2 * len(ACTIVE_SCHEMA))
    )
    add(store, with_checksum(bytes(message)))
    with pytest.raises(errors.DataLossError, match="is damaged"), eventstore.open(store) as opened:
        use(opened)
