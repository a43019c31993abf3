"""What a reader takes notice of: what was acknowledged, or is durable, whole and undamaged."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventstore import errors
from eventstore.log import DirectoryLog, PositionConflictError, followed_segment
from eventstore.log.acknowledged import read_acknowledged
from eventstore.log.followed_segment import FollowedSegment, Held
from eventstore.log.ipc_message import message_envelope
from tests.builders import acknowledge, append, draft


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[tuple[DirectoryLog, DirectoryLog]]:
    """A writer that has put three commits, and a reader that knows of the first."""
    writer = DirectoryLog.create(tmp_path / "store")
    append(writer, draft(1))
    reader = DirectoryLog.open(writer.directory, read_only=True)
    append(writer, draft(2))
    append(writer, draft(3))
    yield writer, reader
    reader.close()
    writer.close()


@pytest.mark.parametrize(("segment", "position"), [(0, 1), (1, 3), (2, 3)])
def test_an_acknowledgement_of_a_later_segment_is_one_of_all_before_it(
    followed: tuple[DirectoryLog, DirectoryLog], segment: int, position: int
) -> None:
    writer, reader = followed
    known = read_acknowledged(writer.directory / "log" / "acknowledged")
    assert known is not None
    # In another segment it ends anywhere.
    end = known.end if segment == 1 else {0: 10_000, 2: 8}[segment]
    acknowledge(writer.directory, segment, end)
    writer._lock.close()
    with (writer.directory / "log" / "0000000001.arrows").open("rb") as segment_file:
        # Somebody is writing.
        fcntl.flock(segment_file, fcntl.LOCK_EX)
        assert reader.refresh() == (position > 1)
        assert reader.position == position
        assert reader._active.has_unacknowledged == (position == 1)
    reader.refresh()
    assert reader.position == 3


def test_no_more_than_is_acknowledged_is_noticed_while_somebody_writes(
    followed: tuple[DirectoryLog, DirectoryLog],
) -> None:
    writer, reader = followed
    known = read_acknowledged(writer.directory / "log" / "acknowledged")
    assert known is not None
    second = writer._active._ends.offsets[1]
    writer._lock.close()
    with (writer.directory / "log" / "0000000001.arrows").open("rb") as segment_file:
        fcntl.flock(segment_file, fcntl.LOCK_EX)
        for end, position in ((second - 1, 1), (second, 2), (known.end - 1, 2), (known.end, 3)):
            acknowledge(writer.directory, 1, end)
            reader.refresh()
            assert reader.position == position
            assert reader._active.has_unacknowledged == (position < 3)


def test_an_interrupt_while_commits_are_noted_notes_none(
    followed: tuple[DirectoryLog, DirectoryLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, reader = followed
    envelope, calls = message_envelope, []

    def interrupted(message: Any) -> Any:
        calls.append(message)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return envelope(message)

    with monkeypatch.context() as patched:
        patched.setattr(followed_segment, "message_envelope", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reader.refresh()
    assert (reader.position, reader.commit_number) == (1, 1)
    assert [commit.last_position for commit in reader.commits()] == [1]
    assert reader.refresh()
    assert [commit.last_position for commit in reader.commits()] == [1, 2, 3]
    assert [reader.commit_end(position) for position in range(4)] == [0, 1, 2, 3]


def test_what_was_noticed_by_a_refresh_that_failed_is_told_by_the_next(
    followed: tuple[DirectoryLog, DirectoryLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = followed
    writer.seal()

    def failing(_: DirectoryLog) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(DirectoryLog, "_reload_manifest", failing)
        with pytest.raises(errors.UnavailableError):
            reader.refresh()
    assert reader.refresh()
    assert reader.position == 3
    assert not reader.refresh()


def test_news_that_a_put_noticed_outlive_a_refresh_that_failed(
    followed: tuple[DirectoryLog, DirectoryLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, _ = followed
    second = DirectoryLog.open(writer.directory)
    append(writer, draft(4))
    with pytest.raises(PositionConflictError):
        append(second, draft(5))
    assert second.position == 4

    def failing(*_: object) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(second._active, "catch_up", failing)
        with pytest.raises(errors.UnavailableError):
            second.refresh()
    assert second.refresh()
    second.close()


@pytest.mark.parametrize("commit", [0, 1, 2])
def test_damage_to_what_is_known_is_named_where_it_is(
    followed: tuple[DirectoryLog, DirectoryLog], commit: int
) -> None:
    writer, reader = followed
    assert reader.refresh()
    ends = [reader._active.header_bytes, *reader._active._ends.offsets]
    path = writer.directory / "log" / "0000000001.arrows"
    content = bytearray(path.read_bytes())
    content[ends[commit + 1] - 100] ^= 1
    path.write_bytes(content)
    words = f"the commit that starts at position {commit + 1} .byte {ends[commit]}. is damaged"
    for after in range(commit + 1):
        with pytest.raises(errors.DataLossError, match=words):
            list(reader.scan(after))
        with pytest.raises(errors.DataLossError, match=words):
            list(reader.scan(after, commit + 1))
    # What lies before or after it is read.
    assert sum(len(batch) for batch in reader.scan(0, commit)) == commit
    assert sum(len(batch) for batch in reader.scan(commit + 1)) == 2 - commit


def test_a_file_that_ends_before_it_was_said_to_is_read_to_its_end(
    followed: tuple[DirectoryLog, DirectoryLog],
) -> None:
    _, reader = followed
    active = reader._active
    whole = active.path.read_bytes()
    assert active._read(10, len(whole) + 100) == whole[10:]
    assert active._read(len(whole), len(whole) + 1) == b""


def test_all_that_is_not_acknowledged_is_written_again_before_it_is_noticed(
    followed: tuple[DirectoryLog, DirectoryLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed sync may have left it in memory alone."""
    writer, reader = followed
    path = writer.directory / "log" / "0000000001.arrows"
    ends = writer._active._ends.offsets
    acknowledge(writer.directory, 1, ends[0])
    writer._lock.close()
    calls: list[tuple[object, ...]] = []
    pwrite, sync = os.pwrite, FollowedSegment._sync

    def writing(descriptor: int, data: bytes, offset: int) -> int:
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            calls.append(("write", offset, bytes(data)))
        return pwrite(descriptor, data, offset)

    def syncing(segment: FollowedSegment) -> None:
        calls.append(("sync",))
        sync(segment)

    monkeypatch.setattr(os, "pwrite", writing)
    monkeypatch.setattr(FollowedSegment, "_sync", syncing)
    second = DirectoryLog.open(writer.directory)
    append(second, draft(4))
    assert second.position == 4
    assert ("sync",) in calls
    # By the opening, which shares the lock at first, or by the put, which has it alone.
    reader._active._descriptor, held = os.open(path, os.O_RDWR), reader._active._descriptor
    os.close(held)
    acknowledge(writer.directory, 1, ends[0])
    calls.clear()
    reader._catch_up(Held.EXCLUSIVE)
    content = path.read_bytes()[ends[0] : second._active.end]
    assert calls == [("write", ends[0], content), ("sync",)]
    assert reader.position == 4
    second.close()
