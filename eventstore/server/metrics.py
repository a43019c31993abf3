"""Metrics for Prometheus, on a port of their own. docs/operations.md has what each says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from msgspec import Struct
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric

from eventstore.errors import StatusError, UnavailableError
from eventstore.log.syncing import when_synced
from eventstore.server.configuration import joined
from eventstore.server.incoming import Incoming
from eventstore.server.observing import HTTP, Ended
from eventstore.server.roles import NEEDED
from eventstore.server.status_text import STATUS_NAMES
from eventstore.store import Engine
from eventstore.version import __version__

_CALL_BUCKETS: Final = (
    *(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 30.0, 60.0),
)
_SYNC_BUCKETS: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)


class MetricsListening(Struct, frozen=True):
    """Where metrics are read; port 0 is any free one."""

    port: int
    host: str = "127.0.0.1"


class Metrics:
    """Counts the calls of one server, and says how its stores are. Safe for several threads."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        of_method = ("method",)
        self._durations = Histogram(
            "eventstore_call_duration_seconds",
            "How long calls took, from when their request was there to their answer.",
            ("method", "status"),
            buckets=_CALL_BUCKETS,
            registry=registry,
        )
        self._received = Counter(
            "eventstore_call_request_bytes",
            "Bytes of requests.",
            of_method,
            registry=registry,
        )
        self._sent = Counter(
            "eventstore_call_answer_bytes",
            "Bytes of answers.",
            of_method,
            registry=registry,
        )
        in_flight = Gauge(
            "eventstore_calls_in_flight",
            "Calls that wait for their turn or are being answered.",
            ("kind",),
            registry=registry,
        )
        self._puts, self._gets = in_flight.labels("put"), in_flight.labels("get")
        self._syncs = Histogram(
            "eventstore_log_sync_duration_seconds",
            "How long the disk took to make what was put durable.",
            buckets=_SYNC_BUCKETS,
            registry=registry,
        )
        self._stop: Callable[[], None] | None = None

    def begin(self, incoming: Incoming) -> Callable[[Ended], None]:
        """Count a call: an observer."""
        in_flight = self._puts if incoming.rpc.startswith("Put") else self._gets
        in_flight.inc()

        def end(call: Ended) -> None:
            in_flight.dec()
            # What strangers make up has no label of its own.
            is_known = call.service == HTTP or call.rpc in NEEDED.get(call.service, {})
            method = call.rpc if is_known else "other"
            self._durations.labels(method, STATUS_NAMES[call.code]).observe(call.seconds)
            self._received.labels(method).inc(call.request_bytes)
            self._sent.labels(method).inc(call.answer_bytes)

        return end

    def start(self, stores: Mapping[str, Engine], listening: MetricsListening) -> str:
        """Answer whoever reads them; the address. UnavailableError if that cannot be had."""
        self._registry.register(_Stores(stores))
        when_synced(self._syncs.observe)
        try:
            server, _ = start_http_server(listening.port, listening.host, self._registry)
        except OSError as error:
            raise UnavailableError(
                f"cannot listen on {joined(listening.host, listening.port)} for metrics: "
                f"{error.strerror or error}"
            ) from None
        self._stop = lambda: _stop(server)
        return joined(listening.host, server.server_port)

    def stop(self) -> None:
        """Answer nobody any more."""
        when_synced(None)
        if self._stop is not None:
            self._stop()


class _Stores:
    """Reads how the stores are, whenever somebody asks."""

    def __init__(self, stores: Mapping[str, Engine]) -> None:
        self._stores = stores

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        yield InfoMetricFamily(
            "eventstore_build", "What is running.", value={"version": __version__}
        )
        info = InfoMetricFamily("eventstore_store", "The stores that are served.", labels=["store"])
        position = _gauge("log_position", "The newest record that this process has seen.")
        indexed = _gauge("index_position", "The newest record in the index, which reads see.")
        folded = _gauge("tables_position", "The newest record in the tables, which filters ask.")
        lag = _gauge("tables_lag_records", "Records that the next filter has to fold first.")
        for name, engine in self._stores.items():
            info.add_metric([name], {"store_id": str(engine.log.store_id)})
            # A replica that nobody asks may not have looked for long.
            with suppress(StatusError):
                engine.snapshot()
            log, tables = engine.log.position, engine.projections.tables_position()
            position.add_metric([name], log)
            indexed.add_metric([name], engine.projections.index.position)
            if tables is not None:
                folded.add_metric([name], tables)
                lag.add_metric([name], max(log - tables, 0))
        yield from (info, position, indexed, folded, lag)


def _gauge(name: str, documentation: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"eventstore_{name}", documentation, labels=["store"])


def _stop(server: Any) -> None:
    server.shutdown()
    server.server_close()
