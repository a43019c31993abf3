"""Servers in this process, and clients of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import eventstore
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.metadata_store.reader import MetadataReader
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.server.caller import Callers
from eventstore.server.configuration import Listening, WebListening
from eventstore.server.principal import DEFAULT_STORE
from eventstore.server.server import Server
from eventstore.store import Engine
from tests.differential.clients import OurStore
from tests.differential.oracle import Oracle


def started(engine: Engine, *, web: WebListening | None = None, **listening: Any) -> Server:
    """A server that answers calls, on a free port."""
    server = Server(Listening(**{"port": 0, "threads": 4, **listening}), web)
    server.start(Callers({DEFAULT_STORE: engine}))
    return server


@contextmanager
def serving(engine: Engine, **listening: Any) -> Iterator[Server]:
    server = started(engine, **listening)
    try:
        yield server
    finally:
        server.stop(0)


def asked_at(made: MetadataStore, where: str) -> Iterator[MetadataStore]:
    """A store as it is, or through a server: what a test asks of it is answered alike."""
    if where == "here":
        yield made
        return
    with serving(made._engine) as server:
        client = eventstore.MetadataStore(client_config(server.port))
        yield client
        client.close()


WHERE = ("here", "behind a server")


def client_config(port: int, host: str = "127.0.0.1") -> mlmd.MetadataStoreClientConfig:
    return mlmd.MetadataStoreClientConfig(host=host, port=port)


class ServedStore(OurStore):
    """A store that its calls reach through a server; it is asked for the past at home."""

    def __init__(self, *, in_directory: bool = False) -> None:
        super().__init__(in_directory=in_directory)
        self._server: Server | None = None
        self._client: MetadataStore | None = None

    def _asked(self, as_of: int | None = None) -> MetadataReader:
        assert self._client is not None
        return self._client if as_of is None else super()._asked(as_of)

    def _open(self) -> None:
        super()._open()
        self._server = started(self._store._engine)
        self._client = eventstore.MetadataStore(client_config(self._server.port))

    def reopen(self) -> None:
        if self._folder is not None:
            self._stop()
        super().reopen()

    def close(self) -> None:
        self._stop()
        super().close()

    def _stop(self) -> None:
        if self._server is not None and self._client is not None:
            self._client.close()
            self._server.stop(0)
        self._server = self._client = None


class UpstreamClient(Oracle):
    """MLMD's own client, in a process of its own, of a server of ours."""

    def __init__(self) -> None:
        super().__init__()
        self._served: tuple[MetadataStore, Server] | None = None

    def start_over(self) -> None:
        self._stop()
        store = eventstore.open("memory://")
        server = started(store._engine)
        self._served = store, server
        self.dial(server.port)

    def close(self) -> None:
        super().close()
        self._stop()

    def _stop(self) -> None:
        if self._served is not None:
            store, server = self._served
            server.stop(0)
            store.close()
        self._served = None
