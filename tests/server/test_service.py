"""The service itself, asked by stubs and by bytes: statuses, limits, and how it stops."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import grpc
import pytest

import eventstore
from eventstore import MetadataStore, errors
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.proto.metadata_store_service_pb2_grpc import MetadataStoreServiceStub
from eventstore.server.answering import Answering
from eventstore.server.caller import Callers
from eventstore.server.configuration import Listening
from eventstore.server.gate import Gate
from eventstore.server.message_timeout import MessageTimeout
from eventstore.server.over_grpc import unary_handlers
from eventstore.server.principal import DEFAULT_STORE
from eventstore.server.roles import MLMD_SERVICE
from eventstore.server.server import Server
from eventstore.store import Engine
from tests.own_process import assert_runs
from tests.server.serving import client_config, serving

CLIENTS = 8


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as opened:
        yield opened


def test_the_stub_of_the_guides(server: Server) -> None:
    assert_runs(
        """
import sys, grpc, eventstore
eventstore.install_as_ml_metadata()
from ml_metadata.proto import metadata_store_pb2, metadata_store_service_pb2
from ml_metadata.proto import metadata_store_service_pb2_grpc
channel = grpc.insecure_channel("localhost:" + sys.argv[1])
stub = metadata_store_service_pb2_grpc.MetadataStoreServiceStub(channel)
request = metadata_store_service_pb2.PutArtifactTypeRequest()
request.artifact_type.name = "DataSet"
request.artifact_type.properties["day"] = metadata_store_pb2.INT
type_id = stub.PutArtifactType(request).type_id
artifact = metadata_store_pb2.Artifact(uri="path/to/data", type_id=type_id)
put = metadata_store_service_pb2.PutArtifactsRequest(artifacts=[artifact])
made = stub.PutArtifacts(put).artifact_ids
get = metadata_store_service_pb2.GetArtifactsByIDRequest(artifact_ids=made)
assert stub.GetArtifactsByID(get).artifacts[0].uri == "path/to/data"
""",
        server.port,
    )


def test_every_rpc_of_the_contract_is_there(channel: grpc.Channel) -> None:
    stub = MetadataStoreServiceStub(channel)
    methods = service.DESCRIPTOR.services_by_name["MetadataStoreService"].methods
    assert len(methods) == 52
    for method in methods:
        request = getattr(service, f"{method.name}Request")()
        answer = getattr(stub, method.name).future(request)
        assert answer.details() != "Method not found!", method.name
    nothing = channel.unary_unary("/ml_metadata.MetadataStoreService/PutNothing").future(b"")
    assert nothing.code() is grpc.StatusCode.UNIMPLEMENTED
    assert nothing.details() == "Method not found!"


@pytest.mark.parametrize("content", [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x05abc"])
def test_bytes_that_are_no_request(channel: grpc.Channel, content: bytes) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary("/ml_metadata.MetadataStoreService/PutArtifacts")(content)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "Could not parse proto" in raised.value.details()


def test_a_request_that_is_too_long(home: MetadataStore) -> None:
    with serving(home._engine, message_bytes_max=10_000) as server:
        client = MetadataStore(client_config(server.port))
        with pytest.raises(errors.ResourceExhaustedError):
            client.put_artifact_type(mlmd.ArtifactType(name="x" * 10_001))
    # Arguments of gRPC's own come first.
    long = mlmd.ArtifactType(name="x" * 10_001)
    with serving(
        home._engine,
        message_bytes_max=10_000,
        channel_arguments={
            "grpc.max_receive_message_length": 20_000,
            "grpc.max_send_message_length": -1,
        },
    ) as server:
        client = MetadataStore(client_config(server.port))
        assert client.put_artifact_type(long)
        assert client.get_artifact_type(long.name).name == long.name


def test_every_error_has_its_status(client: MetadataStore, monkeypatch: pytest.MonkeyPatch) -> None:
    raised = list[errors.StatusError]()

    def fails(*_: Any, **__: Any) -> Any:
        raise raised[-1]

    monkeypatch.setattr(Engine, "call", fails)
    monkeypatch.setattr("eventstore.metadata_store.remote_calls.RETRIES", 1)
    for code in range(errors.CANCELLED, errors.UNAUTHENTICATED + 1):
        raised.append(errors.make_exception(f"number {code}: 100 % Ä\n", code))
        with pytest.raises(type(raised[-1])) as told:
            client.get_artifact_types()
        assert type(told.value) is type(raised[-1])
        assert (told.value.error_code, told.value.message) == (code, raised[-1].message)
    raised.append(errors.OutcomeUnknownError("who knows"))
    with pytest.raises(errors.UnavailableError, match="who knows"):
        client.get_artifact_types()


def test_a_very_long_message_is_cut(client: MetadataStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise errors.NotFoundError(messages[-1])

    messages = ["x" * 100_000, "Ä" * 100_000]
    monkeypatch.setattr(Engine, "call", fails)
    while messages:
        with pytest.raises(errors.NotFoundError) as raised:
            client.get_artifact_types()
        assert 1_000 < len(raised.value.message.encode()) <= 4_100
        assert raised.value.message.endswith("...")
        messages.pop()


def test_a_fault_of_the_server_is_logged_and_told_without_its_text(
    client: MetadataStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("a secret")

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "call", fails)
        with pytest.raises(errors.InternalError, match=r"ZeroDivisionError") as raised:
            client.get_artifact_types()
    assert "secret" not in raised.value.message
    assert "a secret" in caplog.text
    client.get_artifact_types()


def test_concurrent_puts_are_all_there(home: MetadataStore, server: Server) -> None:
    type_id = home.put_artifact_type(mlmd.ArtifactType(name="Concurrent"))

    def put(worker: int) -> list[int]:
        with MetadataStore(client_config(server.port)) as client:
            made = list[int]()
            for n in range(10):
                artifact = mlmd.Artifact(type_id=type_id, name=f"{worker}.{n}")
                made += client.put_artifacts([artifact])
                assert client.get_artifacts_by_id(made[-1:])[0].name == artifact.name
            return made

    with ThreadPoolExecutor(CLIENTS) as pool:
        made = [each for some in pool.map(put, range(CLIENTS)) for each in some]
    assert len({*made}) == 10 * CLIENTS == len(home.get_artifacts_by_type("Concurrent"))


class _Held:
    """Holds each put back until it is let go."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.begun, self.let_go = threading.Semaphore(0), threading.Event()
        call = Engine.call

        def held(engine: Engine, rpc: str, *arguments: Any, **named: Any) -> Any:
            if rpc.startswith("Put"):
                self.begun.release()
                assert self.let_go.wait(60)
            return call(engine, rpc, *arguments, **named)

        patch.setattr(Engine, "call", held)


def test_stopping_answers_what_has_begun_and_takes_nothing_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = eventstore.open("memory://")
    held = _Held(monkeypatch)
    with serving(store._engine) as server, ThreadPoolExecutor(2) as pool:
        client = MetadataStore(client_config(server.port))
        put = pool.submit(client.put_artifact_type, mlmd.ArtifactType(name="T"))
        held.begun.acquire()
        stopped = pool.submit(server.stop, 60)
        with pytest.raises(errors.UnavailableError):
            # Until the server has heard that it is to stop.
            [client.get_artifact_types() for _ in itertools.count()]
        assert not put.done()
        held.let_go.set()
        type_id = put.result()
        stopped.result()
    assert store.get_artifact_types()[0].id == type_id


def test_what_a_gone_client_has_left_waiting_is_not_done() -> None:
    class Gone:
        def add_callback(self, _: Any) -> bool:
            return False

        def set_trailing_metadata(self, _: Any) -> None:
            pass

        def abort(self, code: grpc.StatusCode, details: str) -> None:
            raise LookupError(code, details)

    with eventstore.open("memory://") as store:
        answering = Answering(Callers({DEFAULT_STORE: store._engine}), Gate(), -1)
        handlers = unary_handlers(
            MLMD_SERVICE, ["PutArtifactType"], answering.answer, MessageTimeout(60), lambda _: None
        )
        put = handlers.service(mock.Mock(method=f"/{MLMD_SERVICE}/PutArtifactType")).stream_unary
        request = service.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name="T"))
        with pytest.raises(LookupError, match=r"CANCELLED.*client is gone"):
            put(iter([request.SerializeToString()]), Gone())
        assert store.get_artifact_types() == []


def test_more_calls_than_are_allowed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    store = eventstore.open("memory://")
    held = _Held(monkeypatch)
    with serving(store._engine, calls_max=1) as server, ThreadPoolExecutor(1) as pool:
        client = MetadataStore(client_config(server.port))
        put = pool.submit(client.put_artifact_type, mlmd.ArtifactType(name="T"))
        held.begun.acquire()
        with pytest.raises(errors.ResourceExhaustedError):
            client.get_artifact_types()
        held.let_go.set()
        assert put.result()


def test_a_port_in_use(server: Server) -> None:
    with pytest.raises(errors.UnavailableError, match=rf"127\.0\.0\.1:{server.port}.* in use"):
        Server(Listening(port=server.port))
    for elsewhere in ("192.0.2.1", "nowhere.invalid", "2001:db8::1"):
        with pytest.raises(errors.UnavailableError, match=r"cannot listen on .*this machine"):
            Server(Listening(host=elsewhere, port=0))


def test_one_address_of_a_name_is_enough(
    home: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def with_another(host: str, *arguments: Any, **named: Any) -> Any:
        found = resolve(host, *arguments, **named)
        return [(*found[0][:4], ("192.0.2.1", 0)), *found]

    monkeypatch.setattr(socket, "getaddrinfo", with_another)
    with serving(home._engine) as server, MetadataStore(client_config(server.port)) as client:
        client.get_artifact_types()
