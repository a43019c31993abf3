"""A follower of a database that ml-metadata changes has each state that stood for long enough."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore.importing import import_mlmd_database
from eventstore.importing.following import Follower
from eventstore.importing.sources import opened_source
from eventstore.log.stores import open_log
from eventstore.proto import metadata_store_service_pb2 as service
from tests.differential.mlmd_servers import new_config, random_puts
from tests.differential.oracle import Oracle
from tests.differential.test_import_servers import assert_reads_alike

CHANGES = {"sqlite": 400, "mariadb": 300, "postgresql": 300}
CHANGES_AT_ONCE = 25


class Looking:
    """A follower that looks all the time in a thread of its own."""

    def __init__(self, source: str | Path, store: Path) -> None:
        self._source = source
        self._store = store
        self._turn = threading.Condition()
        self._looks = 0
        self._ends = False
        self._failure: BaseException | None = None

    def wait(self) -> None:
        """Until a look has been taken that began after this was called."""
        with self._turn:
            enough = self._looks + 2
            self._turn.wait_for(lambda: self._looks >= enough or self._failure, 300)
        assert self._failure is None

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._ends = True
            thread.join()

    def _run(self) -> None:
        try:
            with (
                closing(open_log(self._store)) as log,
                closing(opened_source(self._source)) as opened,
            ):
                follower = Follower(log, opened, None)
                while not self._ends:
                    changes = follower.look()
                    follower.append(changes)
                    with self._turn:
                        self._looks += not changes.is_part
                        self._turn.notify_all()
        except BaseException as failure:
            with self._turn:
                self._failure = failure
                self._turn.notify_all()


def nodes(oracle: Oracle) -> set[tuple[str, bytes]]:
    found: set[tuple[str, bytes]] = set()
    for kind in ("artifact", "execution", "context"):
        rpc = f"Get{kind.capitalize()}s"
        response: Any = oracle.call(rpc, getattr(service, f"{rpc}Request")())
        for node in getattr(response, f"{kind}s"):
            found.add((kind, node.SerializeToString(deterministic=True)))
    return found


@pytest.mark.share(3)
@pytest.mark.parametrize("kind", CHANGES)
def test_each_state_that_stood_is_in_the_history(
    kind: str, oracle: Oracle, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source: str | Path
    if kind == "sqlite":
        source = tmp_path / "mlmd.db"
        oracle.open(source)
    else:
        server = request.getfixturevalue(kind)
        database, config = new_config(server)
        oracle.connect(config)
        source = server.url(database)
    store = tmp_path / "store"
    import_mlmd_database(source, store, copies=True)
    looking = Looking(source, store)
    stood: set[tuple[str, bytes]] = set()
    with looking.running():
        for seed in range(CHANGES[kind] // CHANGES_AT_ONCE):
            # The last state stands for a while, those before it do not.
            random_puts(oracle, seed, CHANGES_AT_ONCE)
            looking.wait()
            stood |= nodes(oracle)
    assert len(stood) > CHANGES[kind] / 5
    with closing(open_log(store, read_only=True)) as log:
        recorded = [
            (record.kind, record.payload) for commit in log.commits() for record in commit.records
        ]
    assert stood <= set(recorded)
    # Nothing twice: no state of a node equals another one, since each has its own time.
    of_nodes = [each for each in recorded if each[0] in ("artifact", "execution", "context")]
    assert len(set(of_nodes)) == len(of_nodes)
    assert_reads_alike(oracle, store, is_mysql=kind == "mariadb")
    with eventstore.open(store) as opened:
        assert opened.verify().ok
