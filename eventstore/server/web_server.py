"""Listens for HTTP with uvicorn, in a thread, and keeps nobody waiting for a client that stalls."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from eventstore.errors import UnavailableError
from eventstore.server.configuration import joined
from eventstore.server.reloading import Reloaded
from eventstore.server.tls import SslConfig, tls_context

_HEAD_SECONDS: Final = 30.0
"""How long a client may take to connect, and for the head of each request once that has begun."""

_IDLE_SECONDS: Final = 75
_LEFT_SECONDS: Final = 5.0
"""How long a client may go on to send what was answered before all of it came."""

_HEAD_BYTES_MAX: Final = 64 * 1024
_GOING_SECONDS: Final = 1


class WebServer:
    """Serves an ASGI application on a port, with TLS if there is a certificate."""

    def __init__(
        self,
        host: str,
        port: int,
        tls: SslConfig | None,
        connections_max: int,
        tls_now: Reloaded[SslConfig] | None = None,
        *,
        shares_port: bool = False,
    ) -> None:
        """Take the port; whoever connects waits until `start`.

        `tls_now` is what `tls` has become, where it may change. With `shares_port` other processes
        of the same user may listen there, too.

        Raises UnavailableError for an address that cannot be listened on, InvalidArgumentError for
        a certificate that cannot be used.
        """
        self._tls = None if tls is None else tls_context(tls)
        if self._tls is not None and tls_now is not None:
            _keep_new(self._tls, tls_now)
        self._sockets = _bound(host, port, shares_port=shares_port)
        self._connections_max = connections_max
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.address = joined(host, self.port)

    @property
    def port(self) -> int:
        """The port that it listens on, which was free if port 0 was asked for."""
        port: int = self._sockets[0].getsockname()[1]
        return port

    def start(self, application: Callable[..., Any]) -> None:
        """Answer requests from now on."""
        config = uvicorn.Config(
            application,
            loop="asyncio",
            http=_Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            # Below are the faults of clients.
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=self._connections_max,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=_GOING_SECONDS,
            h11_max_incomplete_event_size=_HEAD_BYTES_MAX,
        )
        config.load()
        config.ssl = self._tls
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="web", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Let go of the port and of all connections, a second after the last answer at most."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
        for each in self._sockets:
            each.close()

    async def _serve(self) -> None:
        assert self._server is not None
        await self._server.serve(self._sockets)
        for connection in [*self._server.server_state.connections]:
            connection.transport.abort()


class _Connection(H11Protocol):
    """A connection that ends if a client is silent where it should speak, or listen.

    What it serves finds in the scope's `state` how to `cut` it, and the client's `certificate` as
    a mapping, if it was asked for one and an authority has signed it.
    """

    _head_timer: asyncio.TimerHandle | None = None
    since = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered: its head has not come, or all was answered."""
        has_asked = self.cycle is not None and not self.cycle.response_complete
        return not has_asked and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        most = self.limit_concurrency
        if most is not None and len(self.connections) >= most:
            # Who asks for nothing makes room for who may.
            others = [one for one in self.connections if isinstance(one, _Connection)]
            idle = [one for one in others if one is not self and one.is_idle]
            if idle:
                longest = min(idle, key=_since)
                longest.transport.abort()
                # Its loss is told later, and by then the place is taken.
                self.connections.discard(longest)
            elif len(self.connections) > most:
                transport.abort()
                return
        self.since = self.loop.time()
        secured = transport.get_extra_info("ssl_object")
        certificate = secured.getpeercert() if secured is not None else None
        self.app_state = {"cut": transport.abort, "certificate": certificate}
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        is_head_there = self.conn.their_state is not h11.IDLE
        if is_head_there:
            self._stop_waiting_for_head()
        elif self._head_timer is None:
            self._wait_for_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self.loop.call_later(_LEFT_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting_for_head()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        # What came before it may be about to be answered, and takes this for its end.
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def timeout_keep_alive_handler(self) -> None:
        # Closing waits for who does not take the answer.
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(_HEAD_SECONDS, self.transport.abort)

    def _stop_waiting_for_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def _since(connection: _Connection) -> float:
    return connection.since


def _keep_new(context: ssl.SSLContext, tls_now: Reloaded[SslConfig]) -> None:
    """Have each handshake use the certificates of its time."""
    used = tls_now.now(), context

    def renew(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        nonlocal used
        now = tls_now.now()
        if now is not used[0]:
            used = now, tls_context(now)
        connection.context = used[1]

    context.sni_callback = renew


def _bound(host: str, port: int, *, shares_port: bool) -> list[socket.socket]:
    """Sockets on the addresses of a host that are there, with one port; none of them is taken.

    With `shares_port` they may be, by processes that share it.
    """
    opened, missing = list[socket.socket](), list[OSError]()
    with contextlib.ExitStack() as failing:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, _, _, _, address in found:
                taken = opened[0].getsockname()[1] if opened else port
                try:
                    opened.append(
                        socket.create_server(
                            (address[0], taken), family=family, reuse_port=shares_port
                        )
                    )
                    failing.callback(opened[-1].close)
                except OSError as error:
                    if error.errno == errno.EADDRINUSE:
                        raise
                    missing.append(error)
            if not opened:
                raise missing[0]
        except OSError as error:
            raise UnavailableError(
                f"cannot listen on {joined(host, port)}: {error.strerror}: choose another port, or "
                "0 for any free one, and an address of this machine"
            ) from None
        failing.pop_all()
    return opened
