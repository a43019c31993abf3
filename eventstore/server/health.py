"""What gRPC's tools ask of a server beside its service: whether it is well, and what it offers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

_THREADS = 4


class Health:
    """The services `grpc.health.v1.Health` and `grpc.reflection.v1alpha.ServerReflection`.

    They have threads of their own: however many calls wait, a server that is well says so, and
    whoever looks at what it offers keeps nobody waiting.
    """

    def __init__(self, service: str) -> None:
        """Both are about one service; the server as a whole, "", is as well as that."""
        self._health = health.HealthServicer()
        self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        self._service = service
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="health")

    def handlers(self) -> tuple[Any, ...]:
        """What gRPC's server finds the RPCs in."""
        names = (self._service, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflecting = reflection.ReflectionServicer(names)
        watch = self._apart(self._health.Watch)
        # Who watches takes no thread meanwhile.
        watch.experimental_non_blocking = True
        asked = health_pb2.HealthCheckRequest.FromString
        told = health_pb2.HealthCheckResponse.SerializeToString
        of_health = {
            "Check": grpc.unary_unary_rpc_method_handler(
                self._apart(self._health.Check), asked, told
            ),
            "Watch": grpc.unary_stream_rpc_method_handler(watch, asked, told),
        }
        of_reflection = {
            "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
                self._apart(reflecting.ServerReflectionInfo),
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

    def _apart(self, answer: Callable[..., Any]) -> Any:
        """The same, run by threads of its own."""

        def run(*arguments: Any, **named: Any) -> Any:
            return answer(*arguments, **named)

        run_apart: Any = run
        run_apart.experimental_thread_pool = self._pool
        return run_apart
