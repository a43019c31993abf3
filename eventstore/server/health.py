"""What gRPC's tools ask of a server beside its service: whether it is well, and what it offers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from eventstore.server.message_timeout import MessageTimeout

_THREADS = 64


class Health:
    """The services `grpc.health.v1.Health` and `grpc.reflection.v1alpha.ServerReflection`.

    They have threads of their own: however many calls wait, a server that is well says so, and
    whoever looks at what it offers keeps nobody waiting. Who asks nothing is not waited for.
    """

    def __init__(self, services: Sequence[str], message_timeout: MessageTimeout) -> None:
        """Both are about some services; the server as a whole, "", is as well as these."""
        self._message_timeout = message_timeout
        self._health = health.HealthServicer()
        for service in services:
            self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        self._services = services
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="health")

    def handlers(self) -> tuple[Any, ...]:
        """What gRPC's server finds the RPCs in."""
        names = (*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflecting = reflection.ReflectionServicer(names)
        watch = self._apart(self._asked_once(self._health.Watch))
        # Who watches takes no thread meanwhile.
        watch.experimental_non_blocking = True
        asked = health_pb2.HealthCheckRequest.FromString
        told = health_pb2.HealthCheckResponse.SerializeToString
        of_health = {
            # Requests are streams, so that they are waited for with an end.
            "Check": grpc.stream_unary_rpc_method_handler(
                self._apart(self._asked_once(self._health.Check)), asked, told
            ),
            "Watch": grpc.stream_stream_rpc_method_handler(watch, asked, told),
        }
        of_reflection = {
            "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
                self._apart(self._asked_often(reflecting.ServerReflectionInfo)),
                reflection_pb2.ServerReflectionRequest.FromString,
                reflection_pb2.ServerReflectionResponse.SerializeToString,
            )
        }
        return (
            grpc.method_handlers_generic_handler(health.SERVICE_NAME, of_health),
            grpc.method_handlers_generic_handler(reflection.SERVICE_NAME, of_reflection),
        )

    def say_not_serving(self) -> None:
        """Tell whoever asks, and whoever watches, that the server is about to stop."""
        self._health.enter_graceful_shutdown()

    def close(self) -> None:
        """End the threads, once gRPC's server has stopped."""
        self._pool.shutdown()

    def _asked_once(self, answer: Callable[..., Any]) -> Callable[..., Any]:
        def run(messages: Iterator[Any], context: Any, *others: Any) -> Any:
            message = self._message_timeout.message(messages, context)
            if message is None:
                context.abort(grpc.StatusCode.CANCELLED, "it takes one message, and none came")
            return answer(message, context, *others)

        return run

    def _asked_often(self, answer: Callable[..., Any]) -> Callable[..., Any]:
        def run(messages: Iterator[Any], context: Any) -> Any:
            arriving = iter(lambda: self._message_timeout.message(messages, context), None)
            return answer(arriving, context)

        return run

    def _apart(self, answer: Callable[..., Any]) -> Any:
        """The same, run by threads of its own."""

        def run(*arguments: Any, **named: Any) -> Any:
            return answer(*arguments, **named)

        run_apart: Any = run
        run_apart.experimental_thread_pool = self._pool
        return run_apart
