"""Puts that wait for another one are appended together: one sync, a commit for each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.log.active_segment import ActiveSegmentFile
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store import putting

_SECONDS_MAX = 60


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[eventstore.MetadataStore]:
    # All that waits is there already.
    monkeypatch.setattr(putting, "_GATHERING_SECONDS_MAX", 0.0)
    with eventstore.open(tmp_path / "store") as opened:
        opened.put_artifact_type(mlmd.ArtifactType(name="T", properties={"n": mlmd.INT}))
        yield opened


class Syncs:
    """Syncs of segments, the first of which waits until puts wait for it, and others fail."""

    def __init__(self, store: eventstore.MetadataStore, patch: pytest.MonkeyPatch) -> None:
        self.count, self._waited_for, self.fails = 0, 0, False
        self._engine, self._may_go_on = store._engine, threading.Event()
        syncs = ActiveSegmentFile._sync

        def sync(segment: ActiveSegmentFile) -> None:
            self.count += 1
            if self.count == 1:
                assert self._may_go_on.wait(_SECONDS_MAX)
            elif self.fails:
                raise OSError(5, "Input/output error")
            syncs(segment)

        patch.setattr(ActiveSegmentFile, "_sync", sync)

    def run(self, puts: list[Callable[[], Any]]) -> list[Any]:
        """What each put answers or raises, all but the first of which wait for it together."""
        told: list[Any] = [None] * len(puts)

        def tell(number: int) -> None:
            try:
                told[number] = puts[number]()
            except Exception as error:
                told[number] = error

        threads = [threading.Thread(target=tell, args=(n,)) for n in range(len(puts))]
        waiting = self._engine._waiting
        for number, thread in enumerate(threads):
            thread.start()
            # In this order.
            while (len(waiting) < number or not self.count) and thread.is_alive():
                threading.Event().wait(0.001)
        self._may_go_on.set()
        for thread in threads:
            thread.join(_SECONDS_MAX)
        return told


def putting_one(store: eventstore.MetadataStore, node: mlmd.Artifact) -> Callable[[], list[int]]:
    return lambda: store.put_artifacts([node])


@pytest.fixture
def type_id(store: eventstore.MetadataStore) -> int:
    return int(store.get_artifact_type("T").id)


@pytest.fixture
def made(type_id: int) -> Callable[..., mlmd.Artifact]:
    def make(name: str, **fields: Any) -> mlmd.Artifact:
        return mlmd.Artifact(type_id=type_id, name=name, **fields)

    return make


def test_puts_that_wait_share_a_sync(
    store: eventstore.MetadataStore, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = store.log_position()
    syncs = Syncs(store, monkeypatch)
    told = syncs.run([putting_one(store, made(f"a{n}")) for n in range(12)])
    assert sorted(told) == [[n] for n in range(1, 13)]
    assert syncs.count == 2
    commits = [*store.log.commits(before)]
    assert [commit.first_position for commit in commits] == [*range(before + 1, before + 13)]
    # The first put had a write of its own, and those that waited for it share the second.
    alone, first, *others = [commit.recorded_at for commit in commits]
    assert alone < first
    assert (alone % 2, first % 2, {*others}) == (0, 0, {first + 1})
    assert {node.name: node.id for node in store.get_artifacts()} == {
        f"a{n}": told[n][0] for n in range(12)
    }
    assert store.verify().ok


def test_each_put_sees_those_before_it_and_no_error_of_another(
    store: eventstore.MetadataStore, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = store.put_artifacts([made("known")])[0]

    def put_type() -> int:
        wider = mlmd.ArtifactType(name="T", properties={"n": mlmd.INT, "m": mlmd.INT})
        return store.put_artifact_type(wider, can_add_fields=True)

    with_m = made("with m")
    with_m.properties["m"].int_value = 1
    step = made("known", id=known, uri="changed")
    told = Syncs(store, monkeypatch).run(
        [
            putting_one(store, made("first")),
            putting_one(store, made("twice")),
            putting_one(store, made("twice")),
            putting_one(store, made("first")),
            lambda: store.put_artifacts([made("x", external_id="e"), made("y")]),
            putting_one(store, made("z", external_id="e")),
            put_type,
            putting_one(store, with_m),
            putting_one(store, step),
            putting_one(store, mlmd.Artifact(type_id=999, name="no type")),
            lambda: store.put_artifact_type(mlmd.ArtifactType(name="T2")),
            lambda: store.put_artifact_type(mlmd.ArtifactType(name="T2")),
        ]
    )
    kinds = [type(answer) if isinstance(answer, Exception) else None for answer in told]
    taken = errors.AlreadyExistsError
    assert kinds == [
        *(None, None, taken, taken, None, taken, None, None, None),
        *(errors.NotFoundError, None, None),
    ]
    assert told[1] == [3]
    assert told[4] == [4, 5]
    assert told[7] == [6]
    assert told[10] == told[11]
    names = {node.name for node in store.get_artifacts()}
    assert names == {"known", "first", "twice", "x", "y", "with m"}
    assert store.get_artifacts_by_id([known])[0].uri == "changed"
    assert store.verify().ok


def test_events_and_contexts_follow_on_those_that_others_put(
    store: eventstore.MetadataStore, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = store.put_execution_type(mlmd.ExecutionType(name="E"))
    group = store.put_context_type(mlmd.ContextType(name="C"))
    (input_id,) = store.put_artifacts([made("input")])
    run = mlmd.Context(type_id=group, name="run")

    def step(number: int) -> Callable[[], Any]:
        output = made(f"out{number}")
        events = [
            (None, mlmd.Event(type=mlmd.Event.INPUT, artifact_id=input_id)),
            (output, mlmd.Event(type=mlmd.Event.OUTPUT)),
        ]
        made_step = mlmd.Execution(type_id=kind, name=f"e{number}")
        return lambda: store.put_execution(
            made_step, events, [run], reuse_context_if_already_exist=True
        )

    told = Syncs(store, monkeypatch).run([step(n) for n in range(6)])
    contexts = {context_ids[0] for _, _, context_ids in told}
    assert len(contexts) == 1
    assert len(store.get_executions_by_context(contexts.pop())) == 6
    assert len(store.get_events_by_artifact_ids([input_id])) == 6
    assert store.verify().ok
    # What others fold of it is the same.
    with eventstore.open(store.log.directory, read_only=True) as other:
        assert str(other.get_executions()) == str(store.get_executions())
        assert str(other.get_contexts()) == str(store.get_contexts())


def test_a_request_that_comes_twice_at_once_is_applied_once(
    store: eventstore.MetadataStore, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(name: str, request_id: str) -> Callable[[], list[int]]:
        def run() -> list[int]:
            with store.acting(request_id=request_id, actor=name):
                return store.put_artifacts([made(name)])

        return run

    told = Syncs(store, monkeypatch).run(
        [putting_one(store, made("first")), *(put("a", "r"), put("b", "s"), put("a", "r"))]
    )
    assert told[1:] == [[2], [3], [2]]
    who = [commit.who[::2] for commit in store.log.commits()][-3:]
    assert who[1:] == [("a", "r"), ("b", "s")]


def test_a_sync_that_fails_is_told_to_each_put(
    store: eventstore.MetadataStore, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        syncs = Syncs(store, patched)
        syncs.fails = True
        told = syncs.run([putting_one(store, made(f"a{n}")) for n in range(5)])
    assert told[0] == [1]
    assert all(isinstance(error, errors.UnavailableError) for error in told[1:])
    assert len({id(error) for error in told[1:]}) == 4
    assert [node.name for node in store.get_artifacts()] == ["a0"]
    directory = store.log.directory
    assert directory is not None
    with eventstore.open(directory) as again:
        assert [node.name for node in again.get_artifacts()] == ["a0"]
        assert again.put_artifacts([made("a1")]) == [2]


class OddError(Exception):
    """It cannot be made anew of what it has."""

    def __init__(self, number: int, *, place: str) -> None:
        super().__init__(f"{number} at {place}")
        self.place = place


def test_any_error_is_told_to_each_put(
    store: eventstore.MetadataStore, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = store.log.append_together

    def fails(puts: Any, **given: Any) -> Any:
        if len(puts) > 1:
            raise OddError(5, place="the disk")
        return append(puts, **given)

    with monkeypatch.context() as patched:
        patched.setattr(store.log, "append_together", fails)
        told = Syncs(store, patched).run([putting_one(store, made(f"a{n}")) for n in range(4)])
    assert told[0] == [1]
    assert [(str(error), error.place) for error in told[1:]] == [("5 at the disk", "the disk")] * 3
    assert len({id(error) for error in told[1:]}) == 3


def test_a_put_that_is_interrupted_while_it_leads_leaves_those_of_others(
    store: eventstore.MetadataStore, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupts = [KeyboardInterrupt()]

    def interrupted(*_: Any, **__: Any) -> None:
        if interrupts:
            raise interrupts.pop()

    def leading() -> Any:
        try:
            return store.put_artifacts([made("interrupted", uri="interrupt")])
        except KeyboardInterrupt as interrupt:
            return [interrupt]

    refuse = putting.refuse_unreadable

    def interrupting(drafts: Any) -> None:
        if b"interrupt" in drafts[0].payload:
            interrupted()
        refuse(drafts)

    monkeypatch.setattr(putting, "refuse_unreadable", interrupting)
    puts = [putting_one(store, made("first")), leading]
    puts += [putting_one(store, made(f"a{n}")) for n in range(4)]
    told = Syncs(store, monkeypatch).run(puts)
    assert isinstance(told[1][0], KeyboardInterrupt)
    assert sorted(told[2:]) == [[2], [3], [4], [5]]
    assert not store._engine._leading
    assert not store._engine._waiting


def test_threads_put_and_read_their_own_puts(store: eventstore.MetadataStore, made: Any) -> None:
    wrong = list[str]()

    def work(thread: int) -> None:
        for number in range(25):
            name = f"{thread}-{number}"
            (node_id,) = store.put_artifacts([made(name)])
            if [node.name for node in store.get_artifacts_by_id([node_id])] != [name]:
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_SECONDS_MAX)
    assert not wrong
    assert sorted(node.id for node in store.get_artifacts()) == [*range(1, 201)]
    assert store.verify().ok
