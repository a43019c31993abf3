"""A request as observers of calls are told of it."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request

from eventstore.server.incoming import Incoming, Metadata, Peer
from eventstore.server.observing import HTTP


class HttpIncoming(Incoming):
    """A request: its `rpc` is the method and the route, `GET /api/v1/artifacts/{id}`."""

    def __init__(self, request: Request, path: str) -> None:
        super().__init__(HTTP, f"{request.method} {path}")
        self._request = request

    def metadata(self) -> Metadata:
        return [*self._request.headers.items()]

    def peer(self) -> Peer:
        client = self._request.client
        return Peer("" if client is None else client.host)

    def seconds_left(self) -> float | None:
        return None

    def is_wanted(self) -> bool:
        return True

    def when_ended(self, call_back: Callable[[], None]) -> bool:
        """Nothing is told: what is read of a store is given up by who waits for it."""
        raise NotImplementedError
