"""A span for each call, where OpenTelemetry is installed: it goes on with the caller's trace.

Only OpenTelemetry's API is used. What becomes of spans is for whoever starts the server to say, as
by `opentelemetry-instrument eventstore serve ...`; otherwise they cost next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from eventstore.errors import OK
from eventstore.server.incoming import Incoming
from eventstore.server.log_lines import cut
from eventstore.server.observing import Ended, Observer
from eventstore.server.status_text import STATUS_NAMES

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

_FAULTS: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""With these a server's span is one of an error, by OpenTelemetry's conventions for gRPC."""

_CARRIED: Final = ("traceparent", "tracestate")


def call_tracing(tracer: Tracer | None = None) -> Observer | None:
    """Makes spans by a tracer, if not by that of the process.

    None where nothing becomes of them: without OpenTelemetry, or if nobody has set it up.
    """
    try:
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError:
        return None
    if tracer is None and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    spans = tracer or trace.get_tracer("eventstore.server")
    propagator = TraceContextTextMapPropagator()

    def begin(incoming: Incoming) -> Callable[[Ended], None]:
        carried = {
            name: value
            for name, value in incoming.metadata()
            if name in _CARRIED and isinstance(value, str)
        }
        method = f"{incoming.service}/{incoming.rpc}"
        span = spans.start_span(
            method,
            context=propagator.extract(carried, context.Context()),
            kind=trace.SpanKind.SERVER,
            attributes={"rpc.system.name": "grpc", "rpc.method": method},
        )
        token = context.attach(trace.set_span_in_context(span))

        def end(call: Ended) -> None:
            context.detach(token)
            if span.is_recording():
                span.set_attributes(_attributes(call))
                if STATUS_NAMES[call.code] in _FAULTS:
                    span.set_status(trace.StatusCode.ERROR, cut(call.message))
            span.end()

        return end

    return begin


def _attributes(call: Ended) -> dict[str, Any]:
    status = STATUS_NAMES[call.code]
    found = {
        "rpc.response.status_code": status,
        "error.type": None if call.code == OK else status,
        "client.address": call.client or None,
        "eventstore.store": call.store,
        "eventstore.actor": call.actor and cut(call.actor),
        "eventstore.request_id": call.request_id and cut(call.request_id),
    }
    return {name: value for name, value in found.items() if value is not None}
