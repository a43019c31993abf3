"""A log reads what it has open under its mutex: another thread may be rotating or closing it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventstore import errors
from eventstore.log import DirectoryLog, MemoryLog
from tests.builders import append, draft, rotate

_WITHOUT = frozenset(("is_up_to_date", "last_position", "newest", "path", "refuse_closed"))
"""What may be asked of an active segment at any time: each is one look at one thing."""


class _Guarded:
    """An object whose members can be read only by the thread that holds a mutex, or never by it."""

    def __init__(self, guarded: object, mutex: Any, *, is_held: bool) -> None:
        self._guarded = guarded
        self._mutex = mutex
        self._is_held = is_held

    def __getattr__(self, name: str) -> Any:
        is_right = self._mutex._is_owned() is self._is_held
        assert name in _WITHOUT or is_right, f"{name} with{'out' * self._is_held} the mutex"
        return getattr(self._guarded, name)


@pytest.fixture
def guarded(tmp_path: Path) -> DirectoryLog:
    """A log with a sealed, a closed and an active segment, each with two commits."""
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1), draft(2))
    append(log, draft(3))
    log.seal()
    append(log, draft(4))
    append(log, draft(5))
    rotate(log)
    append(log, draft(6))
    append(log, draft(7), draft(8))
    assert [segment.state for segment in log.segments()] == ["sealed", "closed", "active"]
    # What takes no more commits keeps nobody from appending.
    for name, is_held in (("_active", True), ("_closed", False)):
        log.__dict__[name] = _Guarded(log.__dict__[name], log._mutex, is_held=is_held)
    return log


def _append_elsewhere(log: DirectoryLog) -> None:
    other = DirectoryLog.open(log.directory)
    append(other, draft(9))
    other.close()


def _read_batches(log: DirectoryLog) -> None:
    assert sum(len(batch) for batch in log.scan()) == 8
    assert sum(len(batch) for batch in log.scan(0, 4, ["name"])) == 4


def _catch_up(log: DirectoryLog) -> None:
    _append_elsewhere(log)
    assert log.refresh()
    assert log.position == 9


@pytest.mark.parametrize(
    "ask",
    [
        lambda log: [log.commit_end(position) for position in range(9)],
        lambda log: [log.recorded_at(position) for position in range(1, 9)],
        lambda log: [log.position_at(log.recorded_at(position)) for position in range(1, 9)],
        lambda log: log.position_at(0),
        lambda log: log.segments(),
        lambda log: list(log.commits()),
        lambda log: log.check_closed(),
        _read_batches,
        _catch_up,
    ],
    ids=[
        *("commit_end", "recorded_at", "position_at", "position_at_0", "segments", "commits"),
        *("check_closed", "scan", "refresh"),
    ],
)
def test_what_is_open_is_read_under_the_mutex(
    guarded: DirectoryLog, ask: Callable[[DirectoryLog], object]
) -> None:
    ask(guarded)
    guarded.close()


def test_appending_is_under_the_mutex(guarded: DirectoryLog) -> None:
    append(guarded, draft(9))
    guarded.seal()
    assert guarded.position == 9
    guarded.close()


def test_a_log_is_closed_under_the_mutex(
    guarded: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    close = guarded._close_descriptors

    def observing() -> None:
        seen.append(guarded._mutex._is_owned())  # type: ignore[attr-defined]
        close()

    monkeypatch.setattr(guarded, "_close_descriptors", observing)
    guarded.close()
    assert seen == [True]


def test_one_thread_of_a_process_seals_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that locks sealing can be removed at any time."""
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1))
    seen = []
    seal_segment = log._seal_segment

    def observing(*arguments: Any) -> None:
        (log.directory / "sealing.lock").unlink(missing_ok=True)
        seen.append(log._sealing_mutex.locked())
        seal_segment(*arguments)

    monkeypatch.setattr(log, "_seal_segment", observing)
    log.seal()
    log.close()
    assert seen[:1] == [True]


def test_what_is_missing_of_a_segment_is_looked_for_under_the_mutex(
    guarded: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    catch_up = guarded._catch_up

    def observing(*arguments: Any) -> None:
        seen.append(guarded._mutex._is_owned())  # type: ignore[attr-defined]
        catch_up(*arguments)

    monkeypatch.setattr(guarded, "_catch_up", observing)
    guarded._lock.close()
    (guarded.directory / "log" / "0000000003.arrows").unlink()
    with pytest.raises(errors.FailedPreconditionError, match="moved, removed or replaced"):
        append(guarded, draft(9))
    assert seen
    assert all(seen)


def test_a_child_opens_a_log_once_for_all_its_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1))
    log.after_fork_in_child()
    opening, opened = threading.Event(), []
    open_again = log._open_again

    def waiting() -> None:
        opened.append(threading.current_thread().name)
        opening.set()
        # The others come while this one is at it.
        assert log._mutex._is_owned()  # type: ignore[attr-defined]
        open_again()

    monkeypatch.setattr(log, "_open_again", waiting)
    threads = [threading.Thread(target=lambda: log.position) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 1
    assert log.position == 1
    log.close()


def test_appends_in_memory_are_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from eventstore.log import memory

    log = MemoryLog()
    seen = []
    make_commit = memory.make_commit  # type: ignore[attr-defined]

    def observing(*arguments: Any, **named: Any) -> Any:
        seen.append(log._mutex.locked())
        return make_commit(*arguments, **named)

    monkeypatch.setattr(memory, "make_commit", observing)
    append(log, draft(1))
    assert seen == [True]
