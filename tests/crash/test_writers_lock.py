"""Who has the lock of the writers, and that interrupts and errors leave nothing locked or open."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import linecache
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import eventstore
from eventstore.log import DirectoryLog, forking
from eventstore.log import writers_lock as writers_lock_module
from eventstore.log.writers_lock import NotLockedError, WritersLock
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.crash.locks import is_locked
from tests.open_files import nothing_left_open, open_files


def _keep(is_opened: bool) -> bool:
    return is_opened


def test_a_lock_that_cannot_be_had_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.touch()
    second.touch()
    lock = WritersLock()

    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    with monkeypatch.context() as patched, nothing_left_open():
        patched.setattr(fcntl, "flock", refused)
        with pytest.raises(NotLockedError, match="no locks"):
            lock.hold(first, _keep)

    def refused_another(is_opened: bool) -> bool:
        with monkeypatch.context() as patched:
            patched.setattr(fcntl, "flock", refused)
            with pytest.raises(NotLockedError, match="no locks"):
                lock.hold(second, _keep)
            with pytest.raises(NotLockedError, match="no locks"):
                lock.move_to(second, lambda: None)
        assert is_locked(first), "the lock that was held is held"
        return is_opened

    with nothing_left_open():
        # It has not been opened as far as anybody knows.
        assert lock.hold(first, refused_another) is True
        assert not is_locked(first)
        assert lock.hold(first, _keep) is False
        lock.close()


def test_packing_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    eventstore.open(tmp_path / "store").close()
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(tmp_path / "store")
    hold = WritersLock.hold

    def refused(self: WritersLock, path: Path, act: Any, *, wait: bool = True) -> Any:
        if self.descriptor < 0 and not wait:
            return hold(self, path, act, wait=wait)
        raise NotLockedError(OSError(errno.EIO, "no lock"))

    with monkeypatch.context() as patched, nothing_left_open():
        patched.setattr(WritersLock, "hold", refused)
        with pytest.raises(RuntimeError):
            eventstore.downgrade_schema(config, 0)
    with nothing_left_open():
        eventstore.downgrade_schema(config, 0)


@pytest.mark.parametrize("at", range(1, 16))
def test_an_interrupt_while_another_segment_is_locked_leaves_one_open_file(
    tmp_path: Path, at: int
) -> None:
    lines = 0

    def traced(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.endswith("writers_lock.py"):
            return None
        # A line of `with` is traced again before the lock is given back, where no signal comes, nor
        # between the assignment before `os.close` and the call.
        source = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and not source.lstrip().startswith(("with ", "os.close(")):
            lines += 1
            if lines == at:
                raise KeyboardInterrupt
        return traced

    for name in ("first", "second"):
        (tmp_path / name).touch()
    lock = WritersLock()

    def moved(_: bool) -> None:
        traced_before = sys.gettrace()
        sys.settrace(traced)
        try:
            with contextlib.suppress(KeyboardInterrupt):
                lock.move_to(tmp_path / "second", lambda: None)
        finally:
            sys.settrace(traced_before)

    with nothing_left_open():
        lock.hold(tmp_path / "first", moved)
        assert lines >= min(at, 12)
        os.fstat(lock.descriptor)
        assert not is_locked(tmp_path / "first")
        assert not is_locked(tmp_path / "second")
        lock.close()


def test_an_interrupt_just_after_a_segment_was_locked_unlocks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "segment").touch()
    lock, other = WritersLock(), WritersLock()
    lock.hold(tmp_path / "segment", _keep)
    flock = fcntl.flock

    def interrupted(descriptor: int, operation: int) -> None:
        flock(descriptor, operation)
        if operation == fcntl.LOCK_EX:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lock.hold(tmp_path / "segment", _keep)
    other.hold(tmp_path / "segment", _keep, wait=False)

    def refused(_: bool) -> None:
        with pytest.raises(NotLockedError):
            other.hold(tmp_path / "segment", _keep, wait=False)

    lock.hold(tmp_path / "segment", refused)
    lock.close()
    other.close()


def _in_another_thread(act: Callable[[], object]) -> list[object]:
    """What it gives or raises; nothing when it waits."""
    answers: list[object] = []

    def run() -> None:
        try:
            answers.append(act())
        except Exception as error:
            answers.append(type(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10)
    return answers


def test_one_thread_of_a_process_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    path.touch()
    lock = WritersLock()

    def try_at_once() -> object:
        return lock.hold(path, _keep, wait=False)

    def holding(_: bool) -> str:
        assert _in_another_thread(try_at_once) == [NotLockedError]
        # Nor does one come in that waits for it.
        assert _in_another_thread(lambda: lock._threads.acquire(blocking=False)) == [False]
        assert is_locked(path)
        # The same thread may hold it once more, and has it still after that.
        assert lock.hold(path, lambda opened: opened or lock._depth) == 2
        assert lock.hold(path, lambda opened: opened or lock._depth, wait=False) == 2
        assert is_locked(path)
        with pytest.raises(ZeroDivisionError):
            lock.hold(path, lambda _: 1 // 0)
        assert is_locked(path)
        return "held"

    for _ in range(2):
        assert lock.hold(path, holding) == "held"
        assert not is_locked(path)
        assert _in_another_thread(try_at_once) == [False]
        with pytest.raises(ZeroDivisionError):
            lock.hold(path, lambda _: 1 // 0)
        assert not is_locked(path)
        assert _in_another_thread(try_at_once) == [False]
    lock.close()
    lock.close()


def test_a_lock_that_cannot_be_given_back_goes_with_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "segment"
    path.touch()
    lock, flock = WritersLock(), fcntl.flock

    def refusing(descriptor: int, operation: int) -> None:
        if operation == fcntl.LOCK_UN:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        flock(descriptor, operation)

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", refusing)
        assert lock.hold(path, lambda _: "done") == "done"
    assert lock.descriptor < 0
    assert not is_locked(path)
    assert lock.hold(path, _keep) is True
    lock.close()


def test_the_lock_moves_to_the_next_segment_after_what_is_done(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.touch()
    second.touch()
    lock = WritersLock()

    def move(_: bool) -> None:
        lock.move_to(second, lambda: seen.append((is_locked(first), is_locked(second))))
        seen.append((is_locked(first), is_locked(second)))

    seen: list[tuple[bool, bool]] = []
    lock.hold(first, move)
    assert seen == [(True, True), (False, True)]
    assert not is_locked(second)
    assert lock.hold(second, _keep) is False
    assert lock.hold(first, _keep) is True
    lock.close()


def test_an_interrupt_as_the_lock_is_given_back_gives_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "segment"
    path.touch()
    lock = WritersLock()
    calls, unlock = [], lock._unlock

    def interrupted(depth: int) -> None:
        calls.append(depth)
        if len(calls) == 1:
            raise KeyboardInterrupt
        unlock(depth)

    monkeypatch.setattr(lock, "_unlock", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lock.hold(path, _keep)
    assert calls == [0, 0]
    assert not is_locked(path)
    lock.close()


def test_an_interrupt_as_a_reader_unlocks_a_segment_unlocks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    calls, unlock = [], log._active._unlock

    def interrupted() -> None:
        calls.append(True)
        if len(calls) == 1:
            raise KeyboardInterrupt
        unlock()

    monkeypatch.setattr(log._active, "_unlock", interrupted)
    with pytest.raises(KeyboardInterrupt):
        log._active.settle()
    assert not is_locked(log._active.path)
    log.close()


def test_a_path_is_the_same_however_it_was_made(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    path.touch()
    lock = WritersLock()
    assert lock.hold(path, _keep) is True
    assert lock.hold(Path(str(path)), _keep) is False
    lock.close()


def test_no_child_is_forked_between_opening_a_segment_and_noting_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would have the lock, and not know."""
    path, other = tmp_path / "segment", tmp_path / "other"
    path.touch()
    other.touch()
    noted: list[bool] = []
    open_regular = writers_lock_module.open_regular  # type: ignore[attr-defined]

    def opening(*arguments: Any) -> int:
        assert forking._forking._is_owned()  # type: ignore[attr-defined]
        opened: int = open_regular(*arguments)
        return opened

    class Noting(WritersLock):
        def __setattr__(self, name: str, value: object) -> None:
            if name == "descriptor" and value != -1:
                noted.append(forking._forking._is_owned())  # type: ignore[attr-defined]
            super().__setattr__(name, value)

    monkeypatch.setattr(writers_lock_module, "open_regular", opening)
    lock = Noting()
    with nothing_left_open():
        before = len(open_files())
        lock.hold(path, lambda _: lock.move_to(other, lambda: None))
        assert noted == [True, True]
        assert len(open_files()) == before + 1
        lock.close()
