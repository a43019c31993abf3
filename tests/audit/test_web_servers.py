"""What both verifiers say of web servers that answer oddly: never that what is published is bad."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from eventstore import errors
from eventstore.audit import standalone_verifier, web_answers
from eventstore.audit.standalone_verifier import CannotCheck
from eventstore.audit.tile_check import check_tiles
from eventstore.audit.tile_source import opened_source
from tests.audit.filled_store import KEY, fill
from tests.builders import memory_store

Answer = Callable[[socket.socket], None]
TRUST = KEY.verifier_key


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@contextlib.contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """The address of a server that answers each request so."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                connection, _ = listening.accept()
                with connection, contextlib.suppress(OSError):
                    request = b""
                    while b"\r\n\r\n" not in request:
                        received = connection.recv(65_536)
                        if not received:
                            return
                        request += received
                    answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/www"
        finally:
            socket.create_connection(listening.getsockname()[:2]).close()
            thread.join()


def head(status: str, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "Connection: close", "", ""]).encode()


def said(address: str) -> tuple[str, str]:
    """What both verifiers say that they cannot read."""
    with pytest.raises(errors.UnavailableError) as refused:
        check_tiles(opened_source(address), TRUST)
    with pytest.raises(CannotCheck) as cannot:
        standalone_verifier.verify_tiles(address, standalone_verifier.parse_key(str(TRUST)))
    return str(refused.value), str(cannot.value)


def dripping(connection: socket.socket) -> None:
    connection.sendall(head("200 OK", "Content-Length: 100000000"))
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(b"x" * 64)


ENDED = threading.Event()


def dripping_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX")
    assert ENDED.wait(60)


@pytest.mark.parametrize("answer", [dripping, dripping_headers])
def test_nobody_is_kept_for_ever(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_answers, "ANSWER_SECONDS_MAX", 0)
    monkeypatch.setattr(standalone_verifier, "_SECONDS_MAX", 1e-3)
    ENDED.clear()
    with serving(answer) as address:
        ours, alone = said(address)
        ENDED.set()
    assert "not done after 0" in ours
    assert "not done after 0.001" in alone


def test_what_the_network_cut_off_is_not_damaged() -> None:
    with memory_store() as store:
        fill(store)
        text = store.checkpoint(KEY).text.encode()
    whole = head("200 OK", f"Content-Length: {len(text)}") + text
    with serving(lambda connection: connection.sendall(whole[:-7])) as address:
        for words in said(address):
            assert "cut off" in words


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        ("401 Unauthorized", (), "not open to everybody"),
        ("403 Forbidden", (), "not open to everybody"),
        ("503 Busy", (), "retry later"),
        ("429 Too Many", (), "retry later"),
        ("400 Bad", (), "check the address"),
        ("302 Found", ("Location: checkpoint",), "in a circle"),
        ("302 Found", ("Location: file:///etc/passwd",), "what is no web server"),
        ("200 OK", ("Content-Encoding: br", "Content-Length: 0"), "encoded as 'br'"),
    ],
)
def test_it_is_said_what_to_do(status: str, headers: tuple[str, ...], words: str) -> None:
    with serving(lambda connection: connection.sendall(head(status, *headers))) as address:
        ours, _ = said(address)
    assert words in ours


def test_an_answer_that_is_compressed_unasked_cannot_be_read_alone() -> None:
    packed = gzip.compress(b"x")
    answer = head("200 OK", "Content-Encoding: gzip", f"Content-Length: {len(packed)}") + packed
    with serving(lambda connection: connection.sendall(answer)) as address:
        with pytest.raises(CannotCheck, match="encoded as gzip"):
            standalone_verifier.verify_tiles(address, standalone_verifier.parse_key(str(TRUST)))
        with pytest.raises(errors.DataLossError, match="not a signed note"):
            check_tiles(opened_source(address), TRUST)


def test_an_address_is_asked_for_as_it_is_meant() -> None:
    missing = head("404 Missing", "Content-Length: 0")
    with serving(lambda connection: connection.sendall(missing)) as address:
        for path in ("/ü", "/%C3%BC", "/a b", "/(x)"):
            with pytest.raises(errors.NotFoundError, match="nothing is published"):
                check_tiles(opened_source(address + path), TRUST)
            with pytest.raises(standalone_verifier.Refused, match="lacks checkpoint"):
                standalone_verifier.verify_tiles(
                    address + path, standalone_verifier.parse_key(str(TRUST))
                )


@pytest.mark.parametrize(
    "address",
    [
        "http://u:secret@127.0.0.1:1/",
        "http://u@127.0.0.1:1/",
        "http://127.0.0.1:1/www?x=secret",
        "http://127.0.0.1:1/www#secret",
        "http://\u00fc.example/secret",
    ],
)
def test_addresses_that_are_not_taken(address: str) -> None:
    with pytest.raises(errors.InvalidArgumentError) as refused:
        opened_source(address)
    with pytest.raises(CannotCheck) as cannot:
        standalone_verifier.verify_tiles(address, standalone_verifier.parse_key(str(TRUST)))
    for error in (refused, cannot):
        assert "@" not in address or "secret" not in str(error.value)


@pytest.mark.parametrize(
    "address", ["http://", "https:///x", "http://h:x/", "http://[/", "http://h:99999/"]
)
def test_texts_that_are_no_address(address: str) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="address"):
        opened_source(address)
