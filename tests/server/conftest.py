"""One server for the tests of a module, with certificates beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import eventstore
from eventstore import MetadataStore
from eventstore.metadata_store import remote_calls
from eventstore.server.server import Server
from tests.server.serving import client_config, serving


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients do not look for a server that has gone, unless a test says otherwise."""
    monkeypatch.setattr(remote_calls, "_PATIENCE_SECONDS", 0.0)


@pytest.fixture(scope="module")
def home() -> Iterator[MetadataStore]:
    """The store that is served, where it is."""
    with eventstore.open("memory://", actor="home") as store:
        yield store


@pytest.fixture(scope="module")
def server(home: MetadataStore) -> Iterator[Server]:
    with serving(home._engine) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[MetadataStore]:
    with MetadataStore(client_config(server.port)) as store:
        yield store
