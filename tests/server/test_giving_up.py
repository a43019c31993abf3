"""Calls whose client is gone or whose time is over end: in line, in Python and in DuckDB."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import pytest

import eventstore
from eventstore import MetadataStore, errors
from eventstore.cancellation import Waiter, waited_for_by
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.server.answering import Answering, in_turn
from eventstore.server.caller import Callers
from eventstore.server.gate import Gate
from eventstore.server.incoming import Incoming, Metadata, Peer
from eventstore.server.principal import DEFAULT_STORE
from eventstore.server.roles import MLMD_SERVICE
from eventstore.store import Engine


class Call(Incoming):
    """A call whose client leaves when it is told to."""

    def __init__(self, rpc: str) -> None:
        super().__init__(MLMD_SERVICE, rpc)
        self._is_there = True
        self._call_backs = list[Callable[[], None]]()
        self.is_watched = threading.Event()

    def metadata(self) -> Metadata:
        return ()

    def peer(self) -> Peer:
        return Peer()

    def seconds_left(self) -> float | None:
        return None

    def is_wanted(self) -> bool:
        return self._is_there

    def when_ended(self, call_back: Callable[[], None]) -> bool:
        self._call_backs.append(call_back)
        self.is_watched.set()
        return self._is_there

    def leave(self) -> None:
        self._is_there = False
        for call_back in self._call_backs:
            call_back()


@pytest.fixture(scope="module")
def store() -> Iterator[MetadataStore]:
    with eventstore.open("memory://") as opened:
        type_id = opened.put_artifact_type(mlmd.ArtifactType(name="Data"))
        opened.put_artifacts([mlmd.Artifact(type_id=type_id, uri="x" * 100) for _ in range(50)])
        yield opened


def answering(store: MetadataStore, bytes_max: int = -1, **given: Any) -> Answering:
    return Answering(Callers({DEFAULT_STORE: store._engine}), Gate(), bytes_max, **given)


def put_of(name: str) -> bytes:
    request = service.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name=name))
    return request.SerializeToString()


def test_a_put_that_nobody_waits_for_is_not_appended(
    store: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, before = Call("PutArtifactType"), store.log_position()
    put_once = Engine._run_and_append

    def leaving(*given: Any, **named: Any) -> Any:
        call.leave()
        return put_once(*given, **named)

    monkeypatch.setattr(Engine, "_run_and_append", leaving)
    with pytest.raises(errors.CancelledError, match="given up"):
        answering(store).answer(call, put_of("Late"))
    assert store.log_position() == before


def test_a_call_in_line_leaves_it_with_its_client(store: MetadataStore) -> None:
    begins, may_end = threading.Event(), threading.Event()
    asked = list[str]()

    def answer(incoming: Incoming, content: bytes) -> bytes:
        asked.append(content.decode())
        begins.set()
        may_end.wait()
        return content

    limited = in_turn(answer, 1)
    first = threading.Thread(target=limited, args=(Call("GetArtifacts"), b"first"))
    first.start()
    begins.wait()
    gone, raised = Call("GetArtifacts"), list[BaseException]()

    def second() -> None:
        with pytest.raises(errors.CancelledError, match="waited for its turn") as caught:
            limited(gone, b"second")
        raised.append(caught.value)

    waits = threading.Thread(target=second)
    waits.start()
    gone.is_watched.wait()
    gone.leave()
    waits.join()
    # All the while the first is being answered.
    assert raised
    assert first.is_alive()
    may_end.set()
    first.join()
    assert limited(Call("GetArtifacts"), b"third") == b"third"
    assert asked == ["first", "third"]


def test_those_in_line_have_their_turns_in_order() -> None:
    may_end, order = threading.Event(), list[int]()

    def answer(incoming: Incoming, content: bytes) -> bytes:
        may_end.wait()
        order.append(content[0])
        return content

    limited = in_turn(answer, 1)
    threads = []
    for number in range(5):
        call = Call("GetArtifacts")
        threads.append(threading.Thread(target=limited, args=(call, bytes([number]))))
        threads[-1].start()
        if number:
            call.is_watched.wait()
    may_end.set()
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("may_be_left", [False, True])
@pytest.mark.parametrize("seconds", [None, 1000.0])
def test_a_query_is_interrupted(
    store: MetadataStore, may_be_left: bool, seconds: float | None
) -> None:
    waiter = Waiter()
    tables = store._engine.projections.opened_tables()

    def ask(cursor: duckdb.DuckDBPyConnection) -> Any:
        # From here on it runs for hours.
        waiter.leave()
        return cursor.execute(
            "SELECT max(a.range * b.range % 7) FROM range(10000000) a, range(10000000) b"
        ).fetchall()

    with waited_for_by(waiter), pytest.raises(errors.CancelledError):
        tables.asked(ask, 0, seconds, may_be_left=may_be_left)
    assert tables.asked(lambda cursor: cursor.execute("SELECT 1").fetchall(), 0) == [(1,)]


@pytest.mark.parametrize(
    ("rpc", "given"),
    [
        ("GetArtifacts", {}),
        ("GetArtifactsByID", {"artifact_ids": range(60)}),
        ("GetArtifactsByURI", {"uris": ["x" * 100]}),
        ("GetEventsByArtifactIDs", {"artifact_ids": [1]}),
    ],
)
def test_gets_end_once_nobody_waits(store: MetadataStore, rpc: str, given: dict[str, Any]) -> None:
    waiter, request = Waiter(), getattr(service, f"{rpc}Request")(**given)
    waiter.leave()
    with waited_for_by(waiter), pytest.raises(errors.CancelledError):
        store._engine.call(rpc, request)
    store._engine.call(rpc, request)


def test_a_call_may_take_so_long_at_most(store: MetadataStore) -> None:
    with pytest.raises(errors.DeadlineExceededError, match=r"after 0 s, the most"):
        answering(store, call_seconds_max=0).answer(Call("GetArtifacts"), b"")


@pytest.mark.parametrize(
    ("rpc", "content"),
    [
        ("GetArtifacts", b""),
        ("GetArtifactsByID", service.GetArtifactsByIDRequest(artifact_ids=range(60))),
        ("GetArtifactsByType", service.GetArtifactsByTypeRequest(type_name="Data")),
        ("GetArtifactsByURI", service.GetArtifactsByURIRequest(uris=["x" * 100])),
    ],
)
def test_what_is_too_long_is_noticed_before_it_is_built(
    store: MetadataStore, rpc: str, content: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = content if isinstance(content, bytes) else content.SerializeToString()
    monkeypatch.setattr(Answering, "_run", _without_a_look_at_the_end)
    with pytest.raises(errors.ResourceExhaustedError, match="1,000 bytes at most"):
        answering(store, 1000).answer(Call(rpc), given)
    assert answering(store, 100_000).answer(Call(rpc), given)


def _without_a_look_at_the_end(
    self: Answering, caller: Any, incoming: Incoming, content: bytes
) -> bytes:
    rpc = incoming.rpc
    request = getattr(service, f"{rpc}Request").FromString(content)
    answer: bytes = caller.engine.call(rpc, request).SerializeToString()
    return answer


def test_who_puts_for_others_leaves_none_of_them_alone(
    store: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, stays = Call("PutArtifactType"), Call("PutArtifactType")
    served, threads = answering(store), list[threading.Thread]()
    results = list[object]()
    lead = Engine._lead

    def put_beside() -> None:
        results.append(served.answer(stays, put_of("Beside")))

    def leading(self: Engine, own: Any) -> None:
        if not threads:
            # It waits in line by the time that the first runs, and is run by that one's thread.
            threads.append(threading.Thread(target=put_beside))
            threads[0].start()
            while not self._waiting or len(self._waiting) < 2:
                own.wait(0.001)
            gone.leave()
        lead(self, own)

    monkeypatch.setattr(Engine, "_lead", leading)
    with pytest.raises(errors.CancelledError):
        served.answer(gone, put_of("Gone"))
    threads[0].join()
    assert results
    assert store.get_artifact_type("Beside").name == "Beside"
    with pytest.raises(errors.NotFoundError):
        store.get_artifact_type("Gone")
