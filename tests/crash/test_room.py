"""Room for further commits after the newest one: never mistaken for a commit, never in the way."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore import errors
from eventstore.log import DirectoryLog, followed_segment
from eventstore.log.acknowledged import FILE_NAME
from eventstore.log.ipc_stream import END_OF_STREAM
from eventstore.log.verification import verify_directory
from tests.builders import append, draft
from tests.shares import some_of

_SECTOR = 512


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A store of three commits, of 1, 1 and 30 records, as a writer left it that was killed."""
    log = DirectoryLog.create(tmp_path / "written")
    append(log, draft(1))
    append(log, draft(2))
    append(log, *(draft(number) for number in range(3, 33)))
    shutil.copytree(tmp_path / "written", tmp_path / "left")
    log.close()
    return tmp_path / "left"


def _segment(directory: Path) -> Path:
    (path,) = (directory / "log").glob("*.arrows")
    return path


def _ends(directory: Path) -> list[int]:
    """Where the commits in the active segment end."""
    log = DirectoryLog.open(directory, read_only=True)
    ends = list(log._active._ends.offsets)
    log.close()
    return ends


def _positions(directory: Path) -> list[int]:
    log = DirectoryLog.open(directory, read_only=True)
    positions = [commit.last_position for commit in log.commits()]
    log.close()
    return positions


def _overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def test_a_killed_writer_leaves_room_and_a_closed_one_none(left: Path) -> None:
    end, path = _ends(left)[-1], _segment(left)
    content = path.read_bytes()
    assert len(content) > end
    assert not any(content[end:])
    assert verify_directory(left).ok
    assert [batch.num_rows for batch in pa.ipc.open_stream(path)] == [1, 1, 30]
    log = DirectoryLog.open(left)
    assert log.segments()[0].file_bytes == end
    log.close()
    assert path.read_bytes() == content[:end]


def test_puts_go_on_in_the_room_that_was_left(left: Path, caplog: pytest.LogCaptureFixture) -> None:
    size = _segment(left).stat().st_size
    log = DirectoryLog.open(left)
    with caplog.at_level(logging.WARNING, "eventstore.log"):
        append(log, draft(33))
    assert not caplog.records
    assert _segment(left).stat().st_size == size
    assert _positions(left) == [1, 2, 32, 33]
    assert log.verify().ok
    log.close()


def test_a_long_commit_goes_beyond_the_room(left: Path) -> None:
    log = DirectoryLog.open(left)
    append(log, *(draft(number) for number in range(33, 3000)))
    append(log, draft(3000))
    assert _positions(left) == [1, 2, 32, 2999, 3000]
    assert log.verify().ok
    log.close()


def test_what_is_not_zero_in_the_room_is_found_and_removed(
    left: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, end = _segment(left), _ends(left)[-1]
    content = path.read_bytes()
    for offset in (end, end + 1, end + 7, end + 8, end + 300, end + 100_000, len(content) - 1):
        _overwrite(path, offset, b"\x10")
        report = verify_directory(left)
        assert [finding.commit for finding in report.findings] == [4], offset
        assert _positions(left) == [1, 2, 32]
        caplog.clear()
        with caplog.at_level(logging.WARNING, "eventstore.log"):
            log = DirectoryLog.open(left)
            assert log.verify().ok, offset
            append(log, draft(33))
        assert len(caplog.records) == 1, offset
        assert log.verify().ok
        log.close()
        path.write_bytes(content)
        path.with_name(FILE_NAME).unlink()


@pytest.mark.parametrize("records", [1, 30])
def test_a_write_that_lacks_sectors_is_cut(left: Path, records: int) -> None:
    path, start = _segment(left), _ends(left)[-1]
    log = DirectoryLog.open(left)
    append(log, *(draft(number) for number in range(33, 33 + records)))
    written = path.read_bytes()
    end = log._active.end
    log.close()
    sectors = range(start // _SECTOR * _SECTOR, end, _SECTOR)
    assert len(sectors) > 2
    for sector in sectors:
        missing = range(max(sector, start), min(sector + _SECTOR, end))
        torn = written[: missing.start] + bytes(len(missing)) + written[missing.stop :]
        if torn == written:
            continue
        path.write_bytes(torn)
        path.with_name(FILE_NAME).unlink(missing_ok=True)
        assert _positions(left) == [1, 2, 32], sector
        log = DirectoryLog.open(left)
        append(log, draft(33))
        assert _positions(left) == [1, 2, 32, 33]
        assert log.verify().ok, sector
        log.close()


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), records=st.integers(1, 200), puts=st.integers(0, 3))
def test_whatever_sectors_of_a_write_reach_the_disk_nothing_else_is_lost(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, records: int, puts: int
) -> None:
    """As after a loss of power: the last write was not synced, nor what was written with it."""
    directory = tmp_path_factory.mktemp("power") / "store"
    log = DirectoryLog.create(directory)
    for number in range(puts):
        append(log, draft(number + 1))
    path = _segment(directory)
    before, start = path.read_bytes(), log._active.end
    append(log, *(draft(1000 + number) for number in range(records)))
    after, end = path.read_bytes(), log._active.end
    log.close()
    size = data.draw(st.sampled_from([len(before), len(after), start, (start + end) // 2, end]))
    content = bytearray(before[:size].ljust(size, b"\0"))
    sectors = range(start // _SECTOR * _SECTOR, end, _SECTOR)
    for sector in data.draw(st.sets(st.sampled_from(sectors))):
        written = slice(max(sector, start), min(sector + _SECTOR, end, size))
        content[written] = after[written]
    path.write_bytes(content)
    path.with_name(FILE_NAME).unlink()
    commits = puts + (content[start:end] == after[start:end])
    log = DirectoryLog.open(directory)
    append(log, draft(7))
    assert log.commit_number == commits + 1
    assert [commit.number for commit in log.commits()] == [*range(1, commits + 2)]
    assert log.verify().ok
    log.close()


def test_a_flipped_bit_in_a_commit_before_the_room_is_no_torn_write(
    left: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody is writing here.
    monkeypatch.setattr(followed_segment, "_SECOND_LOOK_SECONDS", 0.0)
    path, (start, end) = _segment(left), _ends(left)[:2]
    path.with_name(FILE_NAME).unlink()
    content = path.read_bytes()[:end] + bytes(4096)
    # After the message's metadata, which say how long it is.
    for offset in some_of(range(start + 960, end), 4):
        path.write_bytes(content)
        _overwrite(path, offset, bytes([content[offset] ^ 0x10]))
        with pytest.raises(errors.DataLossError, match="position 2"):
            DirectoryLog.open(left)


def test_an_acknowledged_commit_that_turned_into_room_is_missed(left: Path) -> None:
    *_, start, end = _ends(left)
    _overwrite(_segment(left), start, bytes(end - start))
    report = verify_directory(left)
    assert [finding.commit for finding in report.findings] == [3]
    assert "missing" in report.findings[0].what
    with pytest.raises(errors.DataLossError, match="position 3 is missing"):
        DirectoryLog.open(left)


def test_writers_share_the_room_and_one_of_them_closes(left: Path) -> None:
    logs = [DirectoryLog.open(left) for _ in range(3)]
    for number in range(33, 39):
        log = logs[number % 3]
        log.refresh()
        append(log, draft(number))
    logs[0].close()
    for number in range(39, 43):
        log = logs[1 + number % 2]
        log.refresh()
        append(log, draft(number))
    assert _positions(left) == [1, 2, 32, *range(33, 43)]
    assert logs[1].verify().ok
    logs[1].close()
    logs[2].refresh()
    assert logs[2].position == 42
    logs[2].close()
    assert _segment(left).stat().st_size == _ends(left)[-1]


def test_a_full_disk_leaves_no_room_and_the_put_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    write = os.pwrite

    def almost_full(descriptor: int, data: bytes, offset: int) -> int:
        if len(data) > 100_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data, offset)

    with monkeypatch.context() as patched:
        patched.setattr("os.pwrite", almost_full)
        append(log, draft(1))
    assert _segment(tmp_path / "store").stat().st_size == log.segments()[0].file_bytes
    assert log.verify().ok
    log.close()


def test_a_closed_segment_has_no_room_even_if_its_writer_died(left: Path) -> None:
    _overwrite(_segment(left), _ends(left)[-1], END_OF_STREAM)
    log = DirectoryLog.open(left)
    append(log, draft(33))
    first, second = log.segments()
    assert (first.state, second.state) == ("closed", "active")
    assert first.path is not None
    assert first.path.read_bytes().endswith(END_OF_STREAM)
    assert log.verify().ok
    log.seal()
    assert _positions(left) == [1, 2, 32, 33]
    log.close()


def test_a_message_that_is_being_copied_is_no_damage(
    left: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, start = _segment(left), _ends(left)[-1]
    writer = DirectoryLog.open(left)
    append(writer, draft(33))
    end = writer._active.end
    message = path.read_bytes()[start:end]
    writer.close()
    path.with_name(FILE_NAME).unlink()
    # All but the last bytes of the checksum, as left by a writer that is stopped for a moment.
    _overwrite(path, start, message[:-9] + bytes(9))

    def goes_on(_: float) -> None:
        _overwrite(path, start, message)

    monkeypatch.setattr("time.sleep", goes_on)
    assert _positions(left) == [1, 2, 32, 33]


def test_a_commit_that_ends_where_the_first_read_does_is_not_the_last(tmp_path: Path) -> None:
    writer = DirectoryLog.create(tmp_path / "store")
    append(writer, draft(1))
    behind = DirectoryLog.open(tmp_path / "store")
    ends = []
    for number in range(2, 40):
        append(writer, draft(number))
        ends.append(writer._active.end)
    start, position = behind._active.end, 39
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(followed_segment, "_READ_BYTES", ends[20] - start)
        behind.refresh()
        assert behind.position == position
        opened = DirectoryLog.open(tmp_path / "store")
        assert opened.position == position
        append(opened, draft(40))
    assert _positions(tmp_path / "store") == [*range(1, 41)]
    for log in (writer, behind, opened):
        log.close()


@pytest.mark.parametrize("is_acknowledged", [True, False])
def test_a_zeroed_start_of_a_commit_is_reported_and_nothing_behind_it_cut(
    left: Path, is_acknowledged: bool
) -> None:
    path, (start, *_) = _segment(left), _ends(left)
    _overwrite(path, start, bytes(8))
    if not is_acknowledged:
        path.with_name(FILE_NAME).unlink()
    damaged = path.read_bytes()
    for _ in range(2):
        with pytest.raises(errors.DataLossError, match="position 2"):
            DirectoryLog.open(left)
    assert path.read_bytes() == damaged


def test_a_commit_whose_start_was_zeroed_meanwhile_is_not_cut(left: Path) -> None:
    path, (start, *_) = _segment(left), _ends(left)
    whole = path.read_bytes()
    path.write_bytes(whole[:start])
    path.with_name(FILE_NAME).unlink()
    log = DirectoryLog.open(left)
    damaged = whole[:start] + bytes(8) + whole[start + 8 :]
    path.write_bytes(damaged)
    with pytest.raises(errors.DataLossError, match="position 2"):
        append(log, draft(2))
    log.close()
    assert path.read_bytes() == damaged
