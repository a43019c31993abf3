"""What whoever runs a server sees of it: log lines, metrics, traces. And replicas."""

from __future__ import annotations

import json
import logging
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

import eventstore
from eventstore import MetadataStore, errors
from eventstore.cancellation import check_wanted
from eventstore.metadata_store.opening import open_place
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.proto.metadata_store_service_pb2_grpc import MetadataStoreServiceStub
from eventstore.server.call_log import LoggedCalls, call_log
from eventstore.server.caller import Callers
from eventstore.server.configuration import Listening
from eventstore.server.incoming import Incoming
from eventstore.server.log_lines import JsonLines, TextLines
from eventstore.server.metrics import Metrics, MetricsListening
from eventstore.server.observing import Ended, Observer
from eventstore.server.principal import DEFAULT_STORE
from eventstore.server.server import Server
from eventstore.server.traces import call_tracing
from eventstore.store import Engine
from tests.server.serving import client_config, serving

HOSTILE = 'eve" status=OK\n2026-01-01T00:00:00.000Z INFO forged\u2028\x1b[2J'


class Watched:
    """A server whose calls are observed, and a client of it."""

    def __init__(self, store: MetadataStore, observers: list[Observer], **of_callers: Any) -> None:
        self.server = Server(Listening(port=0, threads=4))
        callers = Callers({DEFAULT_STORE: store._engine}, **of_callers)
        self.server.start(callers, observers)
        self.channel = grpc.insecure_channel(self.server.address)
        self.stub = MetadataStoreServiceStub(self.channel)

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        self.server.stop(5)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MetadataStore]:
    with eventstore.open(tmp_path_factory.mktemp("primary") / "store") as opened:
        type_id = opened.put_artifact_type(mlmd.ArtifactType(name="Data"))
        opened.put_artifacts([mlmd.Artifact(type_id=type_id, uri="x" * 100) for _ in range(200)])
        yield opened


def put_of(name: str) -> service.PutArtifactTypeRequest:
    return service.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name=name))


def test_each_call_has_a_line_that_nobody_forges(
    store: MetadataStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "eventstore.calls")
    said = [
        ("eventstore-actor-bin", HOSTILE.encode()),
        ("eventstore-request-id", "run 7"),
        ("authorization", "Bearer evs_secret"),
    ]
    with Watched(store, [call_log(LoggedCalls.ALL)]) as watched:
        watched.stub.PutArtifactType(put_of("Logged"), metadata=said)
        with pytest.raises(grpc.RpcError):
            watched.stub.GetArtifactType(service.GetArtifactTypeRequest(type_name=HOSTILE))
    put, get = [record for record in caplog.records if record.name == "eventstore.calls"]
    told = json.loads(JsonLines().format(put))
    assert told.pop("seconds") > 0
    assert told.pop("time").endswith("Z")
    assert told.pop("answer_bytes") > 0
    assert told == {
        "level": "info",
        "message": "PutArtifactType OK",
        "method": "ml_metadata.MetadataStoreService/PutArtifactType",
        "status": "OK",
        "request_bytes": put_of("Logged").ByteSize(),
        "client": "127.0.0.1",
        "store": "default",
        "actor": HOSTILE,
        "request_id": "run 7",
    }
    for record in (put, get):
        for form in (TextLines(), JsonLines()):
            line = form.format(record)
            assert len(line.splitlines()) == 1
            assert "\x1b" not in line
            assert "secret" not in line
    assert " status=OK " in TextLines().format(put)
    assert r'actor="eve\" status=OK' in TextLines().format(put)
    assert json.loads(JsonLines().format(get))["status"] == "NOT_FOUND"


def test_a_traceback_begins_no_line_of_its_own() -> None:
    try:
        raise ValueError("x\n2026-01-01T00:00:00.000Z INFO forged")
    except ValueError as error:
        exception = (type(error), error, error.__traceback__)
    record = logging.LogRecord("eventstore", logging.ERROR, "", 0, "failed", (), exception)
    first, *rest = TextLines().format(record).splitlines()
    assert first.endswith("ERROR failed")
    assert rest
    assert all(line.startswith("  | ") for line in rest)
    assert len(JsonLines().format(record).splitlines()) == 1


def test_calls_that_are_the_clients_business_have_no_line(
    store: MetadataStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "eventstore.calls")
    with Watched(store, [call_log(LoggedCalls.FAILED)], is_replica=True) as watched:
        watched.stub.GetArtifactTypes(service.GetArtifactTypesRequest())
        with pytest.raises(grpc.RpcError):
            watched.stub.GetArtifactType(service.GetArtifactTypeRequest(type_name="no"))
        elsewhere = [("eventstore-store", "elsewhere")]
        with pytest.raises(grpc.RpcError):
            watched.stub.GetArtifactTypes(service.GetArtifactTypesRequest(), metadata=elsewhere)
    assert [record.getMessage() for record in caplog.records] == [
        "GetArtifactTypes PERMISSION_DENIED"
    ]


def test_metrics(store: MetadataStore) -> None:
    metrics = Metrics()
    address = metrics.start({DEFAULT_STORE: store._engine}, MetricsListening(0))
    try:
        with Watched(store, [metrics.begin]) as watched:
            watched.stub.PutArtifactType(put_of("Counted"))
            for _ in range(2):
                with pytest.raises(grpc.RpcError):
                    watched.stub.GetArtifactType(service.GetArtifactTypeRequest(type_name="no"))
        with urllib.request.urlopen(f"http://{address}/metrics") as answer:
            text = answer.read().decode()
    finally:
        metrics.stop()
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }

    def value(name: str, **labels: str) -> float:
        return found["eventstore_" + name, *sorted(labels.items())]

    count = "call_duration_seconds_count"
    assert value(count, method="PutArtifactType", status="OK") == 1
    assert value(count, method="GetArtifactType", status="NOT_FOUND") == 2
    assert value("call_request_bytes_total", method="PutArtifactType") > 0
    assert value("calls_in_flight", kind="put") == value("calls_in_flight", kind="get") == 0
    assert value("log_sync_duration_seconds_count") >= 1
    assert value("log_position", store="default") == store.log_position()
    assert value("index_position", store="default") == store.log_position()
    store_id = str(store.log.store_id)
    assert value("store_info", store="default", store_id=store_id) == 1
    assert any(name == "process_start_time_seconds" for name, *_ in found)


def test_a_port_for_metrics_that_is_taken(store: MetadataStore) -> None:
    first = Metrics()
    host, _, port = first.start({}, MetricsListening(0)).rpartition(":")
    try:
        with pytest.raises(errors.UnavailableError, match="for metrics"):
            Metrics().start({}, MetricsListening(int(port), host))
    finally:
        first.stop()


def test_spans_go_on_with_the_callers_trace(store: MetadataStore) -> None:
    exported, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    tracing = call_tracing(provider.get_tracer("test"))
    assert tracing is not None
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    parent = [("traceparent", f"00-{trace_id}-b7ad6b7169203331-01")]
    with Watched(store, [tracing]) as watched:
        watched.stub.GetArtifactTypes(service.GetArtifactTypesRequest(), metadata=parent)
        with pytest.raises(grpc.RpcError):
            watched.stub.GetLineageGraph(
                service.GetLineageGraphRequest(), metadata=[("traceparent", "nonsense")]
            )
    good, bad = exported.get_finished_spans()
    assert good.name == "ml_metadata.MetadataStoreService/GetArtifactTypes"
    assert f"{good.context.trace_id:032x}" == trace_id
    assert good.attributes is not None
    assert good.attributes["rpc.system.name"] == "grpc"
    assert good.attributes["rpc.response.status_code"] == "OK"
    assert good.status.is_unset
    assert bad.parent is None
    assert not bad.status.is_ok
    assert bad.attributes is not None
    assert bad.attributes["error.type"] == "UNIMPLEMENTED"


@pytest.fixture
def replica(store: MetadataStore) -> Iterator[Watched]:
    """Another server, as of another process, that only reads."""
    place = Path(store.log.name)
    engine = open_place(place, read_only=True)
    engine.max_staleness = 3600.0
    with Watched(MetadataStore._of(engine), [], is_replica=True, wait_seconds_max=0.01) as watched:
        yield watched
    engine.close()


def test_a_client_reads_its_own_writes_at_a_replica(store: MetadataStore, replica: Watched) -> None:
    replica.stub.GetArtifactTypes(service.GetArtifactTypesRequest())
    with serving(store._engine) as primary:
        config = client_config(primary.port)
        with MetadataStore(config, replica=client_config(replica.server.port)) as client:
            for name in ("First", "Second"):
                client.put_artifact_type(mlmd.ArtifactType(name=name))
                # Nothing but the position would have the replica look again.
                assert client.get_artifact_type(name).name == name
            replica.server.stop(0)
            assert client.get_artifact_type("First").name == "First"


def test_a_replica_refuses_puts_and_positions_that_do_not_come(
    store: MetadataStore, replica: Watched
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        replica.stub.PutArtifactType(put_of("No"))
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "the primary, the server that writes" in refused.value.details()
    request = service.GetArtifactTypesRequest()
    position = store.log_position()

    def ask(text: str) -> Any:
        return replica.stub.GetArtifactTypes(request, metadata=[("eventstore-min-position", text)])

    assert ask(str(position)).artifact_types
    with pytest.raises(grpc.RpcError) as late:
        ask(str(position + 1))
    assert late.value.code() is grpc.StatusCode.UNAVAILABLE
    assert f"position {position + 1} is not seen here yet" in late.value.details()
    for text in ("-1", "x", "9" * 19, "1e3"):
        with pytest.raises(grpc.RpcError) as wrong:
            ask(text)
        assert wrong.value.code() is grpc.StatusCode.INVALID_ARGUMENT


class Codes:
    """An observer that keeps the statuses of calls."""

    def __init__(self) -> None:
        self.begun, self.told = threading.Event(), SimpleQueue[int]()

    def begin(self, _: Incoming) -> Callable[[Ended], None]:
        self.begun.set()
        return lambda call: self.told.put(call.code)


def test_a_deadline_that_is_over_is_told_apart_from_a_client_that_left(
    store: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes, pause, request = Codes(), threading.Event(), service.GetArtifactTypesRequest()

    def until_nobody_waits(*_: object, **__: object) -> None:
        while True:
            check_wanted()
            pause.wait(0.001)

    monkeypatch.setattr(Engine, "call", until_nobody_waits)
    with Watched(store, [codes.begin]) as watched:
        # More than a second, of which gRPC rounds a part up.
        call = watched.stub.GetArtifactTypes.future(request, timeout=1.003)
        assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert codes.told.get() == errors.DEADLINE_EXCEEDED
        for timeout in (None, 60):
            codes.begun.clear()
            call = watched.stub.GetArtifactTypes.future(request, timeout=timeout)
            codes.begun.wait()
            call.cancel()
            assert codes.told.get() == errors.CANCELLED


def test_a_late_replica_says_so_before_the_deadline(store: MetadataStore) -> None:
    with Watched(store, [], is_replica=True, wait_seconds_max=60) as watched:
        far = [("eventstore-min-position", "999999")]
        with pytest.raises(grpc.RpcError) as late:
            watched.stub.GetArtifactTypes(
                service.GetArtifactTypesRequest(), metadata=far, timeout=1
            )
        assert late.value.code() is grpc.StatusCode.UNAVAILABLE


def test_what_is_too_long_at_once_is_asked_for_in_parts(store: MetadataStore) -> None:
    with (
        serving(store._engine, message_bytes_max=16_000) as server,
        MetadataStore(client_config(server.port)) as client,
    ):
        assert client.get_artifacts_by_type("Data") == store.get_artifacts_by_type("Data")
        ids = [*range(200, 0, -1), 1, 999]
        assert client.get_artifacts_by_id(ids) == store.get_artifacts_by_id(ids)
        found = client.get_artifacts_and_types_by_artifact_ids(ids)
        assert found == store.get_artifacts_and_types_by_artifact_ids(ids)
