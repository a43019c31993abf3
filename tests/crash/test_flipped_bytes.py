"""`verify` finds any flipped bit of any file and names the commit."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow.parquet import ParquetFile

from eventstore.log import DirectoryLog, verification
from eventstore.log.rows_check import CheckedSegment
from eventstore.log.segment_check import SegmentJob, check_segment
from eventstore.log.verification import verify_directory
from tests.builders import append, draft
from tests.shares import some_of

_PARTS = 2
"""How many tests share the bytes of a file."""
_SHARE = 8
"""Of how many neighbouring bytes one is flipped."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Commits 1 to 3 sealed, 4 to 6 active."""
    directory = tmp_path_factory.mktemp("flipped") / "store"
    log = DirectoryLog.create(directory)
    for number in range(1, 7):
        append(log, *(draft(10 * number + n, name=f"n{number}{n}") for n in range(number % 3 + 1)))
        if number == 3:
            log.seal()
    log.close()
    assert verify_directory(directory).ok
    return directory


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in (directory / "log").iterdir() if path.suffix)


def _check_flip(directory: Path, path: Path, content: bytes, offset: int, bit: int) -> None:
    with path.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), bytes([content[offset] ^ 1 << bit]), offset)
        try:
            report = verify_directory(directory)
        finally:
            os.pwrite(file.fileno(), content[offset : offset + 1], offset)
    assert not report.ok, (path.name, offset, bit)
    expected = {1, 2, 3} if path.suffix == ".parquet" else {_commit_at(content, offset)}
    assert report.findings[0].commit in expected, (path.name, offset, bit, report.findings)
    assert f"commit {report.findings[0].commit}" in report.findings[0].what


def _commit_at(content: bytes, offset: int) -> int:
    """The commit of the active segment whose message, or whose header before it, has a byte."""
    starts = [
        start
        for start in range(0, len(content), 8)
        if content[start : start + 4] == b"\xff\xff\xff\xff"
    ]
    # The first message is the header, which comes before commit 4.
    return 3 + max(1, sum(start <= offset for start in starts) - 1)


@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data(), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(store: Path, data: st.DataObject, bit: int) -> None:
    path = data.draw(st.sampled_from(_files(store)))
    offset = data.draw(st.integers(0, path.stat().st_size - 1))
    _check_flip(store, path, path.read_bytes(), offset, bit)


@pytest.mark.parametrize("part", range(_PARTS))
@pytest.mark.parametrize("state", ["sealed", "active"])
def test_every_byte_is_watched(
    store: Path, state: str, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments are checked apart: the other one's check, which no byte changes, is made once."""
    checked: list[str] = []
    once = functools.cache(check_segment)

    def check(job: SegmentJob) -> CheckedSegment:
        is_flipped = (job.entry is not None) == (state == "sealed")
        checked.append("flipped" if is_flipped else "other")
        return check_segment(job) if is_flipped else once(job)

    monkeypatch.setattr(verification, "check_segment", check)
    # Six rows are read sooner than threads are told to.
    in_one_thread = functools.partialmethod(ParquetFile.read_row_group, use_threads=False)
    monkeypatch.setattr(ParquetFile, "read_row_group", in_one_thread)
    path = _files(store)[state == "active"]
    content = path.read_bytes()
    for offset in some_of(range(part, len(content), _PARTS), _SHARE):
        _check_flip(store, path, content, offset, offset // _PARTS % 8)
    assert set(checked) == {"flipped", "other"}


@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data(), bit=st.integers(0, 7))
def test_any_flipped_bit_of_the_manifest_is_found(
    store: Path, data: st.DataObject, bit: int
) -> None:
    path = store / "manifest.json"
    content = path.read_bytes()
    offset = data.draw(st.integers(0, len(content) - 1))
    flipped = bytearray(content)
    flipped[offset] ^= 1 << bit
    path.write_bytes(flipped)
    try:
        if b'"format_version":2' in flipped:
            assert not verify_directory(store).ok
    finally:
        path.write_bytes(content)
