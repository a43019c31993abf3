"""Without standard input, the first file that a store opens gets descriptor 0, which is no less."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstore.log import DirectoryLog
from eventstore.log.writers_lock import WritersLock
from tests.builders import append, draft
from tests.crash.locks import is_locked


@pytest.fixture(autouse=True)
def _without_input() -> Iterator[None]:
    kept = os.dup(0)
    os.close(0)
    yield
    os.dup2(kept, 0)
    os.close(kept)


@pytest.fixture
def segments(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("first", "second"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path / "first", tmp_path / "second"


def _is_open() -> bool:
    try:
        os.fstat(0)
    except OSError:
        return False
    return True


def test_a_lock_on_it_is_given_back(segments: tuple[Path, Path]) -> None:
    lock = WritersLock()
    assert lock.hold(segments[0], lambda _: (lock.descriptor, is_locked(segments[0]))) == (0, True)
    assert not is_locked(segments[0])
    lock.close()
    assert not _is_open()


def test_it_is_closed_when_the_lock_moves_on(segments: tuple[Path, Path]) -> None:
    lock = WritersLock()
    lock.hold(segments[0], lambda _: lock.move_to(segments[1], lambda: None))
    assert lock.descriptor > 0
    assert not _is_open()
    assert not is_locked(segments[0])
    lock.close()


def test_a_child_forked_as_the_lock_moves_to_it_lets_go_of_it(segments: tuple[Path, Path]) -> None:
    lock = WritersLock()

    def lets_go() -> None:
        assert is_locked(segments[1])
        child = os.fork()
        if child == 0:
            lock.after_fork_in_child()
            os._exit(_is_open())
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    def move(_: bool) -> None:
        # Out of the way, so that the next file gets it.
        lock.descriptor = os.dup(0)
        os.close(0)
        lock.move_to(segments[1], lets_go)

    lock.hold(segments[0], move)
    assert lock.descriptor == 0
    lock.close()


def test_a_reader_with_the_segment_at_it_reads_and_closes_it(tmp_path: Path) -> None:
    with_input = DirectoryLog.create(tmp_path / "store")
    append(with_input, draft(1))
    with_input.close()
    log = DirectoryLog.open(tmp_path / "store", read_only=True)
    assert log._active._descriptor == 0
    assert [commit.last_position for commit in log.commits()] == [1]
    log.close()
    assert not _is_open()


def test_a_writer_with_the_acknowledgement_at_it_acknowledges_and_closes_it(tmp_path: Path) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1))
    log.close()
    assert not _is_open()
    log = DirectoryLog.open(tmp_path / "store")
    assert log._acknowledged_descriptor == 0
    append(log, draft(2))
    end = log._active.end
    assert log._active.file_bytes() > end
    log.close()
    assert not _is_open()
    assert log._active.path.stat().st_size == end, "the room is given back"
