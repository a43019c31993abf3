"""An unacknowledged last message whose lengths make no sense is a torn write, and goes."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from eventstore import errors
from eventstore.log import DirectoryLog
from eventstore.log.acknowledged import FILE_NAME
from eventstore.log.verification import verify_directory
from tests.builders import append, draft


@pytest.fixture
def store(tmp_path: Path) -> tuple[Path, Path, int]:
    """A store of two commits, its active segment, and where the second starts in it."""
    directory = tmp_path / "store"
    log = DirectoryLog.create(directory)
    append(log, draft(1), draft(2))
    (segment,) = log.segments()
    append(log, draft(3))
    log.close()
    assert segment.path is not None
    return directory, segment.path, segment.file_bytes


def place_of_body_length(content: bytes, message: int) -> int:
    """Where a message says how long its body is: a field of a flatbuffer table, over its vtable."""
    metadata = message + 8
    table = metadata + struct.unpack_from("<I", content, metadata)[0]
    vtable = table - struct.unpack_from("<i", content, table)[0]
    return int(table + struct.unpack_from("<H", content, vtable + 10)[0])


def changed(content: bytes, start: int, what: str, by: int) -> bytes:
    place = start + 4 if what == "metadata" else place_of_body_length(content, start)
    layout = struct.Struct("<i" if what == "metadata" else "<q")
    made = bytearray(content)
    layout.pack_into(made, place, layout.unpack_from(content, place)[0] + by)
    return bytes(made)


@pytest.mark.parametrize(
    ("what", "by"),
    [
        ("metadata", -4096),
        ("metadata", -(2**31)),
        ("metadata", 4096),
        ("body", -1),
        ("body", -4),
        ("body", 4),
        ("body", 2**40),
        ("body", -(2**13)),
        ("body", -(2**63)),
    ],
)
def test_lengths_that_make_no_sense(store: tuple[Path, Path, int], what: str, by: int) -> None:
    directory, segment, start = store
    whole = segment.read_bytes()
    segment.write_bytes(changed(whole, start, what, by))
    (finding,) = verify_directory(directory).findings
    assert (finding.commit, finding.position) == (2, 3)
    with pytest.raises(errors.DataLossError, match="position 3"):
        DirectoryLog.open(directory)
    # Without the acknowledgement, it may be what a writer was at when it died.
    (directory / "log" / FILE_NAME).unlink()
    assert verify_directory(directory).ok
    log = DirectoryLog.open(directory)
    assert log.position == 2
    assert append(log, draft(4)).last_position == 3
    assert log.verify().ok
    log.close()
    assert segment.read_bytes()[:start] == whole[:start]


def test_a_length_that_makes_sense_but_is_wrong_is_damage(store: tuple[Path, Path, int]) -> None:
    directory, segment, start = store
    whole = segment.read_bytes()
    segment.write_bytes(changed(whole, start, "body", -8))
    (directory / "log" / FILE_NAME).unlink()
    (finding,) = verify_directory(directory).findings
    assert (finding.commit, finding.position) == (2, 3)
    with pytest.raises(errors.DataLossError, match="position 3"):
        DirectoryLog.open(directory)
    assert segment.read_bytes() != whole
