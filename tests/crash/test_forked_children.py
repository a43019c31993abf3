"""A forked child works on the store by itself, whatever the parent's threads were doing."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore.log import DirectoryLog, MemoryLog
from eventstore.log.file_lock import exclusive
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store import Engine
from tests.builders import append, draft, memory_store
from tests.crash.locks import is_locked
from tests.own_process import assert_runs

_SECONDS_MAX = 30


def _in_child(work: Callable[[], None]) -> None:
    """Run something in a forked child; an error or a hang there fails here."""
    child = os.fork()
    if child == 0:
        # Of the operating system: no lock of the process keeps it from ending the child.
        signal.alarm(_SECONDS_MAX)
        code = 1
        with contextlib.suppress(BaseException):
            try:
                work()
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
        os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert status == 0, f"the child ended with {os.waitstatus_to_exitcode(status)}"


@contextlib.contextmanager
def _held(lock: contextlib.AbstractContextManager[object]) -> Iterator[None]:
    """A lock held by another thread, as at the moment of a fork."""
    is_held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            is_held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    is_held.wait()
    try:
        yield
    finally:
        done.set()
        thread.join()


class _Leading:
    """A put of which others wait for the end."""

    def __init__(self, engine: Engine) -> None:
        self._leading = engine._leading

    def __enter__(self) -> None:
        self._leading["leader"] = self  # type: ignore[assignment]

    def __exit__(self, *_: object) -> None:
        del self._leading["leader"]


def _work(store: eventstore.MetadataStore, name: str) -> None:
    type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
    (node_id,) = store.put_artifacts([mlmd.Artifact(type_id=type_id, name=name, uri="s3://x")])
    (found,) = store.get_artifacts_by_id([node_id])
    assert found.name == name
    assert name in {node.name for node in store.get_artifacts_by_type("T")}
    options = eventstore.ListOptions(filter_query=f"name = '{name}' AND uri LIKE 's3%'")
    assert [node.id for node in store.get_artifacts(options)] == [node_id]
    assert store.sql("SELECT count(*) FROM artifacts").rows()[0][0] > 0
    assert [v.message.name for v in store.history("artifact", node_id)] == [name]


@pytest.fixture(params=["directory", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[eventstore.MetadataStore]:
    opened = eventstore.open(tmp_path / "store") if request.param == "directory" else memory_store()
    with opened:
        yield opened


def test_a_child_does_all_that_its_parent_does(store: eventstore.MetadataStore) -> None:
    _work(store, "before")
    _in_child(lambda: _work(store, "in the child"))
    _work(store, "after")


@pytest.mark.parametrize(
    "lock_of",
    [
        lambda s: _Leading(s._engine),
        lambda s: s._engine.projections._mutex,
        lambda s: s._engine.projections.opened_tables()._mutex,
        lambda s: s._engine.projections.index._swap,
        lambda s: s._engine.projections.planner._held._mutex,
        lambda s: s._engine.log._mutex,
        lambda s: s._engine.log._sealing_mutex,
        lambda s: s._engine.log._lock._threads,
    ],
)
def test_no_lock_of_the_parents_threads_stops_a_child(
    tmp_path: Path, lock_of: Callable[[eventstore.MetadataStore], Any]
) -> None:
    with eventstore.open(tmp_path / "store") as store:
        _work(store, "before")

        def work() -> None:
            _work(store, "in the child")
            store.seal()
            store.close()

        with _held(lock_of(store)):
            _in_child(work)
        assert {node.name for node in store.get_artifacts()} == {"before", "in the child"}


def test_children_forked_while_threads_put_lose_nothing(tmp_path: Path) -> None:
    store = eventstore.open(tmp_path / "store")
    type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
    done = threading.Event()
    put: list[str] = []

    def keep_putting(thread: int) -> None:
        number = 0
        # Not endlessly, since each child folds what is there.
        while not done.is_set() and number < 80:
            name = f"{thread}-{number}"
            store.put_artifacts([mlmd.Artifact(type_id=type_id, name=name)])
            store.get_artifacts_by_uri("s3://x")
            put.append(name)
            number += 1

    threads = [threading.Thread(target=keep_putting, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(4):
            _in_child(lambda number=number: _work(store, f"child {number}"))  # type: ignore[misc]
    finally:
        done.set()
        for thread in threads:
            thread.join()
    names = [node.name for node in store.get_artifacts()]
    assert sorted(names) == sorted([*put, *(f"child {number}" for number in range(4))])
    assert store.verify().ok
    store.close()


def test_a_child_that_never_uses_the_store_holds_no_lock_of_it(tmp_path: Path) -> None:
    """Otherwise the lock of a parent killed in a put would stay locked until the child ends."""
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1))
    other = DirectoryLog.open(tmp_path / "store")
    ends, child_ends = os.pipe(), os.pipe()
    parent = os.fork()

    def fork_and_die() -> None:
        if os.fork() == 0:
            os.write(ends[1], b"x")
            os.read(child_ends[0], 1)
            os._exit(0)
        os.read(ends[0], 1)
        os.kill(os.getpid(), signal.SIGKILL)

    if parent == 0:
        log._write(fork_and_die)
    assert os.waitstatus_to_exitcode(os.waitpid(parent, 0)[1]) == -signal.SIGKILL

    def put() -> None:
        append(other, draft(2))

    try:
        _in_child(put)
    finally:
        os.write(child_ends[1], b"x")
    log.close()
    other.close()


def test_a_child_keeps_no_file_locked_that_its_parent_closes(tmp_path: Path) -> None:
    begins, ends = os.pipe(), os.pipe()
    with exclusive(tmp_path / "lock"):
        child = os.fork()
        if child == 0:
            os.write(begins[1], b"x")
            os.read(ends[0], 1)
            os._exit(0)
        os.read(begins[0], 1)
    try:
        assert not is_locked(tmp_path / "lock")
    finally:
        os.write(ends[1], b"x")
        os.waitpid(child, 0)


def test_a_child_forgets_what_a_thread_was_adding_in_memory() -> None:
    log, parent = MemoryLog(), os.getpid()
    append(log, draft(1))

    class Forking(list[int]):
        def append(self, position: int) -> None:
            if os.getpid() == parent:
                _in_child(work)
            super().append(position)

    def work() -> None:
        assert log.position == 1
        append(log, draft(3))
        assert log.position == 2
        assert log.verify().ok

    log._last_positions = Forking(log._last_positions)
    append(log, draft(2))
    assert log.verify().ok


def test_a_child_opens_the_store_apart_from_its_parents_database(tmp_path: Path) -> None:
    with eventstore.open(tmp_path / "store") as store:
        _work(store, "before")

        def work() -> None:
            with eventstore.open(tmp_path / "store") as own:
                _work(own, "in the child")
                assert len(own.get_artifacts()) == 2

        _in_child(work)
        _work(store, "after")
    with eventstore.open(tmp_path / "store") as store:
        assert len(store.get_artifacts()) == 3


def test_a_closed_store_is_closed_in_a_child_too(tmp_path: Path) -> None:
    store = eventstore.open(tmp_path / "store")
    store.close()

    def work() -> None:
        with pytest.raises(eventstore.errors.FailedPreconditionError, match="closed"):
            store.put_artifact_type(mlmd.ArtifactType(name="T"))

    _in_child(work)


def test_a_grandchild_works_too(tmp_path: Path) -> None:
    with eventstore.open(tmp_path / "store") as store:
        _work(store, "before")

        def work() -> None:
            _work(store, "child")
            _in_child(lambda: _work(store, "grandchild"))
            _work(store, "child again")

        _in_child(work)
        assert len(store.get_artifacts()) == 4


def test_a_child_forked_while_a_thread_first_uses_arrow_uses_it_too(tmp_path: Path) -> None:
    """The thread imports parts of Arrow then, under locks of their own."""
    program = """
import os, signal, sys, threading, time, types
import eventstore
from eventstore.log import forking
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store import Engine

is_importing, is_waited_for = threading.Event(), threading.Event()

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "pyarrow.compute" and not is_importing.is_set():
            is_importing.set()
            is_waited_for.wait(10)

def sleep(seconds):
    is_waited_for.set()
    time.sleep(seconds)

sys.meta_path.insert(0, Finder)
forking.time = types.SimpleNamespace(sleep=sleep, monotonic=time.monotonic)
store = eventstore.open(sys.argv[1])
kind = store.put_artifact_type(mlmd.ArtifactType(name="T"))
store.put_artifacts([mlmd.Artifact(type_id=kind) for _ in range(17_000)])
assert is_importing.wait(30)
child = os.fork()
if not child:
    signal.alarm(30)
    options = eventstore.ListOptions(limit=2, filter_query="type_id > 1")
    os._exit(len(store.get_artifacts(options)))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
store.close()
"""
    assert_runs(program, tmp_path / "store")
