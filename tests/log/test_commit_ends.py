"""Opening a long active segment reads its end alone, and believes nothing unchecked."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from eventstore import errors
from eventstore.log import DirectoryLog, Record
from eventstore.log.commit_ends import BLOCK_COMMITS, FILE_NAME
from tests.builders import append, draft

COMMITS = 2 * BLOCK_COMMITS + 7


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("eventstore.log.followed_segment.FollowedSegment._sync", lambda _: None)
    directory = tmp_path / "store"
    log = DirectoryLog.create(directory)
    ids = count(1)
    for number in range(COMMITS):
        append(log, *(draft(next(ids)) for _ in range(1 + number % 3)))
    log.close()
    return directory


def records(directory: Path) -> list[Record]:
    log = DirectoryLog.open(directory, read_only=True)
    try:
        assert log.commit_number == COMMITS
        return [record for commit in log.commits() for record in commit.records]
    finally:
        log.close()


def cut_in_the_middle(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def flip_in_the_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def swap_blocks(path: Path) -> None:
    data = path.read_bytes()
    half = len(data) // 2
    path.write_bytes(data[half:] + data[:half])


def forge(column: int, change: Callable[[int], int]) -> Callable[[Path], None]:
    """Change what a block says of a commit in its middle, and its digest with it."""

    def harm(path: Path) -> None:
        data = bytearray(path.read_bytes())
        body = array("q", bytes(data[8 : 8 * (1 + 2 + 3 * BLOCK_COMMITS)]))
        place = 2 + column * BLOCK_COMMITS + BLOCK_COMMITS // 2
        body[place] = change(body[place])
        encoded = body.tobytes()
        data[: 8 + len(encoded)] = hashlib.sha256(encoded).digest()[:8] + encoded
        path.write_bytes(data)

    return harm


@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("by", [-1, 1, 8, 10**12])
def test_what_is_forged_is_not_believed(
    directory: Path, column: int, by: int, caplog: pytest.LogCaptureFixture
) -> None:
    before = records(directory)
    forge(column, lambda number: number + by)(directory / "log" / FILE_NAME)
    assert records(directory) == before
    moments = [record.recorded_at for record in before]
    log = DirectoryLog.open(directory, read_only=True)
    asked = [log.position_at(moment) for moment in moments]
    assert [moments[position - 1] for position in asked] == moments
    assert [log.recorded_at(record.position) for record in before] == moments
    log.close()
    if by < 10**12:
        assert str(directory / "log" / FILE_NAME) in caplog.text


@pytest.mark.parametrize("harm", [Path.unlink, cut_in_the_middle, flip_in_the_middle, swap_blocks])
def test_whatever_becomes_of_the_file_the_log_is_the_same(
    directory: Path, harm: Callable[[Path], None]
) -> None:
    before = records(directory)
    log = DirectoryLog.open(directory)
    places = [log.commit_end(position) for position in range(log.position + 1)]
    log.close()
    harm(directory / "log" / FILE_NAME)
    assert records(directory) == before
    log = DirectoryLog.open(directory)
    assert [log.commit_end(position) for position in range(log.position + 1)] == places
    append(log, draft(1))
    log.close()


def test_a_commit_that_was_not_read_at_the_opening_is_checked_when_it_is_read(
    directory: Path,
) -> None:
    segment = next((directory / "log").glob("*.arrows"))
    flip_in_the_middle(segment)
    log = DirectoryLog.open(directory, read_only=True)
    assert log.commit_number == COMMITS
    with pytest.raises(errors.DataLossError, match=r"the commit that starts at position \d+"):
        list(log.commits())
    assert not log.verify().ok
    log.close()


def test_a_segment_that_was_cut_is_refused_as_before(directory: Path) -> None:
    cut_in_the_middle(next((directory / "log").glob("*.arrows")))
    with pytest.raises(errors.DataLossError):
        DirectoryLog.open(directory)


def test_the_file_of_the_segment_before_is_of_no_use_to_the_next(directory: Path) -> None:
    log = DirectoryLog.open(directory)
    log.seal()
    position = append(log, draft(9_000)).last_position
    log.close()
    log = DirectoryLog.open(directory)
    assert (log.position, log.commit_number) == (position, COMMITS + 1)
    assert log.verify().ok
    log.close()
