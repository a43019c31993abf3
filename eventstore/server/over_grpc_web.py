"""Calls that come over gRPC-Web, as pages in browsers make them: an ASGI application."""

from __future__ import annotations

import asyncio
import base64
import binascii
import concurrent.futures
import ipaddress
import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Final, TypeAlias

from eventstore.errors import (
    OK,
    CancelledError,
    DeadlineExceededError,
    InvalidArgumentError,
    StatusError,
    UnimplementedError,
)
from eventstore.server.answering import Answer
from eventstore.server.byte_budget import ByteBudget
from eventstore.server.incoming import Incoming, Metadata, Peer
from eventstore.server.web_exchange import (
    GoneError,
    Headers,
    Receive,
    Response,
    Scope,
    Send,
    body_of,
)
from eventstore.server.web_frames import FRAME_START_BYTES, message_in
from eventstore.server.web_origins import is_ours, told_beforehand, told_to

_CONTENT_TYPE: Final = re.compile(r"application/grpc-web(?P<text>-text)?(\+proto)?( *;.*)?")
_TIMEOUT: Final = re.compile(r"([0-9]{1,8})([HMSmun])", re.ASCII)
_SECONDS_BY_UNIT: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}

_OF_HTTP: Final = frozenset(
    {"connection", "content-length", "content-type", "host", "te", "transfer-encoding", "upgrade"}
)
_OF_NAMES: Final = frozenset({"DNS", "URI", "email", "IP Address"})
"""The kinds of a certificate's alternative names that gRPC tells, too."""

_LONGEST_AT_ONCE: Final = 4
"""How many messages of the greatest length may be in memory, on their way here or back."""


AnswerInParts: TypeAlias = Callable[[Incoming, bytes, Callable[[bytes], None]], None]
"""Answers a message by several, which it sends; raises the classes of `eventstore.errors`."""

_SEND_LESS: Final = (
    "send less; if it is a put, of fewer nodes at once, or start the server with a greater "
    "--max-message-mib"
)


class WebIncoming(Incoming):
    """A call, as HTTP has it: its headers are gRPC's metadata."""

    def __init__(self, scope: Scope) -> None:
        """Raises InvalidArgumentError for headers that gRPC would not take."""
        _, service, rpc = ("//" + scope["path"]).rsplit("/", 2)
        super().__init__(service.lstrip("/"), rpc)
        self._metadata = _metadata(scope["headers"])
        self._peer = _peer(scope)
        timeouts = [value for name, value in self._metadata if name == "grpc-timeout"]
        seconds = _seconds(str(timeouts[0])) if timeouts else None
        self._until = None if seconds is None else time.monotonic() + seconds
        self._changed = threading.Lock()
        self._has_ended = False
        self._to_call_back = list[Callable[[], None]]()

    def metadata(self) -> Metadata:
        return self._metadata

    def peer(self) -> Peer:
        return self._peer

    def seconds_left(self) -> float | None:
        return None if self._until is None else max(self._until - time.monotonic(), 0.0)

    def is_wanted(self) -> bool:
        return not self._has_ended and self.seconds_left() != 0

    def when_ended(self, call_back: Callable[[], None]) -> bool:
        with self._changed:
            if not self._has_ended:
                self._to_call_back.append(call_back)
            return not self._has_ended

    def end(self) -> None:
        """Its client has the answer, or does not wait for it any more."""
        with self._changed:
            self._has_ended = True
        for call_back in self._to_call_back:
            call_back()


class GrpcWeb:
    """Answers calls over HTTP. All its state belongs to the event loop."""

    def __init__(
        self,
        answers: Mapping[str, AnswerInParts],
        pool: Executor,
        *,
        message_bytes_max: int,
        origins: frozenset[str],
        is_here: bool,
    ) -> None:
        """`answers` are by service. Pages of `origins` may call, beside those of its own address.

        If `is_here`, the server listens on this machine alone.
        """
        self._answers = answers
        self._pool = pool
        self._frame_bytes_max = message_bytes_max + FRAME_START_BYTES
        self._origins = origins
        self._is_here = is_here
        self._budget = ByteBudget(_LONGEST_AT_ONCE * self._frame_bytes_max)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = {name.decode("latin-1"): it.decode("latin-1") for name, it in scope["headers"]}
        told = told_to(headers.get("origin"), self._origins)
        kind = _CONTENT_TYPE.fullmatch(headers.get("content-type", "").lower())
        if self._is_here and not is_ours(headers.get("host", ""), self._origins):
            await _refuse(send, 403, told, "the Host of this request is not this machine")
        elif scope["method"] == "OPTIONS":
            start = {"type": "http.response.start", "status": 204}
            await send({**start, "headers": told + told_beforehand()})
            await send({"type": "http.response.body"})
        elif scope["method"] != "POST":
            await _refuse(send, 405, [*told, (b"allow", b"POST, OPTIONS")], "calls are POST")
        elif kind is None:
            await _refuse(send, 415, told, "calls are of the type application/grpc-web")
        else:
            is_text = kind["text"] is not None
            told.append((b"content-type", headers["content-type"].encode("latin-1")))
            response = Response(scope, send, told, is_text=is_text)
            try:
                await self._exchange(scope, headers, receive, response, is_text=is_text)
            except GoneError:
                return

    async def _exchange(
        self,
        scope: Scope,
        headers: Mapping[str, str],
        receive: Receive,
        response: Response,
        *,
        is_text: bool,
    ) -> None:
        """Answer a call, or tell its status."""
        most = self._frame_bytes_max
        with self._budget.claimed() as claim:
            try:
                incoming = WebIncoming(scope)
                answer = self._answers.get(incoming.service)
                if answer is None:
                    raise UnimplementedError("Method not found!")
                if headers.get("grpc-encoding", "identity") != "identity":
                    raise UnimplementedError(
                        f"the encoding {headers['grpc-encoding']!r} is not read: send messages as "
                        "they are"
                    )
                bytes_max = 4 * (most + 2) // 3 if is_text else most
                body = await body_of(receive, bytes_max, claim, advice=_SEND_LESS)
            except StatusError as error:
                # The rest of its body may be on the way.
                await response.end(error.error_code, error.message, closes=True)
                return
            try:
                send = self._sender(response, incoming)
                await self._run(
                    lambda: answer(incoming, message_in(body, is_text=is_text), send),
                    incoming,
                    receive,
                )
                await response.end(OK, "", beside=incoming.told)
            except StatusError as error:
                await response.end(error.error_code, error.message)
            finally:
                incoming.end()

    async def _run(
        self, answer: Callable[[], None], incoming: WebIncoming, receive: Receive
    ) -> None:
        """Have a thread answer, and wait for it as long as the client does.

        Raises what `answer` does, GoneError and DeadlineExceededError.
        """
        answering = asyncio.get_running_loop().run_in_executor(self._pool, answer)
        # Nothing more comes of a request but that its client is gone.
        leaving = asyncio.ensure_future(receive())
        try:
            await asyncio.wait(
                (answering, leaving),
                timeout=incoming.seconds_left(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if answering.done():
                answering.result()
                return
            if leaving.done():
                raise GoneError
            raise DeadlineExceededError(
                f"{incoming.rpc} was not answered before its deadline; a put may happen yet"
            )
        finally:
            leaving.cancel()
            answering.cancel()

    def _sender(self, response: Response, incoming: WebIncoming) -> Callable[[bytes], None]:
        """What sends a message from a thread, and returns once there is room for the next.

        It raises CancelledError once the client is gone.
        """
        loop = asyncio.get_running_loop()

        async def deliver(content: bytes) -> None:
            with self._budget.claimed() as claim:
                claim(len(content))
                await response.message(content)

        def send(content: bytes) -> None:
            try:
                if incoming.is_wanted():
                    asyncio.run_coroutine_threadsafe(deliver(content), loop).result()
                    return
            except (GoneError, concurrent.futures.CancelledError):
                pass
            raise CancelledError(f"{incoming.rpc}: the client is gone")

        return send


def in_one_part(answer: Answer) -> AnswerInParts:
    """The same for what answers by one message."""

    def run(incoming: Incoming, content: bytes, send: Callable[[bytes], None]) -> None:
        send(answer(incoming, content))

    return run


def _metadata(headers: Headers) -> Metadata:
    """What gRPC's metadata would be: names in lower case, and bytes where a name ends in `-bin`."""
    found = list[tuple[str, str | bytes]]()
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1").lower()
        if name in _OF_HTTP:
            continue
        if name.endswith("-bin"):
            try:
                padded = raw_value + b"=" * (-len(raw_value) % 4)
                found.append((name, base64.b64decode(padded, validate=True)))
            except binascii.Error:
                raise InvalidArgumentError(f"the header {name} is no base64") from None
        elif not raw_value.isascii():
            raise InvalidArgumentError(
                f"the header {name} has other characters than those of ASCII"
            )
        else:
            found.append((name, raw_value.decode("ascii")))
    return found


def _peer(scope: Scope) -> Peer:
    client = scope.get("client")
    certificate = scope.get("state", {}).get("certificate") or {}
    alternatives = [
        _plain_address(name) if kind == "IP Address" else name
        for kind, name in certificate.get("subjectAltName", ())
        if kind in _OF_NAMES
    ]
    common = [
        value
        for parts in certificate.get("subject", ())
        for key, value in parts
        if key == "commonName"
    ]
    return Peer(client[0] if client else "", next(iter((*common, *alternatives)), ""))


def _plain_address(text: str) -> str:
    return str(ipaddress.ip_address(text.strip()))


def _seconds(timeout: str) -> float:
    parts = _TIMEOUT.fullmatch(timeout)
    if parts is None:
        raise InvalidArgumentError(
            f"grpc-timeout is {timeout!r}: it is a number of at most eight digits and a unit, one "
            "of H, M, S, m, u and n"
        )
    return int(parts[1]) * _SECONDS_BY_UNIT[parts[2]]


async def _refuse(send: Send, status: int, headers: Headers, text: str) -> None:
    """Answer what is no call. The connection closes: a body may be on its way."""
    told = [
        (b"content-type", b"text/plain"),
        (b"content-length", str(len(text)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *told]})
    await send({"type": "http.response.body", "body": text.encode()})
