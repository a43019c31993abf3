"""A SQL server is killed while processes put: what was acknowledged is there, and only once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from google.protobuf import json_format

import eventstore
from tests.contract.sql_logs import config_of
from tests.sql_servers import running

_PUTS = """
import json, sys, threading
from google.protobuf import json_format
import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd

config = json_format.Parse(sys.argv[1], mlmd.ConnectionConfig())
ended, telling = threading.Event(), threading.Lock()
with eventstore.MetadataStore(config) as store:
    type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))

    def put(thread):
        number = 0
        while not ended.is_set():
            number += 1
            uri = f"{sys.argv[2]}/{thread}/{number}"
            try:
                (id_,) = store.put_artifacts([mlmd.Artifact(type_id=type_id, uri=uri)])
                assert store.get_artifacts_by_id([id_])[0].uri == uri
            except eventstore.errors.OutcomeUnknownError:
                id_ = None
            with telling:
                print(json.dumps([uri, id_]), flush=True)

    threads = [threading.Thread(target=put, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    ended.set()
    for thread in threads:
        thread.join()
"""


class Writer:
    """A process with two threads that put until it is told to end; `acknowledged` has their ids."""

    def __init__(self, config: str, name: str) -> None:
        self.acknowledged: dict[str, int | None] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PUTS, config, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, more: int) -> None:
        """Wait until so many more puts have ended."""
        assert self._process.stdout is not None
        for _ in range(more):
            line = self._process.stdout.readline()
            assert line, "it has ended"
            uri, id_ = json.loads(line)
            self.acknowledged[uri] = id_

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        # By the reader that has read lines: it may hold some.
        self.acknowledged |= dict(map(json.loads, self._process.stdout))
        assert self._process.wait() == 0


@pytest.mark.share(2)
@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_nothing_is_lost_and_nothing_is_put_twice(name: str, tmp_path: Path) -> None:
    with running(name) as server:
        config = config_of(server, server.new_database())
        text = json_format.MessageToJson(config)
        writers = [Writer(text, f"writer-{number}") for number in range(2)]
        for _ in range(2):
            for writer in writers:
                writer.wait_for(60)
            server.kill()
            server.start()
        for writer in writers:
            writer.wait_for(60)
            writer.end()
        with eventstore.MetadataStore(config) as store:
            found = {artifact.id: artifact.uri for artifact in store.get_artifacts()}
            assert store.verify().ok
    assert set(Counter(found.values()).values()) == {1}
    for writer in writers:
        for uri, id_ in writer.acknowledged.items():
            assert id_ is None or found[id_] == uri
