"""A client that can only send requests, to put beside a store in this process."""

from __future__ import annotations

from typing import Any

from eventstore.metadata_store.calls import Calls
from eventstore.store import Engine


class SentRequests(Calls):
    """All that a client has: requests, each of which goes over as bytes."""

    def __init__(self, engine: Engine, as_of: int | None = None) -> None:
        self._engine = engine
        self._as_of = as_of
        self.rpcs: list[str] = []

    def send(self, rpc: str, request: Any) -> Any:
        self.rpcs.append(rpc)
        received = type(request).FromString(request.SerializeToString())
        response = self._engine.call(rpc, received, as_of=self._as_of)
        return type(response).FromString(response.SerializeToString())
