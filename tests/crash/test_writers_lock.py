"""Writers exclude each other, whatever is removed, moved or replaced under them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import linecache
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.log import DirectoryLog, forking
from eventstore.log import directory as directory_module
from eventstore.log import writers_lock as writers_lock_module
from eventstore.log.acknowledged import FILE_NAME
from eventstore.log.writers_lock import NotLockedError, WritersLock
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import append, draft
from tests.crash.locks import is_locked


def _is_locked(directory: Path) -> bool:
    """Whether the newest segment that is appended to is locked."""
    active = max((directory / "log").glob("*.arrows"), default=None)
    return active is not None and is_locked(active)


@pytest.fixture
def observed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, bool]]:
    """Every change of a store's files: its call, what it changes, and whether it was locked."""
    directory = tmp_path / "store"
    seen: list[tuple[str, str, bool]] = []

    def watch(name: str, path_of: Callable[..., str]) -> None:
        call = getattr(os, name)

        def observing(*arguments: object, **named: object) -> object:
            target = Path(path_of(*arguments))
            if directory in target.parents and not target.name.endswith(".tmp"):
                seen.append((name, target.name, _is_locked(directory)))
            return call(*arguments, **named)

        monkeypatch.setattr(os, name, observing)

    def of_descriptor(descriptor: int, *_: object) -> str:
        return os.readlink(f"/proc/self/fd/{descriptor}")

    for name in ("pwrite", "fdatasync", "ftruncate"):
        watch(name, of_descriptor)
    watch("replace", lambda _, target: str(target))
    watch("unlink", str)
    return seen


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to name open files")
def test_every_change_of_the_log_is_under_the_lock(
    tmp_path: Path, observed: list[tuple[str, str, bool]]
) -> None:
    log = DirectoryLog.create(tmp_path / "store", segment_records_max=2)
    observed.clear()
    for number in range(1, 6):
        append(log, draft(number))
    log.seal()
    append(log, draft(6))
    log.close()
    changes = {(call, name) for call, name, _ in observed}
    for expected in (
        ("pwrite", "0000000001.arrows"),
        ("fdatasync", "0000000001.arrows"),
        ("ftruncate", "0000000001.arrows"),
        ("replace", "manifest.json"),
        ("replace", "0000000001.parquet"),
    ):
        assert expected in changes, expected
    outside = {
        (call, name)
        for call, name, was_locked in observed
        # A segment takes its name before the manifest, and so anybody, knows it.
        if not was_locked and (call, name[10:]) != ("replace", ".arrows")
    }
    assert not outside


def test_the_acknowledgement_is_under_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    seen = []
    acknowledge = log._acknowledge

    def observing(frontier: object) -> None:
        seen.append(_is_locked(tmp_path / "store"))
        acknowledge(frontier)  # type: ignore[arg-type]

    monkeypatch.setattr(log, "_acknowledge", observing)
    append(log, draft(1))
    log.seal()
    assert seen == [True, True]
    assert not _is_locked(tmp_path / "store")
    log.close()


@pytest.mark.parametrize("name", ["lock", "sealing.lock", "log/acknowledged", "log/commit-ends"])
def test_what_may_be_removed_takes_no_commit_along(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "store"
    first = DirectoryLog.create(directory, segment_records_max=3)
    append(first, draft(1))
    first.seal()
    (directory / name).unlink(missing_ok=True)
    second = DirectoryLog.open(directory, segment_records_max=3)
    seen = []
    append_to_file = first._active.append
    with pytest.MonkeyPatch.context() as patched:

        def removing(*arguments: object) -> None:
            (directory / name).unlink(missing_ok=True)
            seen.append(_is_locked(directory))
            append_to_file(*arguments)  # type: ignore[arg-type]

        patched.setattr(first._active, "append", removing)
        append(first, draft(2))
    assert seen == [True]
    for number in range(3, 12):
        log = (first, second)[number % 2]
        log.refresh()
        append(log, draft(number))
    assert [c.last_position for c in second.commits()] == [*range(1, 12)]
    for log in (first, second):
        log.seal()
        assert log.verify().ok
        log.close()


def test_the_acknowledgement_is_made_anew_when_it_was_removed(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    log = DirectoryLog.create(directory)
    append(log, draft(1))
    (directory / "log" / FILE_NAME).unlink()
    append(log, draft(2))
    known = (directory / "log" / FILE_NAME).read_bytes()
    append(log, draft(3))
    assert (directory / "log" / FILE_NAME).read_bytes() != known
    log.close()


def _remove(directory: Path) -> None:
    shutil.rmtree(directory)


def _move(directory: Path) -> None:
    directory.rename(directory.with_name("moved"))


def _replace(directory: Path) -> None:
    _move(directory)
    log = DirectoryLog.create(directory)
    append(log, draft(77))
    log.close()


def _copy_back(directory: Path) -> None:
    _move(directory)
    shutil.copytree(directory.with_name("moved"), directory)


def _replace_the_segment(directory: Path) -> None:
    (segment,) = (directory / "log").glob("*.arrows")
    copy = segment.with_name("copy")
    shutil.copy(segment, copy)
    copy.rename(segment)


def _remove_the_segment(directory: Path) -> None:
    (segment,) = (directory / "log").glob("*.arrows")
    segment.unlink()


@pytest.mark.parametrize(
    "change",
    [_remove, _move, _replace, _copy_back, _replace_the_segment, _remove_the_segment],
)
@pytest.mark.parametrize("has_put", [True, False])
def test_nothing_is_acknowledged_that_lands_elsewhere(
    tmp_path: Path, change: Callable[[Path], None], has_put: bool
) -> None:
    DirectoryLog.create(tmp_path / "store").close()
    log = DirectoryLog.open(tmp_path / "store")
    if has_put:
        append(log, draft(1))
    change(tmp_path / "store")
    for _ in range(2):
        with pytest.raises(errors.FailedPreconditionError, match="moved, removed or replaced"):
            append(log, draft(2))
        with pytest.raises(errors.FailedPreconditionError, match="moved, removed or replaced"):
            log.seal()
    log.close()
    if change in (_move, _copy_back):
        moved = DirectoryLog.open(tmp_path / "moved")
        append(moved, draft(moved.position + 1))
        assert moved.verify().ok
        moved.close()


def _dying_writer(directory: Path, child: Callable[[], None]) -> None:
    """Rotate, fork a child with the successor locked, and die at once."""
    log = DirectoryLog.open(directory, segment_records_max=1)

    def forking(*_: object) -> None:
        if not os.fork():
            try:
                child()
            finally:
                os._exit(0)
        os._exit(0)

    directory_module.write_manifest = forking  # type: ignore[assignment]
    append(log, draft(2))


def test_a_child_forked_in_a_rotation_holds_no_lock(tmp_path: Path) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1))
    log.close()
    forked, to_child = os.pipe(), os.pipe()

    def child() -> None:
        os.close(to_child[1])
        os.write(forked[1], b"1")
        # To the test's end.
        os.read(to_child[0], 1)

    writer = os.fork()
    if not writer:
        try:
            _dying_writer(tmp_path / "store", child)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1]) == 0
    assert os.read(forked[0], 1) == b"1"
    try:
        assert not is_locked(tmp_path / "store" / "log" / "0000000001.arrows")
        assert not is_locked(tmp_path / "store" / "log" / "0000000002.arrows")
    finally:
        for descriptor in (*forked, *to_child):
            os.close(descriptor)


def _keep(is_opened: bool) -> bool:
    return is_opened


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to count open files")
def test_a_lock_that_cannot_be_had_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.touch()
    second.touch()
    lock, before = WritersLock(), _open_files()

    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", refused)
        with pytest.raises(NotLockedError, match="no locks"):
            lock.hold(first, _keep)
    assert _open_files() == before

    def refused_another(is_opened: bool) -> bool:
        with monkeypatch.context() as patched:
            patched.setattr(fcntl, "flock", refused)
            with pytest.raises(NotLockedError, match="no locks"):
                lock.hold(second, _keep)
            with pytest.raises(NotLockedError, match="no locks"):
                lock.move_to(second, lambda: None)
        assert is_locked(first), "the lock that was held is held"
        return is_opened

    # It has not been opened as far as anybody knows.
    assert lock.hold(first, refused_another) is True
    assert not is_locked(first)
    assert lock.hold(first, _keep) is False
    lock.close()
    assert _open_files() == before


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to count open files")
def test_packing_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    eventstore.open(tmp_path / "store").close()
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(tmp_path / "store")
    before, hold = _open_files(), WritersLock.hold

    def refused(self: WritersLock, path: Path, act: Any, *, wait: bool = True) -> Any:
        if self.descriptor < 0 and not wait:
            return hold(self, path, act, wait=wait)
        raise NotLockedError(OSError(errno.EIO, "no lock"))

    monkeypatch.setattr(WritersLock, "hold", refused)
    with pytest.raises(RuntimeError):
        eventstore.downgrade_schema(config, 0)
    monkeypatch.undo()
    assert _open_files() == before
    eventstore.downgrade_schema(config, 0)
    assert _open_files() == before


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
    open_before = os.listdir("/proc/self/fd")
    lock = WritersLock()

    def moved(_: bool) -> None:
        traced_before = sys.gettrace()
        sys.settrace(traced)
        try:
            with contextlib.suppress(KeyboardInterrupt):
                lock.move_to(tmp_path / "second", lambda: None)
        finally:
            sys.settrace(traced_before)

    lock.hold(tmp_path / "first", moved)
    assert lines >= min(at, 12)
    os.fstat(lock.descriptor)
    assert not is_locked(tmp_path / "first")
    assert not is_locked(tmp_path / "second")
    lock.close()
    assert len(os.listdir("/proc/self/fd")) == len(open_before)


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
    assert not _is_locked(tmp_path / "store")
    log.close()


def test_a_path_is_the_same_however_it_was_made(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    path.touch()
    lock = WritersLock()
    assert lock.hold(path, _keep) is True
    assert lock.hold(Path(str(path)), _keep) is False
    lock.close()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to count open files")
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
    before = _open_files()
    lock.hold(path, lambda _: lock.move_to(other, lambda: None))
    assert noted == [True, True]
    assert _open_files() == before + 1
    lock.close()
    assert _open_files() == before
