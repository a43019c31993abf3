"""A server that is killed while clients put: they go on by themselves, and nothing is put twice."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

import eventstore
from eventstore import MetadataStore
from eventstore.metadata_store import remote_calls
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.server.serving import client_config
from tests.server.test_serve_command import served

KILLS = 3
CLIENTS = 4
PUTS_BEFORE_A_KILL = 40


def test_clients_put_on_over_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_calls, "_PATIENCE_SECONDS", 120.0)
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    path, ended, putting = tmp_path / "store", threading.Event(), threading.Semaphore(0)
    acknowledged, failed = dict[str, int](), list[BaseException]()

    def put(number: int) -> None:
        try:
            with MetadataStore(client_config(port)) as client:
                type_id = client.put_artifact_type(mlmd.ArtifactType(name="T"))
                count = 0
                while not ended.is_set():
                    count += 1
                    uri = f"{number}/{count}"
                    # Without a name nothing but the request id tells it from another.
                    [acknowledged[uri]] = client.put_artifacts(
                        [mlmd.Artifact(type_id=type_id, uri=uri)]
                    )
                    putting.release()
        except BaseException as error:
            failed.append(error)
            ended.set()
            putting.release(PUTS_BEFORE_A_KILL)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(CLIENTS)]
    for life in range(KILLS + 1):
        with served(path, f"--grpc_port={port}"):
            for thread in threads if life == 0 else ():
                thread.start()
            for _ in range(PUTS_BEFORE_A_KILL):
                putting.acquire()
            if life == KILLS:
                ended.set()
                for thread in threads:
                    thread.join()
    assert not failed
    with eventstore.open(path) as store:
        there = store.get_artifacts()
        assert {each.uri: each.id for each in there} == acknowledged
        assert len(there) == len(acknowledged)
        assert store.verify().ok
