"""Answers in parts: each is made in a thread, once the one before has been sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import anyio
import anyio.to_thread
from starlette.responses import StreamingResponse

from eventstore.cancellation import Waiter, waited_for_by
from eventstore.http_api.routes import Streamed
from eventstore.http_api.security import Receive, Send

_END: Final = object()


class InParts(StreamingResponse):
    """Sends what is streamed for as long as its client takes it, and `ended` is called after."""

    def __init__(
        self,
        streamed: Streamed,
        headers: Mapping[str, str],
        seconds: float,
        ended: Callable[[], None],
    ) -> None:
        self._given = streamed.parts
        self._waiter = Waiter(seconds_max=seconds)
        self._ended = ended
        named = dict(headers)
        if streamed.file_name is not None:
            named["content-disposition"] = f'attachment; filename="{streamed.file_name}"'
        super().__init__(self._parts(), headers=named, media_type=streamed.media_type)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Send it. Whatever ends that, no more is made afterwards."""

        async def watched() -> Any:
            message = await receive()
            if message["type"] == "http.disconnect":
                self._waiter.leave()
            return message

        try:
            await super().__call__(scope, watched, send)
        finally:
            self._waiter.leave()
            close = getattr(self._given, "close", None)
            with anyio.CancelScope(shield=True):
                if close is not None:
                    await anyio.to_thread.run_sync(close)
            self._ended()

    async def _parts(self) -> AsyncIterator[bytes]:
        while (part := await anyio.to_thread.run_sync(self._following)) is not _END:
            yield part

    def _following(self) -> Any:
        with waited_for_by(self._waiter):
            self._waiter.check()
            return next(self._given, _END)
