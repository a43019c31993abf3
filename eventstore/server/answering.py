"""Answers each RPC of MLMD's service from an engine: bytes in, bytes or a status out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NoReturn

import grpc

from eventstore.errors import INTERNAL, CancelledError, ResourceExhaustedError, StatusError
from eventstore.late_logger import late_logger
from eventstore.log.readable import UNREADABLE, unreadable_request
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.server.gate import Gate
from eventstore.store import Engine
from eventstore.store.rpcs import GETS, PUTS

SERVICE: Final = service.DESCRIPTOR.services_by_name["MetadataStoreService"].full_name

_STATUS_BY_CODE: Final = {status.value[0]: status for status in grpc.StatusCode}

DETAILS_BYTES_MAX: Final = 4096
"""How long a status may be on the wire: clients refuse answers whose headers are much longer."""

_PLAIN: Final = frozenset(range(0x20, 0x7F)) - {ord("%")}
"""The bytes of a status that the wire has as they are; it has three for each other."""

_LOGGER = late_logger("eventstore.server")


def rpc_handlers(engine: Engine, gate: Gate, answer_bytes_max: int) -> Any:
    """What gRPC's server finds each RPC in; no answer is longer than a maximum, if that is not -1.

    Every RPC that an engine runs is there, those that MLMD's own server lacks, too.
    """
    handlers = {
        rpc: grpc.unary_unary_rpc_method_handler(
            partial(_answer, _runs(engine, rpc, answer_bytes_max), gate, rpc)
        )
        for rpc in (*PUTS, *GETS)
    }
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


def _runs(engine: Engine, rpc: str, answer_bytes_max: int) -> Callable[[bytes], bytes]:
    """What makes an answer of a request. It raises the classes of `eventstore.errors`."""
    request_class = getattr(service, f"{rpc}Request")

    def run(content: bytes) -> bytes:
        try:
            request = request_class.FromString(content)
        except UNREADABLE as error:
            raise unreadable_request(error) from None
        answer: bytes = engine.call(rpc, request).SerializeToString()
        # What a put has done cannot be taken back, and its answer is short.
        if 0 <= answer_bytes_max < len(answer) and rpc in GETS:
            raise _too_long(rpc, len(answer), answer_bytes_max)
        return answer

    return run


def _answer(
    run: Callable[[bytes], bytes], gate: Gate, rpc: str, content: bytes, context: Any
) -> bytes:
    try:
        gate.enter()
        if not context.add_callback(gate.leave):
            # The call has waited for longer than its client.
            gate.leave()
            raise CancelledError(f"{rpc}: the client is gone; nothing was done")
        return run(content)
    except StatusError as error:
        _abort(context, error.error_code, error.message)
    except Exception as error:
        _LOGGER.exception("%s failed", rpc)
        _abort(
            context,
            INTERNAL,
            f"{rpc} failed in the server ({type(error).__name__}); its log says more",
        )


def _abort(context: Any, code: int, message: str) -> NoReturn:
    context.abort(_STATUS_BY_CODE[code], _shortened(message))
    raise AssertionError("abort raises")


def _too_long(rpc: str, size: int, most: int) -> StatusError:
    return ResourceExhaustedError(
        f"the answer to {rpc} is {size:,} bytes long, and this server sends {most:,} at most: ask "
        "in pages (options.max_result_size and next_page_token) or for fewer ids, or start the "
        "server with a greater --max-message-mib; a client has a limit of its own, too"
    )


def _shortened(message: str) -> str:
    """A message that fits into a status: its beginning, if it is too long."""
    content = message.encode("utf-8", "replace")
    length = 0
    for at, byte in enumerate(content):
        length += 1 if byte in _PLAIN else 3
        if length > DETAILS_BYTES_MAX:
            return content[:at].decode("utf-8", "ignore") + "..."
    return content.decode("utf-8")
