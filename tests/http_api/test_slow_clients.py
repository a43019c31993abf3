"""Who sends half a request holds nobody up, and learns nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

import eventstore
from eventstore.errors import ResourceExhaustedError
from eventstore.http_api.answering import Answering
from eventstore.http_api.application import make_application
from eventstore.http_api.authentication import Authenticator, NoAuthentication, OneBrowser
from eventstore.http_api.serving import Serving
from eventstore.http_api.sessions import SignedIn
from eventstore.server import web_exchange, web_server
from eventstore.server.principal import Principal
from eventstore.server.web_server import WebServer

HEAD = b"POST /api/v1/sql HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-origin\r\n"
HALF = HEAD + b"Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{"

QUESTION = b"GET /api/v1/types HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: none\r\n\r\n"


@contextmanager
def listening(
    store: eventstore.MetadataStore, authenticator: Authenticator, most: int = 100
) -> Iterator[int]:
    web = WebServer("127.0.0.1", 0, None, most)
    web.start(make_application(Serving({"small": store._engine}), authenticator))
    try:
        yield web.port
    finally:
        web.stop()


def connected(port: int, sent: bytes = b"") -> socket.socket:
    to = socket.create_connection(("127.0.0.1", port))
    to.settimeout(60)
    to.sendall(sent)
    return to


def answered(to: socket.socket) -> bytes:
    """All that comes until the server ends the connection."""
    content = b""
    try:
        while piece := to.recv(65536):
            content += piece
    except ConnectionError:
        pass
    return content


def test_nobody_elses_body_is_waited_for(
    small: eventstore.MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_server, "_LEFT_SECONDS", 0.05)
    with listening(small, OneBrowser(1)) as port, connected(port, HALF) as stranger:
        assert answered(stranger).startswith(b"HTTP/1.1 401 ")


def test_a_body_has_to_come_in_time(
    small: eventstore.MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_exchange, "_PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(web_server, "_LEFT_SECONDS", 0.05)
    with listening(small, NoAuthentication()) as port, connected(port, HALF) as slow:
        told = answered(slow)
    assert told.startswith(b"HTTP/1.1 504 ")
    assert b"1 bytes of it came" in told


@pytest.mark.parametrize("sent", [b"", HEAD, QUESTION])
def test_who_asks_for_nothing_makes_room(small: eventstore.MetadataStore, sent: bytes) -> None:
    with listening(small, NoAuthentication(), 4) as port, ExitStack() as open_ones:
        for _ in range(12):
            opened = open_ones.enter_context(connected(port, sent))
            while sent == QUESTION and not opened.recv(65536).endswith(b"}"):
                """Until it is answered."""
        with connected(port, QUESTION[:-2] + b"Connection: close\r\n\r\n") as asking:
            assert answered(asking).startswith(b"HTTP/1.1 200 ")


def test_half_of_the_queries_are_left_to_others(small: eventstore.MetadataStore) -> None:
    class SomeDoor(SignedIn):
        def __init__(self) -> None: ...

    answering = Answering(Serving({"small": small._engine}), SomeDoor(), None)
    ana, bob = Principal("ana", {}), Principal("bob", {})
    ends = [answering._begun(ana), answering._begun(ana)]
    with pytest.raises(ResourceExhaustedError, match="2 queries and downloads of yours"):
        answering._begun(ana)
    ends += [answering._begun(bob), answering._begun(bob)]
    with pytest.raises(ResourceExhaustedError, match="4 queries and downloads are"):
        answering._begun(Principal("eve", {}))
    for end in ends:
        end()
    answering._begun(ana)
