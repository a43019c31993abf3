"""A gRPC server: listens, answers, and stops without leaving a call unanswered."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import grpc

from eventstore.errors import InvalidArgumentError, StatusError, UnavailableError
from eventstore.metadata_store.served import OWN_SERVICE
from eventstore.server.answering import Answer, Answering, in_turn
from eventstore.server.beyond_mlmd import BeyondMlmd
from eventstore.server.caller import Callers
from eventstore.server.configuration import Listening, WebListening, joined
from eventstore.server.gate import Gate
from eventstore.server.health import Health
from eventstore.server.incoming import Incoming
from eventstore.server.message_timeout import MessageTimeout
from eventstore.server.observing import (
    AnswerInParts,
    Observer,
    Observing,
    observed,
    observed_in_parts,
)
from eventstore.server.over_grpc import streaming_handlers, unary_handlers
from eventstore.server.reloading import Reloaded
from eventstore.server.roles import MLMD_SERVICE, NEEDED
from eventstore.server.tls import SslConfig

if TYPE_CHECKING:
    from eventstore.server.web_server import WebServer

_GOING_SECONDS: Final = 0.5

_LENGTH_MAX: Final = 2**31 - 1
"""No message of protobuf is longer."""


class Server:
    """Answers the calls of MLMD's service on stores, which it leaves open when it stops."""

    def __init__(self, listening: Listening, web: WebListening | None = None) -> None:
        """Take the ports, of which that for gRPC-Web may be None; calls wait until `start`.

        Raises UnavailableError for an address that cannot be listened on, InvalidArgumentError for
        a certificate that cannot be used.
        """
        self._listening = listening
        if not listening.shares_port:
            refuse_taken(listening)
        self._gate = Gate()
        self._message_timeout = MessageTimeout(listening.message_seconds)
        self._health = Health((MLMD_SERVICE, OWN_SERVICE), self._message_timeout)
        # Each call waits for its message in a thread; few of them are answered at once.
        self._pool = ThreadPoolExecutor(listening.calls_max, thread_name_prefix="calls")
        self._server = grpc.server(
            self._pool,
            options=[*listening.options().items()],
            maximum_concurrent_rpcs=listening.calls_max,
        )
        self._beyond: BeyondMlmd | None = None
        self._port = _bound(self._server, listening)
        self._origins = web.origins if web is not None else frozenset[str]()
        self.web = None if web is None else _web_server(listening, web)
        """Where it listens for gRPC-Web."""

    @property
    def address(self) -> str:
        """The host and the port that it listens on."""
        return joined(self._listening.host, self.port)

    @property
    def port(self) -> int:
        """The port that it listens on, which was free if port 0 was asked for."""
        return self._port

    def start(self, callers: Callers, observers: Sequence[Observer] = ()) -> None:
        """Answer calls from now on, and tell observers of each.

        No answer is longer than gRPC is told to send at most.
        """
        observing = Observing(observers)
        answering = Answering(
            callers,
            self._gate,
            self._listening.answer_bytes_max(),
            self._listening.call_seconds_max,
        )
        answer = observed(in_turn(answering.answer, self._listening.threads), observing)

        def welcome(incoming: Incoming) -> None:
            # Strangers hold no place while they send nothing.
            try:
                callers.refuse_strangers(incoming)
            except StatusError:
                with observing.call(incoming, 0):
                    raise

        has_tls = self._listening.tls is not None
        rpcs = unary_handlers(
            MLMD_SERVICE,
            NEEDED[MLMD_SERVICE],
            answer,
            self._message_timeout,
            welcome,
            has_tls=has_tls,
        )
        self._beyond = BeyondMlmd(answering, self._listening.threads)
        in_parts = observed_in_parts(self._beyond.answer, observing)
        own = streaming_handlers(
            OWN_SERVICE,
            NEEDED[OWN_SERVICE],
            in_parts,
            self._message_timeout,
            welcome,
            has_tls=has_tls,
        )
        self._server.add_generic_rpc_handlers((rpcs, own, *self._health.handlers()))
        self._message_timeout.start()
        self._server.start()
        if self.web is not None:
            self._start_web(self.web, answer, in_parts)

    def calls_inside(self) -> int:
        """How many calls have begun, and are not answered yet."""
        return self._gate.inside

    def stop(self, grace_seconds: float) -> bool:
        """Refuse new calls (UNAVAILABLE); whether those that have begun were answered.

        After `grace_seconds` their clients are told that they are cancelled. Whatever has begun is
        done in any case when this returns.
        """
        self._health.say_not_serving()
        if self._beyond is not None:
            self._beyond.end_following()
        is_empty = self._gate.close(grace_seconds)
        # Clients hear that it goes, and do not take what they sent just then for cancelled.
        self._server.stop(_GOING_SECONDS if is_empty else 0).wait()
        if self.web is not None:
            self.web.stop()
        self._pool.shutdown()
        self._message_timeout.close()
        self._health.close()
        return is_empty

    def _start_web(self, web: WebServer, answer: Answer, in_parts: AnswerInParts) -> None:
        from eventstore.server.over_grpc_web import GrpcWeb, in_one_part

        most = self._listening.request_bytes_max()
        calls = GrpcWeb(
            {MLMD_SERVICE: in_one_part(answer), OWN_SERVICE: in_parts},
            self._pool,
            message_bytes_max=most if most >= 0 else _LENGTH_MAX,
            origins=self._origins,
            is_here=self._listening.is_here(),
        )
        web.start(calls)


def _web_server(listening: Listening, web: WebListening) -> WebServer:
    # It takes long to import, and most servers need none.
    from eventstore.server.web_server import WebServer

    return WebServer(
        listening.host,
        web.port,
        listening.tls,
        listening.calls_max,
        listening.tls_now,
        shares_port=listening.shares_port,
    )


def refuse_taken(listening: Listening) -> None:
    """Raise UnavailableError if the address cannot be listened on: gRPC would not say why.

    A name may stand for several addresses: none of them may be taken, and one has to be there.
    """
    met = list[OSError]()
    try:
        found = socket.getaddrinfo(
            listening.host, listening.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        found, met = [], [error]
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(address)
                tried.listen()
        except OSError as error:
            met.append(error)
    taken = [error for error in met if error.errno == errno.EADDRINUSE]
    if taken or len(met) >= max(len(found), 1):
        raise UnavailableError(
            f"cannot listen on {listening.address()}: {(taken or met)[0].strerror}: choose another "
            "port, or 0 for any free one, and an address of this machine"
        )


def _bound(server: Any, listening: Listening) -> int:
    if listening.tls is not None:
        return _bound_with_tls(server, listening.address(), listening.tls, listening.tls_now)
    try:
        port: int = server.add_insecure_port(listening.address())
    except RuntimeError as error:
        raise UnavailableError(f"cannot listen on {listening.address()}: {error}") from None
    if not port:
        raise UnavailableError(f"cannot listen on {listening.address()}: choose another port")
    return port


def _bound_with_tls(
    server: Any, address: str, tls: SslConfig, tls_now: Reloaded[SslConfig] | None
) -> int:
    if tls.client_verify and not tls.custom_ca:
        raise InvalidArgumentError(
            "ssl_config.client_verify is true, and no custom_ca says which certificates of clients "
            "are accepted: add it"
        )
    try:
        port: int = server.add_secure_port(address, _credentials(tls, tls_now))
    except RuntimeError:
        port = 0
    if not port:
        # The address has just been found free.
        raise InvalidArgumentError(
            "ssl_config cannot be used: server_key and server_cert have to be the texts of a PEM "
            "key without a password and of its certificate, not the paths of files"
        )
    return port


def _credentials(tls: SslConfig, tls_now: Reloaded[SslConfig] | None) -> Any:
    """What gRPC needs, which asks at each handshake if that may have changed."""
    if tls_now is None:
        pair, ca = _pair_and_ca(tls)
        return grpc.ssl_server_credentials([pair], ca, require_client_auth=tls.client_verify)
    used = tls

    def renew() -> Any:
        nonlocal used
        now = tls_now.now()
        # None is for what it has.
        return None if now is used else _configuration(used := now)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(tls), renew, require_client_authentication=tls.client_verify
    )


def _configuration(tls: SslConfig) -> Any:
    pair, ca = _pair_and_ca(tls)
    return grpc.ssl_server_certificate_configuration([pair], ca)


def _pair_and_ca(tls: SslConfig) -> tuple[tuple[bytes, bytes], bytes | None]:
    return (tls.server_key.encode(), tls.server_cert.encode()), tls.custom_ca.encode() or None
