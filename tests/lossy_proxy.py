"""A connection to a server that a test cuts: before a request, or between it and its answer."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Literal

Fate = Literal["passed", "lost", "unanswered"]


class LossyProxy:
    """Listens at `port` for a server on this machine.

    `fate` decides of each piece that a client sends: it is passed on, or the connection is cut
    instead, or once the server has begun to answer.
    """

    def __init__(self, server_port: int) -> None:
        self.fate: Callable[[bytes], Fate] = lambda data: "passed"
        self._server_port = server_port
        self.port = 0
        self._open: list[socket.socket] = []
        self.start()

    def start(self) -> None:
        """Listen, at the same port as before `close`."""
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, args=[self._listening], daemon=True).start()

    def __enter__(self) -> LossyProxy:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Refuse connections from now on, and cut those that there are."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        while self._open:
            _cut(self._open.pop())

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port))
            except OSError:
                _cut(client)
                continue
            self._open += [client, server]
            is_unanswered = threading.Event()
            for one, other in ((client, server), (server, client)):
                threading.Thread(
                    target=self._pump, args=(one, other, one is client, is_unanswered), daemon=True
                ).start()

    def _pump(
        self,
        source: socket.socket,
        target: socket.socket,
        is_client: bool,
        is_unanswered: threading.Event,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                fate = self.fate(data) if is_client else "passed"
                if fate == "lost" or (not is_client and is_unanswered.is_set()):
                    break
                if fate == "unanswered":
                    is_unanswered.set()
                target.sendall(data)
        _cut(source)
        _cut(target)


def _cut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
