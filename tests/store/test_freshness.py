"""Which commits a read sees, and what it asks of the log for that."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.log import DirectoryLog
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store import engine
from tests.sql_servers import Server

_PUTS = """
import sys
import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd

with eventstore.open(sys.argv[1]) as store:
    type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
    for line in sys.stdin:
        store.put_artifacts([mlmd.Artifact(type_id=type_id, uri=line.strip())])
        print(store.log_position(), flush=True)
"""


class Other:
    """Another process that puts to the same store."""

    def __init__(self, place: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PUTS, place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def put(self, uri: str) -> int:
        """Have it put an artifact; the position once that is acknowledged."""
        self.begin(uri)
        return int(self.process.stdout.readline())  # type: ignore[union-attr]

    def begin(self, uri: str) -> None:
        print(uri, file=self.process.stdin, flush=True)

    def close(self) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        assert self.process.wait() == 0


@pytest.fixture(params=["directory", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "directory":
        return str(tmp_path / "store")
    server: Server = request.getfixturevalue("postgresql")
    return server.url(server.new_database())


@contextlib.contextmanager
def other_at(place: str) -> Iterator[Other]:
    with contextlib.closing(Other(place)) as other:
        yield other


def uris(store: Any) -> list[str]:
    """What each way of reading tells, which has to be the same."""
    by_id = [found.uri for found in store.get_artifacts_by_id(range(1, 100))]
    assert [found.uri for found in store.get_artifacts()] == by_id
    options = eventstore.ListOptions(filter_query="uri LIKE '%'")
    assert sorted(found.uri for found in store.get_artifacts(options)) == sorted(by_id)
    assert len(store.sql("SELECT id FROM artifacts")) == len(by_id)
    return by_id


def test_a_read_sees_all_that_was_acknowledged_before_it(place: str) -> None:
    with eventstore.open(place) as store, other_at(place) as other:
        for number in range(1, 6):
            position = other.put(str(number))
            assert store.log_position() == position
            assert uris(store) == [str(n) for n in range(1, number + 1)]


class Asked:
    """Counts what is asked of logs by reads and puts."""

    def __init__(self, patched: pytest.MonkeyPatch) -> None:
        self.count = 0
        from eventstore.log.sql.sql_log import SqlLog

        for kind in (DirectoryLog, SqlLog):
            for name in ("refresh", "is_still_at"):
                patched.setattr(kind, name, self._counted(getattr(kind, name)))

    def _counted(self, method: Any) -> Any:
        def counted(*arguments: Any) -> Any:
            self.count += 1
            return method(*arguments)

        return counted


def test_within_the_staleness_nothing_is_asked(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(engine, "time", SimpleNamespace(monotonic=lambda: now))
    with eventstore.open(place, max_staleness=10) as store, other_at(place) as other:
        other.put("theirs")
        now += 10
        position = store.log_position()
        then = store.as_of(position)
        assert uris(store) == ["theirs"]
        asked = Asked(monkeypatch)
        newest = other.put("unseen")
        now += 9.9
        assert uris(store) == ["theirs"]
        assert uris(then) == ["theirs"]
        asked.count = 0
        assert store.log_position() == position
        assert store.get_artifacts_by_uri("unseen") == []
        assert store.get_artifacts_by_id([1])[0].uri == "theirs"
        assert then.get_artifacts_by_id([1])[0].uri == "theirs"
        assert asked.count == 0
        assert store.verify().position == newest
        now += 0.2
        assert store.log_position() == newest
        assert uris(store) == ["theirs", "unseen"]

        # What this store puts is read, and all that was put before it.
        other.put("before")
        type_id = store.get_artifact_type("Data").id
        asked.count = 0
        store.put_artifacts([mlmd.Artifact(type_id=type_id, uri="own")])
        assert asked.count
        asked.count = 0
        assert store.get_artifacts_by_id([4])[0].uri == "own"
        assert asked.count == 0
        assert uris(store) == ["theirs", "unseen", "before", "own"]
        other.put("last")
        assert len(uris(store)) == 4
        store.max_staleness = 0
        assert len(uris(store)) == 5


def test_a_position_is_waited_for(place: str) -> None:
    with eventstore.open(place, max_staleness=1000) as store, other_at(place) as other:
        first = other.put("first")
        assert store.wait_for(first) == first
        assert uris(store) == ["first"]
        assert store.wait_for(0) == first
        with pytest.raises(errors.DeadlineExceededError, match=f"did not reach {first + 2} within"):
            store.wait_for(first + 2, timeout=0.01)
        other.begin("second")
        assert store.wait_for(first + 1, timeout=60) == first + 1
        assert uris(store) == ["first", "second"]
        other.process.stdout.readline()  # type: ignore[union-attr]

        # A put of this process ends it without another look.
        type_id = store.get_artifact_type("Data").id
        waiting = threading.Event()

        class Told(threading.Condition):
            def wait(self, timeout: float | None = None) -> bool:
                waiting.set()
                return super().wait(60)

        store._engine._appended = Told()

        def put() -> None:
            waiting.wait()
            store.put_artifacts([mlmd.Artifact(type_id=type_id, uri="own")])

        thread = threading.Thread(target=put)
        thread.start()
        assert store.wait_for(first + 2, timeout=60) == first + 2
        thread.join()


@pytest.mark.parametrize("wrong", [-1, True, "1", float("nan"), float("inf"), None])
def test_what_is_no_time_or_position_is_refused(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="max_staleness is"):
        eventstore.open(tmp_path / "none", max_staleness=wrong)
    assert not (tmp_path / "none").exists()
    with eventstore.open("memory://") as store:
        with pytest.raises(errors.InvalidArgumentError, match="max_staleness is"):
            store.max_staleness = wrong
        assert store.max_staleness == 0
        with pytest.raises(errors.InvalidArgumentError, match="is no position"):
            store.wait_for(wrong)
        if wrong is not None:
            with pytest.raises(errors.InvalidArgumentError, match="timeout is"):
                store.wait_for(1, timeout=wrong)


def test_a_call_asks_once_whatever_it_is_put_together_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with eventstore.open(tmp_path / "store") as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        store.put_artifacts([mlmd.Artifact(type_id=type_id)])
        options = mlmd.LineageSubgraphQueryOptions()
        options.starting_artifacts.filter_query = "id = 1"
        store.get_lineage_subgraph(options)
        asked = Asked(monkeypatch)
        graph = store.get_lineage_subgraph(options)
        assert ([found.name for found in graph.artifact_types], asked.count) == (["Data"], 1)
