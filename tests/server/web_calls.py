"""Calls over gRPC-Web, byte by byte."""

from __future__ import annotations

import base64
import http.client
import ssl
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import unquote

import grpc

from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.server.roles import MLMD_SERVICE

BINARY = "application/grpc-web+proto"
TEXT = "application/grpc-web-text"


class Answered(NamedTuple):
    """What came back: messages, and the status."""

    messages: list[bytes]
    code: int
    message: str

    @property
    def status(self) -> grpc.StatusCode:
        return next(status for status in grpc.StatusCode if status.value[0] == self.code)


def framed(content: bytes, flags: int = 0) -> bytes:
    return bytes([flags]) + len(content).to_bytes(4, "big") + content


def frames_of(body: bytes) -> list[tuple[int, bytes]]:
    """The flags and the content of each frame."""
    found = []
    while body:
        end = 5 + int.from_bytes(body[1:5], "big")
        assert len(body) >= end
        found.append((body[0], body[5:end]))
        body = body[end:]
    return found


def without_base64(body: bytes) -> bytes:
    """What is in base64, piece by piece."""
    return b"".join(base64.b64decode(body[at : at + 4]) for at in range(0, len(body), 4))


def connection(port: int, context: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
    if context is not None:
        return http.client.HTTPSConnection("localhost", port, timeout=60, context=context)
    return http.client.HTTPConnection("127.0.0.1", port, timeout=60)


def asked(
    to: http.client.HTTPConnection,
    rpc: str,
    body: bytes,
    said: Iterable[tuple[str, str | bytes]] = (),
    *,
    kind: str = BINARY,
    of: str = MLMD_SERVICE,
) -> Answered:
    """Send a body as it is, in base64 if it is text; what is answered with status 200.

    Metadata goes along as it is said, in base64 if it is bytes.
    """
    content = base64.b64encode(body) if kind.startswith(TEXT) else body
    to.putrequest("POST", f"/{of}/{rpc}")
    for name, value in (("Content-Type", kind), ("Content-Length", str(len(content))), *said):
        to.putheader(name, base64.b64encode(value) if isinstance(value, bytes) else value)
    to.endheaders(content)
    return answer_of(to.getresponse(), kind)


def answer_of(response: http.client.HTTPResponse, kind: str = BINARY) -> Answered:
    body = response.read()
    assert response.status == 200, (response.status, body)
    assert response.headers["content-type"] == kind
    *messages, (flags, trailers) = frames_of(without_base64(body) if kind == TEXT else body)
    assert flags == 0x80
    assert all(each == 0 for each, _ in messages)
    told = dict(line.split(": ", 1) for line in trailers.decode("ascii").split("\r\n") if line)
    return Answered(
        [content for _, content in messages],
        int(told["grpc-status"]),
        unquote(told["grpc-message"]),
    )


def called(to: http.client.HTTPConnection, rpc: str, request: Any, **how: Any) -> Any:
    """The response to a request that succeeds."""
    answered = asked(to, rpc, framed(request.SerializeToString()), **how)
    assert answered.code == 0, answered
    (content,) = answered.messages
    return getattr(service, f"{rpc}Response").FromString(content)
