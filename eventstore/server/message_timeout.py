"""Waits for the messages of calls, and ends calls whose message does not come."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any, TypeVar

import grpc

_Message = TypeVar("_Message")


class MessageTimeout:
    """Gives a client some seconds for its message once it has begun a call.

    gRPC itself waits for ever, with a thread for each such call. Safe to use from several threads.
    """

    def __init__(self, seconds_max: float) -> None:
        self._seconds_max = seconds_max
        self._since_by_context = dict[Any, float]()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="arrivals", daemon=True)

    def start(self) -> None:
        """Begin to end calls."""
        self._thread.start()

    def close(self) -> None:
        """End the thread, once no call is left."""
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join()

    def message(self, messages: Iterator[_Message], context: Any) -> _Message | None:
        """The next message of a call; None if the call has ended without one."""
        self._since_by_context[context] = time.monotonic()
        try:
            return next(messages, None)
        except grpc.RpcError:
            return None
        finally:
            del self._since_by_context[context]

    def _watch(self) -> None:
        while not self._closed.wait(self._seconds_max / 4):
            latest = time.monotonic() - self._seconds_max
            for context, since in [*self._since_by_context.items()]:
                if since < latest:
                    context.cancel()
