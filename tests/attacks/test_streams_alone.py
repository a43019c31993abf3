"""What is found in a segment that is a stream, and in what follows the commits of an active one."""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from eventstore.log import DirectoryLog
from eventstore.log.acknowledged import read_acknowledged
from eventstore.log.columns import ACTIVE_SCHEMA
from eventstore.log.ipc_message import CHECKSUM_BYTES
from eventstore.log.ipc_stream import schema_message, schema_message_bytes, walk_messages
from tests.attacks.one_segment import (
    checked,
    found,
    path_of,
    places,
    rewrite,
)
from tests.builders import acknowledge, append, draft


def stream(directory: Path, number: int) -> tuple[bytes, list[bytes], bytes]:
    """The header of a stream, its messages, and what follows them."""
    data = memoryview(path_of(directory, number).read_bytes())
    start = schema_message_bytes(data)
    walk = walk_messages(data, start)
    bounds = [start, *walk.ends]
    messages = [bytes(data[a:b]) for a, b in pairwise(bounds)]
    return bytes(data[:start]), messages, bytes(data[bounds[-1] :])


@pytest.mark.parametrize("extra", [b"\0", bytes(8), b"years of work"])
def test_bytes_after_the_end_of_a_closed_segment(store: Path, extra: bytes) -> None:
    rewrite(store, 2, path_of(store, 2).read_bytes() + extra)
    words = "segment 2 is closed, and has bytes after the end of its commits"
    assert places(store, 2, words) == (3, 5)


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("eventstore.store_id", str(UUID(int=1))),
        ("eventstore.segment", "9"),
        ("eventstore.format_version", "77"),
        ("eventstore.first_position", "1"),
        ("more", "than that"),
    ],
)
def test_a_header_of_another_segment(store: Path, number: int, name: str, value: str) -> None:
    header, messages, rest = stream(store, number)
    schema = pa.ipc.read_schema(pa.py_buffer(header))
    metadata = {key.decode(): text.decode() for key, text in schema.metadata.items()}
    assert schema_message(metadata) == header
    rewrite(store, number, b"".join([schema_message(metadata | {name: value}), *messages, rest]))
    words = (
        f"the header of segment {number} is damaged, in front of commit {2 * number - 2}: it is "
        "that of another segment or store"
    )
    assert places(store, number, words) == (2 * number - 2, 3 * number - 3)


@pytest.mark.parametrize("number", [2, 3])
def test_a_header_with_other_columns(store: Path, number: int) -> None:
    header, messages, rest = stream(store, number)
    schema = pa.ipc.read_schema(pa.py_buffer(header))
    more = schema.append(pa.field("hidden", pa.string())).serialize().to_pybytes()
    rewrite(store, number, b"".join([more, *messages, rest]))
    assert places(store, number, "it lays down other columns") == (2 * number - 2, 3 * number - 3)
    rewrite(store, number, b"".join([header[:-16] + bytes(16), *messages, rest]))
    assert found(store, number)[0][1:] == (2 * number - 2, 3 * number - 3)


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("message", [0, 1])
def test_a_message_that_was_changed(store: Path, number: int, message: int) -> None:
    header, messages, rest = stream(store, number)
    changed = bytearray(messages[message])
    changed[len(changed) // 2] ^= 1
    messages[message] = bytes(changed)
    rewrite(store, number, b"".join([header, *messages, rest]))
    commit, position = 2 * number - 2 + message, 3 * number - 3 + 2 * message
    assert places(store, number, f"commit {commit} is damaged: byte ") == (commit, position)


def message_of(batch: pa.RecordBatch) -> bytes:
    """A batch as a message with a valid checksum, where its last row has room for one."""
    message = bytes(batch.serialize())
    return message[:-CHECKSUM_BYTES] + hashlib.sha256(message).digest()


def batches_of(messages: list[bytes]) -> list[pa.RecordBatch]:
    return [pa.ipc.read_record_batch(pa.py_buffer(message), ACTIVE_SCHEMA) for message in messages]


def with_column(batch: pa.RecordBatch, name: str, values: list[Any]) -> pa.RecordBatch:
    at = ACTIVE_SCHEMA.get_field_index(name)
    return batch.set_column(at, ACTIVE_SCHEMA.field(at), pa.array(values, ACTIVE_SCHEMA.types[at]))


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("kind", ["merged", "split", "checksum", "no head"])
def test_commits_that_are_not_a_message_each(store: Path, number: int, kind: str) -> None:
    """Each message is whole and valid, and so are the tree heads."""
    header, messages, rest = stream(store, number)
    room = bytes(CHECKSUM_BYTES)
    batches = [
        with_column(batch, "checksum", [None] * (len(batch) - 1) + [room])
        for batch in batches_of(messages)
    ]
    assert [message_of(batch) for batch in batches] == messages
    name = "tree_head"
    if kind == "merged":
        merged = pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
        batches = [with_column(merged, "checksum", [None, None, room])]
    elif kind == "split":
        first = with_column(batches[0].slice(0, 1), "checksum", [room])
        batches = [first, batches[0].slice(1), batches[1]]
    elif kind == "checksum":
        batches[0] = with_column(batches[0], "checksum", [room, room])
        name = "checksum"
    else:
        batches[1] = with_column(batches[1], "tree_head", [None])
    made = [
        message_of(pa.RecordBatch.from_pylist(batch.to_pylist(), ACTIVE_SCHEMA))
        for batch in batches
    ]
    rewrite(store, number, b"".join([header, *made, rest]))
    (store / "log" / "acknowledged").unlink()
    words = (
        f"the messages of segment {number}, from commit {2 * number - 2} on, are not a commit "
        f"each: {name} is not on the last row of each alone"
    )
    assert places(store, number, words) == (2 * number - 2, 3 * number - 3)


def test_a_closed_segment_without_its_last_commit(store: Path) -> None:
    header, messages, rest = stream(store, 2)
    rewrite(store, 2, b"".join([header, messages[0], rest]))
    assert places(store, 2, "the manifest says that last_position of segment 2") == (2, 3)
    rewrite(store, 2, b"".join([header, *messages]))
    assert places(store, 2, "commit 4 is damaged: byte ") == (4, 6)
    rewrite(store, 2, b"".join([header, messages[0], messages[1][:-8]]))
    assert places(store, 2, "commit 3 is damaged: byte ") == (3, 5)
    rewrite(store, 2, header)
    assert places(store, 2, "commit 2 is damaged: byte ") == (2, 3)


# The end of the active segment


def acknowledge_more(directory: Path, *, segment: int = 3, more: int = 0) -> int:
    """Acknowledge a segment `more` bytes further than before; up to where it was."""
    known = read_acknowledged(directory / "log" / "acknowledged")
    assert known is not None
    acknowledge(directory, segment, known.end + more)
    return known.end


def test_commits_that_were_acknowledged_and_are_missing(store: Path) -> None:
    end = acknowledge_more(store)
    path = path_of(store, 3)
    content = path.read_bytes()
    assert len(content) == end
    assert found(store, 3) == []
    acknowledge_more(store, more=1)
    words = f"commit 6 is missing: there is none from byte {end} on, commits up to byte {end + 1}"
    assert places(store, 3, words) == (6, 9)
    path.write_bytes(content + bytes(8))
    assert places(store, 3, words) == (6, 9)
    # Of another segment nothing follows for this one.
    acknowledge_more(store, segment=4)
    assert found(store, 3) == []
    header, messages, _ = stream(store, 3)
    acknowledge_more(store, segment=3)
    path.write_bytes(header + messages[0])
    assert places(store, 3, "commit 5 is missing: there is none from byte ") == (5, 8)


def test_a_write_that_was_cut_off(store: Path) -> None:
    """Only of a commit that was not acknowledged, and only in the active segment."""
    end = acknowledge_more(store)
    path = path_of(store, 3)
    whole = path.read_bytes()
    message = stream(store, 3)[1][1]
    for torn in (
        message[:8],
        message[:-1],
        message[:300] + bytes(len(message) - 300),
        message[:100] + message[:96],
    ):
        path.write_bytes(whole + torn)
        assert found(store, 3) == [], len(torn)
        acknowledge_more(store, more=1)
        assert places(store, 3, f"commit 6 is damaged: byte {end} starts") == (6, 9)
        acknowledge(store, 3, end)
    for foreign in (b"years of work", b"\0" * 8 + b"years of work"):
        path.write_bytes(whole + foreign)
        assert places(store, 3, f"commit 6 is damaged: byte {end} starts") == (6, 9), foreign
    # What follows it shows that the disk had gone on.
    path.write_bytes(whole + message[:-8] + bytes([message[-8] ^ 1]) + message[-7:] + message)
    assert places(store, 3, f"commit 6 is damaged: byte {end} starts") == (6, 9)


@pytest.mark.parametrize("by", [0, 1, -1])
def test_a_write_that_lacks_one_sector(tmp_path: Path, by: int) -> None:
    """Zeros are a sector that did not reach the disk only where the disk has one."""
    directory = tmp_path / "store"
    log = DirectoryLog.create(directory)
    append(log, draft(1, name="x" * 4_000))
    append(log, draft(2, name="x" * 4_000))
    log.close()
    path = path_of(directory, 1)
    content = bytearray(path.read_bytes())
    last = stream(directory, 1)[1][-1]
    start = content.index(b"x" * 4_000, len(content) - len(last))
    sector = (start // 512 + 2) * 512 + by
    content[sector : sector + 512] = bytes(512)
    path.write_bytes(content)
    (directory / "log" / "acknowledged").unlink()
    if by:
        assert places(directory, 1, "commit 2 is damaged: byte ") == (2, 2)
    else:
        assert found(directory, 1) == []


def test_a_clock_at_the_beginning_of_its_time(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(time, "time_ns", lambda: 0)
        log = DirectoryLog.create(tmp_path / "store")
        append(log, draft(1))
        log.close()
    assert found(tmp_path / "store", 1) == []


def test_what_may_follow_the_newest_commit(store: Path) -> None:
    path = path_of(store, 3)
    whole = path.read_bytes()
    for rest in (b"", bytes(64), struct.pack("<Ii", 0xFFFFFFFF, 0)):
        path.write_bytes(whole + rest)
        assert found(store, 3) == [], rest


@pytest.mark.parametrize("prepare", [Path.unlink, lambda path: path.write_bytes(b"no such thing")])
def test_without_an_acknowledgement_what_is_there_counts(
    store: Path, prepare: Callable[[Path], object]
) -> None:
    prepare(store / "log" / "acknowledged")
    assert found(store, 3) == []
    path = path_of(store, 3)
    path.write_bytes(path.read_bytes()[:-8])
    result = checked(store, 3)
    assert (result.findings, result.records, result.commits) == ([], 2, 1)
