"""What is found in one segment: all of it, and the commit and position that each finding names."""

from __future__ import annotations

import hashlib
import shutil
import struct
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from eventstore.log import DirectoryLog, segment_check
from eventstore.log.acknowledged import read_acknowledged
from eventstore.log.columns import ACTIVE_SCHEMA
from eventstore.log.ipc_message import CHECKSUM_BYTES
from eventstore.log.ipc_stream import schema_message, schema_message_bytes, walk_messages
from eventstore.log.log import SignedHead
from eventstore.log.manifest import Manifest, read_manifest, write_manifest
from eventstore.log.segment_check import CheckedSegment, SegmentJob, check_segment
from tests.builders import acknowledge, append, draft, rotate

Found = list[tuple[str, int | None, int | None]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed, a closed and an active segment; the last two with two commits each.

    The commits end at positions 2, 4, 5, 7 and 8.
    """
    directory = tmp_path_factory.mktemp("alone") / "store"
    log = DirectoryLog.create(directory)
    append(log, draft(1), draft(2))
    log.seal()
    append(log, draft(3), draft(4))
    append(log, draft(5))
    rotate(log)
    append(log, draft(6), draft(7))
    append(log, draft(8))
    log.close()
    return directory


@pytest.fixture
def store(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "store"))


def job(directory: Path, which: int, /, **changes: Any) -> SegmentJob:
    """What is asked of a segment, with what the manifest says of it changed."""
    manifest = read_manifest(directory)
    before = manifest.segments[which - 2] if which > 1 else None
    entry, active = None, None
    if which > len(manifest.segments):
        active = msgspec.structs.replace(manifest.active, **changes)
    else:
        entry = msgspec.structs.replace(manifest.segments[which - 1], **changes)
    return SegmentJob(str(directory), manifest.store_id, entry, active, before)


def checked(directory: Path, number: int, **changes: Any) -> CheckedSegment:
    return check_segment(job(directory, number, **changes))


def found(directory: Path, number: int, **changes: Any) -> Found:
    """All findings: words, commit and position."""
    findings = checked(directory, number, **changes).findings
    assert all(finding.segment == number for finding in findings)
    return [(finding.what, finding.commit, finding.position) for finding in findings]


def places(directory: Path, number: int, words: str, **changes: Any) -> tuple[Any, Any]:
    """The commit and position of the only finding, which says `words`."""
    ((what, commit, position),) = found(directory, number, **changes)
    assert words in what
    return commit, position


def path_of(directory: Path, number: int) -> Path:
    manifest = read_manifest(directory)
    files = [*(entry.file for entry in manifest.segments), manifest.active.file]
    return directory / "log" / files[number - 1]


def rewrite(directory: Path, number: int, content: bytes) -> None:
    """Put other content into a segment's file, and make the manifest fit it."""
    path_of(directory, number).write_bytes(content)
    manifest = read_manifest(directory)
    if number > len(manifest.segments):
        header = content[: schema_message_bytes(memoryview(content))]
        digest = hashlib.sha256(header).hexdigest()
        active = msgspec.structs.replace(
            manifest.active, header_bytes=len(header), header_sha256=digest
        )
        write_manifest(directory, msgspec.structs.replace(manifest, active=active))
        return
    digest = hashlib.sha256(content).hexdigest()
    segments = [*manifest.segments]
    segments[number - 1] = msgspec.structs.replace(
        segments[number - 1], file_bytes=len(content), file_sha256=digest
    )
    write_manifest(directory, msgspec.structs.replace(manifest, segments=tuple(segments)))


def stream(directory: Path, number: int) -> tuple[bytes, list[bytes], bytes]:
    """The header of a stream, its messages, and what follows them."""
    data = memoryview(path_of(directory, number).read_bytes())
    start = schema_message_bytes(data)
    walk = walk_messages(data, start)
    bounds = [start, *walk.ends]
    messages = [bytes(data[a:b]) for a, b in pairwise(bounds)]
    return bytes(data[:start]), messages, bytes(data[bounds[-1] :])


def test_what_was_written_is_sound(store: Path) -> None:
    heads = []
    for number, records, commits in ((1, 2, 1), (2, 3, 2), (3, 3, 2)):
        result = checked(store, number)
        assert (result.records, result.commits, result.findings) == (records, commits, [])
        assert [(use.kind, use.type_id) for use in result.types] == [("artifact", 10)]
        heads.append(result.head)
    assert heads[:2] == [entry.tree_head for entry in read_manifest(store).segments]
    assert len(set(heads)) == 3


# Streams


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


# What the manifest says


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(
    "name",
    [
        *("file_bytes", "first_position", "first_commit", "first_recorded_at"),
        *("last_position", "last_commit", "last_recorded_at"),
    ],
)
@pytest.mark.parametrize("step", [1, -1])
def test_each_number_in_the_manifest(store: Path, number: int, name: str, step: int) -> None:
    entry = read_manifest(store).segments[number - 1]
    stated = getattr(entry, name) + step
    first = {"first_commit": entry.first_commit, "first_position": entry.first_position}
    if name in first:
        first[name] = stated
    commit, position = places(
        *(store, number, f"the manifest says that {name} of segment {number}"), **{name: stated}
    )
    assert (commit, position) == (first["first_commit"], first["first_position"])


@pytest.mark.parametrize("number", [1, 2])
def test_heads_in_the_manifest(store: Path, number: int) -> None:
    entry = read_manifest(store).segments[number - 1]
    words = f"the manifest states another tree head at the end of commit {entry.last_commit}"
    where = (entry.last_commit, entry.last_position)
    other = "00" * 32
    assert places(store, number, words, tree_head=other) == where
    assert places(store, number, words, frontier=(other,) * len(entry.frontier)) == where
    assert places(store, number, words, frontier=()) == where
    assert places(store, number, words, frontier=("no hash",)) == where


def test_a_digest_in_the_manifest(store: Path) -> None:
    for number, where in ((1, (1, 1)), (2, (2, 3))):
        words = "the file does not match its SHA-256 in the manifest"
        assert places(store, number, words, file_sha256="00" * 32) == where
    words = "the header of segment 3 is damaged, in front of commit 4"
    assert places(store, 3, words, header_sha256="00" * 32) == (4, 6)


@pytest.mark.parametrize(
    "changes", [{"number": 4}, {"first_position": 7}, {"number": 4, "first_position": 7}]
)
def test_another_place_of_the_active_segment(store: Path, changes: dict[str, int]) -> None:
    number = changes.get("number", 3)
    asked = job(store, 3, **changes)
    findings = check_segment(asked).findings
    assert (findings[0].commit, findings[0].position) == (4, 6)
    assert (
        f"the manifest says that segment {number} is the active one and starts at position "
        f"{changes.get('first_position', 6)}; it is segment 3 and starts at 6, with commit 4"
    ) in findings[0].what


def test_an_active_segment_without_anything_before_it(tmp_path: Path) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    assert checked(tmp_path / "store", 1).findings == []
    append(log, draft(1))
    log.close()
    result = checked(tmp_path / "store", 1)
    assert (result.findings, result.records, result.commits) == ([], 1, 1)


# Segments that are sealed meanwhile


def test_a_segment_that_is_sealed_before_it_is_read(store: Path) -> None:
    jobs = [job(store, 2), job(store, 3)]
    before = [check_segment(one) for one in jobs]
    log = DirectoryLog.open(store)
    log.seal()
    log.close()
    assert not path_of(store, 2).with_suffix(".arrows").exists()
    assert [check_segment(one) for one in jobs] == before
    manifest = read_manifest(store)
    gone = path_of(store, 3)
    gone.unlink()
    (finding,) = check_segment(jobs[1]).findings
    assert (finding.commit, finding.position, finding.file) == (4, 6, str(gone))
    # What the manifest names is missing, and it names nothing else.
    same = SegmentJob(str(store), manifest.store_id, manifest.segments[2], None, jobs[1].previous)
    (finding,) = check_segment(same).findings
    assert finding.what.startswith("segment 3 with commits 4 to 5 cannot be read: ")


# Sealed segments


def test_pages_are_held_against_their_checksums(store: Path) -> None:
    """A page whose checksum alone was changed: other readers refuse it."""
    path = path_of(store, 1)
    content = bytearray(path.read_bytes())
    column = parquet.ParquetFile(path).metadata.row_group(0).column(0)
    start, at = column.data_page_offset, 0
    for at in range(start, start + 24):
        for bit in range(7):
            changed = bytes(content[:at]) + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
            if _is_only_its_checksum(bytes(changed)):
                rewrite(store, 1, bytes(changed))
                assert places(store, 1, "commit 1 is damaged, or one after it") == (1, 1)
                return
    pytest.fail("no checksum was found")


def _is_only_its_checksum(content: bytes) -> bool:
    def reads(verification: bool) -> bool:
        try:
            file = parquet.ParquetFile(
                pa.py_buffer(content), page_checksum_verification=verification
            )
            return file.read() is not None
        except (pa.ArrowException, OSError):
            return False

    return reads(False) and not reads(True)


def test_damaged_files_are_damaged_the_second_time_too(store: Path) -> None:
    path = path_of(store, 1)
    table = parquet.read_table(path)
    parquet.write_table(table, path, compression="snappy")
    rewrite(store, 1, path.read_bytes())
    first = found(store, 1)
    assert len(first) == 1
    assert "the file says of itself what is not so" in first[0][0]
    assert first[0][1:] == (1, 1)
    assert found(store, 1) == first


def test_only_so_many_files_are_remembered(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {bytes([number]): None for number in range(3)}
    monkeypatch.setattr(segment_check, "_TRUE_OF_THEMSELVES", known)
    monkeypatch.setattr(segment_check, "_TRUE_OF_THEMSELVES_MAX", 4)
    assert found(store, 1) == []
    digest = hashlib.sha256(path_of(store, 1).read_bytes()).digest()
    assert [*known] == [b"\0", b"\1", b"\2", digest]
    monkeypatch.setattr(segment_check, "_TRUE_OF_THEMSELVES_MAX", 3)
    assert found(store, 1) == []
    assert [*known] == [b"\1", b"\2", digest]


# Checkpoints


def signed(manifest: Manifest, **changes: Any) -> SignedHead:
    """The head after the first segment, as it was signed."""
    entry = manifest.segments[0]
    stated: dict[str, Any] = {
        "size": entry.last_position,
        "head": entry.tree_head,
        "commit": entry.last_commit,
        "recorded_at": entry.last_recorded_at,
        "signed": "ana signed",
    }
    return SignedHead(**stated | changes)


@pytest.mark.parametrize(
    "changes", [{"head": "00" * 32}, {"commit": 2}, {"recorded_at": 5}, {"size": 1}]
)
def test_another_head_than_was_signed(store: Path, changes: dict[str, Any]) -> None:
    manifest = read_manifest(store)
    asked = job(store, 1)
    honest = msgspec.structs.replace(asked, signed_heads=(signed(manifest),))
    assert check_segment(honest).findings == []
    forged = msgspec.structs.replace(
        asked, signed_heads=(signed(manifest), signed(manifest, **changes))
    )
    (finding,) = check_segment(forged).findings
    assert finding.what.startswith("history up to commit 1 is not what ana signed")
    assert (finding.commit, finding.position) == (1, changes.get("size", 2))
