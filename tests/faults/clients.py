"""Many clients of one server put and read at once, while it is ended and killed: all is checked.

Each put has a request id of its own, and no name that would keep it from being applied twice.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import eventstore
from eventstore.log import DirectoryLog
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.faults.layer import REPOSITORY
from tests.faults.part import Outcome, Report

CLIENTS = 32
SECONDS = float(os.environ.get("EVENTSTORE_CLIENT_SECONDS", "60"))
RESTARTS = int(os.environ.get("EVENTSTORE_RESTARTS", "20"))

_UP_SECONDS_MAX = 120
_END_SECONDS_MAX = 300
_COMPLAINTS_MAX = 20


class Served:
    """A store and its server, which is started again on the same port."""

    def __init__(self, path: Path) -> None:
        self.path, self.port = path, 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "eventstore", "serve", str(self.path)]
        self._process = subprocess.Popen(
            [*command, "--grpc_port", str(self.port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline().rpartition(":")[2])

    def end(self, number: signal.Signals) -> int:
        self._process.send_signal(number)
        self._process.communicate()
        return self._process.returncode


class Load:
    """Clients that put and read until they are told to stop, and what they were answered."""

    def __init__(self, port: int, clients: int, seed: int) -> None:
        self.acknowledged: dict[str, int] = {}
        """By the uri of a put, which is its request id, the id that it was told."""
        self.tried: set[str] = set()
        self.complaints: list[str] = []
        self.calls = Counter[str]()
        self._config = mlmd.MetadataStoreClientConfig(host="127.0.0.1", port=port)
        self._stopping = threading.Event()
        # Before anything goes wrong each has spoken with the server once.
        self._begun = threading.Barrier(clients + 1)
        with eventstore.MetadataStore(self._config) as store:
            self._type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
        self._threads = [
            threading.Thread(target=self._work, args=(n, random.Random(f"{seed}-{n}")))
            for n in range(clients)
        ]
        for thread in self._threads:
            thread.start()
        self._begun.wait(_UP_SECONDS_MAX)

    def stop(self) -> None:
        self._stopping.set()
        until = time.monotonic() + _END_SECONDS_MAX
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                self.complaints.append("a client hangs")

    def _work(self, client: int, chance: random.Random) -> None:
        with eventstore.MetadataStore(self._config) as store:
            own: dict[str, tuple[int, int]] = {}
            store.get_artifact_types()
            self._begun.wait(_UP_SECONDS_MAX)
            number = 0
            while not self._stopping.is_set():
                number += 1
                try:
                    self._step(store, client, number, own, chance)
                except Exception as error:
                    self.complaints.append(f"client {client}, step {number}: {error!r}")
                    if len(self.complaints) > _COMPLAINTS_MAX:
                        return

    def _step(
        self,
        store: eventstore.MetadataStore,
        client: int,
        number: int,
        own: dict[str, tuple[int, int]],
        chance: random.Random,
    ) -> None:
        what = chance.choice(("put", "put", "update", "read", "list"))
        uri = f"{client}-{number}"
        if what == "put" or not own:
            node = mlmd.Artifact(type_id=self._type_id, uri=uri)
            node.custom_properties["client"].int_value = client
            self._put(store, uri, node)
            own[uri] = (self.acknowledged[uri], 0)
            what = "put"
        elif what == "update":
            known = chance.choice([*own])
            node_id, version = own[known]
            node = mlmd.Artifact(type_id=self._type_id, id=node_id, uri=known)
            node.custom_properties["client"].int_value = client
            node.custom_properties["version"].int_value = version + 1
            self._put(store, uri, node)
            own[known] = (node_id, version + 1)
        elif what == "list":
            asked = eventstore.ListOptions(
                limit=100, filter_query=f"uri = '{chance.choice([*own])}'"
            )
            if len(found := store.get_artifacts(asked)) != 1:
                self.complaints.append(f"client {client}: a filter finds {len(found)} of one put")
        newest = chance.choice([*own][-3:])
        (read,) = store.get_artifacts_by_id([own[newest][0]])
        seen = read.uri, read.custom_properties["version"].int_value
        if seen != (newest, own[newest][1]):
            self.complaints.append(f"client {client} put {newest, own[newest]} and reads {seen}")
        self.calls[what] += 1

    def _put(self, store: eventstore.MetadataStore, uri: str, node: mlmd.Artifact) -> None:
        self.tried.add(uri)
        with store.acting(request_id=uri):
            (self.acknowledged[uri],) = store.put_artifacts([node])


def load(report: Report) -> Outcome:
    """Many clients at once, and nothing goes wrong: no error, no lost put, own writes are read."""
    return run(report, seconds=SECONDS)


def restarts(report: Report) -> Outcome:
    """The server is ended, by turns with SIGTERM and SIGKILL, and started again."""
    return run(report, restarts=RESTARTS)


def run(
    report: Report,
    *,
    seconds: float = 0,
    restarts: int = 0,
    clients: int = CLIENTS,
    seed: int | None = None,
) -> Outcome:
    """Load for so long, and over so many restarts of the server."""
    seed = random.randrange(1 << 32) if seed is None else seed
    report(f"seed {seed}")
    chance, outcome = random.Random(seed), Outcome()
    with tempfile.TemporaryDirectory(prefix="eventstore-clients-") as folder:
        served = Served(Path(folder) / "store")
        under = Load(served.port, clients, seed)
        # No more is waited for than the load itself.
        under_load = threading.Event()
        under_load.wait(seconds)
        for number in range(1, restarts + 1):
            ended = (signal.SIGTERM, signal.SIGKILL)[number % 2]
            # Clients come back by and by: not before most of them have put again.
            enough, until = len(under.acknowledged) + clients, time.monotonic() + _UP_SECONDS_MAX
            while len(under.acknowledged) < enough and time.monotonic() < until:
                under_load.wait(0.01)
            under_load.wait(chance.uniform(0, 0.1))
            before = len(under.acknowledged)
            status = served.end(ended)
            if status != (0 if ended is signal.SIGTERM else -ended):
                outcome.complaints.append(f"after {ended.name} the server's status was {status}")
            served.start()
            outcome.count(ended.name)
            report(f"{ended.name} {number} of {restarts}, after {before:,} acknowledged puts")
        under.stop()
        served.end(signal.SIGTERM)
        outcome.complaints += under.complaints
        outcome.complaints += _checked(served.path, under)
    outcome.count("clients", clients)
    outcome.count("acknowledged puts", len(under.acknowledged))
    for what, count in sorted(under.calls.items()):
        outcome.count(f"steps: {what}", count)
    return outcome


def _checked(path: Path, load: Load) -> list[str]:
    """What is wrong with what is there, compared with what was told."""
    log = DirectoryLog.open(path, read_only=True)
    found = {
        commit.who[2]: commit.records[0].entity_id
        for commit in log.commits()
        if commit.who[2] in load.tried
    }
    times = Counter(commit.who[2] for commit in log.commits() if commit.who[2] is not None)
    report = log.verify()
    log.close()
    lost = [uri for uri, node_id in load.acknowledged.items() if found.get(uri) != node_id]
    twice = [request_id for request_id, count in times.items() if count > 1]
    wrong = [f"{len(lost)} acknowledged puts are not there, such as {lost[:3]}"] if lost else []
    wrong += [f"{len(twice)} requests were applied twice, such as {twice[:3]}"] if twice else []
    return wrong + [f"verify: {finding.what}" for finding in report.findings]
