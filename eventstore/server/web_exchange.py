"""A request that comes and an answer that goes over HTTP: within memory, and not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from eventstore.call_metadata import APPLIES_ONCE
from eventstore.errors import DeadlineExceededError, ResourceExhaustedError
from eventstore.server.status_text import in_percents, shortened
from eventstore.server.web_frames import as_text, message_frame, trailers_frame

_PATIENCE_SECONDS: Final = 30.0
_SLOWEST_BYTES_A_SECOND: Final = 16 * 1024
"""Whoever is slower than this for so many seconds is not waited for."""

Headers: TypeAlias = list[tuple[bytes, bytes]]
Scope: TypeAlias = Mapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, Any]]]
Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]


class GoneError(Exception):
    """Nobody waits for an answer any more."""


class TooLongError(ResourceExhaustedError):
    """The body of a request is longer than a server takes."""


async def body_of(
    receive: Receive,
    bytes_max: int,
    claim: Callable[[int], None] = lambda _: None,
    *,
    advice: str = "send less",
) -> bytearray:
    """The body of a request. `claim` is told how many bytes come, before they are kept.

    Raises TooLongError, which has the advice, DeadlineExceededError if the client is too slow,
    GoneError if it is gone, and what `claim` does.
    """
    body, came, clock = bytearray(), 0, _Clock()
    is_complete = False
    # What is too long is read on for a while: who still sends does not read why it is refused.
    while not is_complete and came <= 2 * bytes_max:
        try:
            async with clock.patience():
                event = await receive()
        except TimeoutError:
            raise DeadlineExceededError(
                f"the request was too slow: {came:,} bytes of it came in {clock.seconds():.0f} "
                "seconds"
            ) from None
        if event["type"] == "http.disconnect":
            raise GoneError
        is_complete = not event.get("more_body", False)
        piece = event.get("body", b"")
        came += len(piece)
        clock.moved(len(piece))
        if came <= bytes_max:
            claim(len(piece))
            body += piece
    if came > bytes_max:
        raise TooLongError(
            f"the body of the request is longer than the {bytes_max:,} bytes that this server "
            f"takes at most: {advice}"
        )
    return body


class Response:
    """The answer to a call, as gRPC-Web has it: messages, then the status."""

    def __init__(self, scope: Scope, send: Send, headers: Headers, *, is_text: bool) -> None:
        """Nothing is sent yet. The connection that `scope` has is cut if the client is too slow."""
        self._cut = scope.get("state", {}).get("cut")
        self._send = send
        self._headers = headers
        self._is_text = is_text
        self._has_begun = self._is_over = False
        # A message may be on its way when the deadline is over.
        self._turn = asyncio.Lock()

    async def message(self, content: bytes) -> None:
        """Send a message. Raises GoneError if the client takes it too slowly, or has the status."""
        async with self._turn:
            if self._is_over:
                raise GoneError
            await self._begin(closes=False)
            await self._frame(message_frame(content))

    async def end(
        self,
        code: int,
        message: str,
        *,
        closes: bool = False,
        beside: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Send the status, and close the connection if that is said before any message."""
        told = {"grpc-status": str(code), "grpc-message": in_percents(shortened(message))}
        async with self._turn:
            self._is_over = True
            await self._begin(closes=closes)
            await self._frame([trailers_frame(told | dict([APPLIES_ONCE, *beside]))], is_last=True)

    async def _begin(self, *, closes: bool) -> None:
        if not self._has_begun:
            self._has_begun = True
            closing = [(b"connection", b"close")] if closes else []
            start = {"type": "http.response.start", "status": 200}
            await self._send({**start, "headers": [*self._headers, *closing]})

    async def _frame(self, pieces: Iterable[bytes], *, is_last: bool = False) -> None:
        # Between messages a client may wait for as long as it likes.
        clock = _Clock()
        for piece in pieces:
            content = as_text(piece) if self._is_text else piece
            event = {"type": "http.response.body", "body": content, "more_body": not is_last}
            try:
                async with clock.patience():
                    await self._send(event)
            except TimeoutError:
                if self._cut is not None:
                    self._cut()
                raise GoneError from None
            clock.moved(len(content))


class _Clock:
    """How long a client is waited for. It gains time by moving bytes, and can save little of it."""

    def __init__(self) -> None:
        self._time = asyncio.get_running_loop().time
        self._began = self._time()
        self._until = self._began + _PATIENCE_SECONDS

    def seconds(self) -> float:
        """Since the beginning."""
        return self._time() - self._began

    def patience(self) -> asyncio.Timeout:
        """Raises TimeoutError from its block, once the client has been too slow."""
        return asyncio.timeout_at(self._until)

    def moved(self, count: int) -> None:
        """So many bytes have come, or gone."""
        earned = self._until + count / _SLOWEST_BYTES_A_SECOND
        self._until = min(earned, self._time() + _PATIENCE_SECONDS)
