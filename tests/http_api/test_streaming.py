"""Answers in parts: few at once, and none is made that nobody takes any more."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.routing import Route as Address

import eventstore
from eventstore.http_api.answering import Answering
from eventstore.http_api.authentication import NoAuthentication
from eventstore.http_api.routes import Asked, Nothing, Route, Streamed
from eventstore.http_api.serving import Limits, Serving
from eventstore.server.web_server import WebServer

LAST = threading.Event()
CLOSED = threading.Semaphore(0)


def parts() -> Iterator[bytes]:
    try:
        yield b"first"
        while not LAST.wait(0.01):
            yield b"more" * 10_000
        yield b"last"
    finally:
        CLOSED.release()


def streamed(asked: Asked, query: Nothing) -> Streamed:
    """Some parts."""
    return Streamed("text/plain", parts(), "parts.txt")


@pytest.fixture
def port(small: eventstore.MetadataStore) -> Iterator[int]:
    serving = Serving({"default": small._engine}, limits=Limits(queries_max=1))
    answering = Answering(serving, NoAuthentication(), None)
    endpoint = answering.endpoint(Route("/parts", streamed, is_query=True))
    web = WebServer("127.0.0.1", 0, None, 10)
    web.start(Starlette(routes=[Address("/parts", endpoint)]))
    yield web.port
    web.stop()


def asked_at(port: int) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/parts")
    return connection, connection.getresponse()


def test_parts_end_with_their_client(port: int) -> None:
    LAST.clear()
    connection, answer = asked_at(port)
    assert answer.read(5) == b"first"
    assert answer.getheader("content-disposition") == 'attachment; filename="parts.txt"'
    refused = asked_at(port)[1]
    assert refused.status == 429
    assert refused.getheader("retry-after") == "1"
    answer.close()
    connection.close()
    assert CLOSED.acquire(timeout=60)
    LAST.set()
    while (answer := asked_at(port)[1]).status == 429:
        # The count goes down a moment after the parts are closed.
        answer.read()
    assert answer.read().endswith(b"last")
    assert CLOSED.acquire(timeout=60)
