"""What is found in one segment next to the manifest, checkpoints and checksums, and where."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from eventstore.log import DirectoryLog, segment_check
from eventstore.log.log import SignedHead
from eventstore.log.manifest import Manifest, read_manifest
from eventstore.log.segment_check import SegmentJob, check_segment
from tests.attacks.one_segment import (
    checked,
    found,
    job,
    path_of,
    places,
    rewrite,
)
from tests.builders import append, draft


def test_what_was_written_is_sound(store: Path) -> None:
    heads = []
    for number, records, commits in ((1, 2, 1), (2, 3, 2), (3, 3, 2)):
        result = checked(store, number)
        assert (result.records, result.commits, result.findings) == (records, commits, [])
        assert [(use.kind, use.type_id) for use in result.types] == [("artifact", 10)]
        heads.append(result.head)
    assert heads[:2] == [entry.tree_head for entry in read_manifest(store).segments]
    assert len(set(heads)) == 3


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
