"""What a finding names: the file, the segment, and the first commit and position it is about."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from eventstore import errors
from eventstore.log import DirectoryLog, Finding, sealing
from eventstore.log.manifest import Segment, stored_manifest, write_manifest
from eventstore.log.verification import verify_directory
from tests.builders import append, draft


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sealed segments, the second in three row groups, and two commits in the active one."""
    directory = tmp_path_factory.mktemp("findings") / "store"
    log = DirectoryLog.create(directory)
    append(log, draft(1), draft(2))
    log.seal()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sealing, "ROWS_PER_GROUP", 2)
        for first in (3, 5, 7):
            append(log, draft(first), draft(first + 1))
        log.seal()
    append(log, draft(9), draft(10))
    append(log, draft(11))
    log.close()
    assert verify_directory(directory).ok
    return directory


def found(directory: Path) -> Finding:
    """The first finding, to which all others only add."""
    report = verify_directory(directory)
    assert not report.ok
    return report.findings[0]


def named(finding: Finding) -> tuple[str, int | None, int | None, int | None]:
    assert finding.file is not None
    return Path(finding.file).name, finding.segment, finding.commit, finding.position


def entry(directory: Path, number: int) -> Segment:
    return stored_manifest(directory).segments[number - 1]


def put_entry(directory: Path, changed: Segment) -> None:
    manifest = stored_manifest(directory)
    segments = tuple(changed if s.number == changed.number else s for s in manifest.segments)
    write_manifest(directory, msgspec.structs.replace(manifest, segments=segments))


def replace_file(directory: Path, number: int, content: bytes, *, mend: bool = True) -> None:
    segment = entry(directory, number)
    (directory / "log" / segment.file).write_bytes(content)
    if mend:
        digest = hashlib.sha256(content).hexdigest()
        put_entry(
            directory,
            msgspec.structs.replace(segment, file_bytes=len(content), file_sha256=digest),
        )


def test_every_byte_of_the_active_header_counts(store: Path) -> None:
    """Arrow reads over its padding; what was written is what has to be there."""
    active = stored_manifest(store).active
    path = store / "log" / active.file
    whole = path.read_bytes()
    header = whole[: active.header_bytes]
    schema = pa.ipc.read_schema(pa.py_buffer(header))
    unread = []
    for place in range(8, active.header_bytes):
        changed = bytearray(header)
        changed[place] ^= 1
        try:
            read = pa.ipc.read_schema(pa.py_buffer(bytes(changed)))
            if read.equals(schema, check_metadata=True):
                unread.append(place)
        except (pa.ArrowException, OSError, ValueError, KeyError, UnicodeDecodeError):
            pass
    assert unread
    for place in (unread[0], unread[-1], active.header_bytes - 1, 4 + 8):
        content = bytearray(whole)
        content[place] ^= 1
        path.write_bytes(content)
        finding = found(store)
        assert named(finding) == ("0000000003.arrows", 3, 5, 9)
        assert "the header of segment 3 is damaged, in front of commit 5" in finding.what
        with pytest.raises(errors.DataLossError, match="header"):
            DirectoryLog.open(store)


def test_statistics_that_lie_in_a_later_row_group(store: Path) -> None:
    path = store / "log" / entry(store, 2).file
    content = path.read_bytes()
    file = parquet.ParquetFile(path)
    assert file.num_row_groups == 3
    for group, (commit, position) in enumerate([(2, 3), (3, 5), (4, 7)]):
        largest = struct.pack("<q", position + 1)
        column = file.metadata.row_group(group).column(0)
        assert column.statistics.max == position + 1
        start = column.data_page_offset
        lie = struct.pack("<q", position + 2)
        page = content[start : start + 100].replace(largest, lie, 1)
        assert page != content[start : start + 100]
        replace_file(store, 2, content[:start] + page + content[start + 100 :])
        finding = found(store)
        assert named(finding) == ("0000000002.parquet", 2, commit, position)
        assert "the file says of itself what is not so" in finding.what


@pytest.mark.parametrize("group", [0, 1, 2])
def test_a_page_that_does_not_decode(store: Path, group: int) -> None:
    path = store / "log" / entry(store, 2).file
    content = bytearray(path.read_bytes())
    metadata = parquet.ParquetFile(path).metadata
    names = [metadata.schema.column(n).path for n in range(metadata.num_columns)]
    column = metadata.row_group(group).column(names.index("payload"))
    content[column.data_page_offset + column.total_compressed_size - 8] ^= 1
    replace_file(store, 2, bytes(content))
    finding = found(store)
    assert named(finding) == ("0000000002.parquet", 2, group + 2, 2 * group + 3)
    assert (
        f"commit {group + 2} is damaged, or one after it up to commit {group + 2}" in finding.what
    )


def test_a_footer_that_does_not_decode(store: Path) -> None:
    path = store / "log" / entry(store, 2).file
    content = path.read_bytes()
    for changed in (content[:-8], content[:-8] + b"\xff\xff\xff\x7fPAR1", b""):
        replace_file(store, 2, changed)
        finding = found(store)
        assert named(finding) == ("0000000002.parquet", 2, 2, 3)
        assert "the Parquet footer is damaged, so that commits 2 to 4" in finding.what


def test_a_segment_that_is_not_there(store: Path) -> None:
    (store / "log" / "0000000002.parquet").unlink()
    finding = found(store)
    assert named(finding) == ("0000000002.parquet", 2, 2, 3)
    assert "segment 2 with commits 2 to 4 cannot be read: No such file" in finding.what
    (store / "log" / "0000000003.arrows").unlink()
    last = verify_directory(store).findings[-1]
    assert named(last) == ("0000000003.arrows", 3, None, None)
    assert "the active segment 3 cannot be read: No such file" in last.what


def test_a_byte_that_nothing_reads(store: Path) -> None:
    content = bytearray((store / "log" / "0000000002.parquet").read_bytes())
    place = content.index(b"parquet-cpp-arrow version ") + 27
    content[place] ^= 1
    replace_file(store, 2, bytes(content), mend=False)
    finding = found(store)
    assert named(finding) == ("0000000002.parquet", 2, 2, 3)
    assert "does not match its SHA-256 in the manifest; its commits (2 to 4" in finding.what


def test_a_segment_under_another_name(store: Path) -> None:
    for number, name in ((1, "0000000002.parquet"), (2, "../log/0000000002.parquet")):
        before = entry(store, number)
        put_entry(store, msgspec.structs.replace(before, file=name))
        finding = found(store)
        assert named(finding)[1:] == (number, number, 2 * number - 1)
        assert (
            f"commits {before.first_commit} to {before.last_commit}, is in {name}" in finding.what
        )
        put_entry(store, before)
    assert verify_directory(store).ok


@pytest.mark.parametrize("name", ["0000000004.arrows", "0000000001.arrows"])
def test_what_cannot_be_read_beside_the_segments(store: Path, name: str) -> None:
    (store / "log" / name).symlink_to(store / "nowhere")
    (finding,) = verify_directory(store).findings
    assert finding.file == str(store / "log" / name)
    assert finding.what.startswith(f"{store / 'log' / name} belongs to nothing: it cannot be read")


def test_more_than_the_header_of_the_next_segment(store: Path) -> None:
    active = store / "log" / "0000000003.arrows"
    following = store / "log" / "0000000004.arrows"
    header = active.read_bytes()[: stored_manifest(store).active.header_bytes]
    following.write_bytes(header)
    assert verify_directory(store).ok
    for content in (header + b"\0", header[:-1], active.read_bytes()):
        following.write_bytes(content)
        (finding,) = verify_directory(store).findings
        assert finding.what.startswith(f"{following} belongs to nothing: it is after the active")
