"""Calls that come over gRPC: what gRPC's server runs for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final, NoReturn, TypeAlias

import grpc

from eventstore.call_metadata import APPLIES_ONCE
from eventstore.errors import CancelledError, StatusError
from eventstore.server.answering import Answer
from eventstore.server.incoming import Incoming, Metadata, Peer
from eventstore.server.message_timeout import MessageTimeout
from eventstore.server.status_text import shortened

Welcome: TypeAlias = Callable[[Incoming], None]
"""Looks at a call before its message is waited for; raises the classes of `eventstore.errors`."""

_STATUS_BY_CODE: Final = {status.value[0]: status for status in grpc.StatusCode}


class GrpcIncoming(Incoming):
    """A call of which gRPC's server has a context."""

    def __init__(self, service: str, rpc: str, context: Any, *, has_tls: bool = True) -> None:
        """Without TLS nobody has a certificate, and none is looked for."""
        super().__init__(service, rpc)
        self._context = context
        self._has_tls = has_tls

    def metadata(self) -> Metadata:
        found: Metadata = self._context.invocation_metadata() or ()
        return found

    def peer(self) -> Peer:
        return Peer(_ip_address(self._context.peer()), self.certificate_name())

    def certificate_name(self) -> str:
        if not self._has_tls:
            return ""
        said = self._context.auth_context()
        names = said.get("x509_common_name") or said.get("x509_subject_alternative_name") or [b""]
        return _text(names[0])

    def seconds_left(self) -> float | None:
        left: float | None = self._context.time_remaining()
        return left

    def is_wanted(self) -> bool:
        wanted: bool = self._context.is_active()
        return wanted

    def cut(self) -> None:
        self._context.cancel()

    def when_ended(self, call_back: Callable[[], None]) -> bool:
        is_there: bool = self._context.add_callback(call_back)
        return is_there


def unary_handlers(
    service: str,
    rpcs: Iterable[str],
    answer: Answer,
    message_timeout: MessageTimeout,
    welcome: Welcome,
    *,
    has_tls: bool = True,
) -> Any:
    """What gRPC's server finds the RPCs of a service in, if each has one request and one answer.

    For gRPC requests are streams, since it would wait for a single one without an end.
    """
    handlers = {
        rpc: grpc.stream_unary_rpc_method_handler(
            partial(_answered, answer, message_timeout, welcome, has_tls, service, rpc)
        )
        for rpc in rpcs
    }
    return grpc.method_handlers_generic_handler(service, handlers)


def streaming_handlers(
    service: str,
    rpcs: Iterable[str],
    answer: Callable[[Incoming, bytes, Callable[[bytes], None]], None],
    message_timeout: MessageTimeout,
    welcome: Welcome,
    *,
    has_tls: bool = True,
) -> Any:
    """The same, if each has one request, and answers in parts that are sent."""
    handlers = {}
    for rpc in rpcs:
        run: Any = partial(
            _answered_in_parts, answer, message_timeout, welcome, has_tls, service, rpc
        )
        # It sends by itself, while it is at work.
        run.experimental_non_blocking = True
        handlers[rpc] = grpc.stream_stream_rpc_method_handler(run)
    return grpc.method_handlers_generic_handler(service, handlers)


def aborted(context: Any, error: StatusError) -> NoReturn:
    """End a call with the status of an error."""
    context.abort(_STATUS_BY_CODE[error.error_code], shortened(error.message))
    raise AssertionError("abort raises")


def _answered(
    answer: Answer,
    message_timeout: MessageTimeout,
    welcome: Welcome,
    has_tls: bool,
    service: str,
    rpc: str,
    messages: Iterator[bytes],
    context: Any,
) -> bytes:
    context.set_trailing_metadata((APPLIES_ONCE,))
    try:
        incoming = GrpcIncoming(service, rpc, context, has_tls=has_tls)
        welcome(incoming)
        content = _message(message_timeout, rpc, messages, context)
        answered = answer(incoming, content)
        if incoming.told:
            context.set_trailing_metadata((APPLIES_ONCE, *incoming.told))
        return answered
    except StatusError as error:
        aborted(context, error)


def _answered_in_parts(
    answer: Callable[[Incoming, bytes, Callable[[bytes], None]], None],
    message_timeout: MessageTimeout,
    welcome: Welcome,
    has_tls: bool,
    service: str,
    rpc: str,
    messages: Iterator[bytes],
    context: Any,
    send_or_end: Callable[[bytes | None], None],
) -> None:
    def send(part: bytes) -> None:
        send_or_end(part)
        if not context.is_active():
            raise CancelledError(f"{rpc}: the client is gone")

    context.set_trailing_metadata((APPLIES_ONCE,))
    try:
        incoming = GrpcIncoming(service, rpc, context, has_tls=has_tls)
        welcome(incoming)
        content = _message(message_timeout, rpc, messages, context)
        answer(incoming, content, send)
    except StatusError as error:
        aborted(context, error)
    send_or_end(None)


def _message(
    message_timeout: MessageTimeout, rpc: str, messages: Iterator[bytes], context: Any
) -> bytes:
    content = message_timeout.message(messages, context)
    if content is None:
        raise CancelledError(f"{rpc} takes one message, and none came; nothing was done")
    return content


def _ip_address(peer: str) -> str:
    """That of what gRPC says of a peer, such as `ipv4:127.0.0.1:80` or `ipv6:%5B::1%5D:80`."""
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    host = rest.rpartition(":")[0]
    return host.replace("%5B", "").replace("%5D", "").strip("[]")


def _text(name: bytes | str) -> str:
    return name if isinstance(name, str) else name.decode("utf-8", "replace")
