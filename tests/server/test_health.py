"""The services of gRPC's own tools: they answer while all else waits, and say that it ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import eventstore
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.server.roles import MLMD_SERVICE
from eventstore.server.server import Server
from eventstore.store import Engine
from tests.server.serving import started

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as opened:
        yield opened


@pytest.mark.parametrize("name", ["", MLMD_SERVICE])
def test_it_is_well(channel: grpc.Channel, name: str) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    assert stub.Check(health_pb2.HealthCheckRequest(service=name)).status == SERVING
    nothing = stub.Check.future(health_pb2.HealthCheckRequest(service="nothing"))
    assert nothing.code() is grpc.StatusCode.NOT_FOUND


def test_who_watches_is_told_of_the_end() -> None:
    with eventstore.open("memory://") as store:
        server = started(store._engine)
        with grpc.insecure_channel(server.address) as channel:
            asked = health_pb2.HealthCheckRequest(service=MLMD_SERVICE)
            told = health_pb2_grpc.HealthStub(channel).Watch(asked)
            assert next(told).status == SERVING
            stopping = threading.Thread(target=server.stop, args=(60,))
            stopping.start()
            assert next(told).status == NOT_SERVING
            stopping.join()


def test_it_answers_while_every_call_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()

    def held(*_: Any, **__: Any) -> Any:
        assert let_go.wait(60)
        return service.GetArtifactTypesResponse()

    monkeypatch.setattr(Engine, "call", held)
    with eventstore.open("memory://") as store:
        server = started(store._engine)
        with grpc.insecure_channel(server.address) as channel:
            get = channel.unary_unary(f"/{MLMD_SERVICE}/GetArtifactTypes")
            # It has four threads.
            waiting = [get.future(b"") for _ in range(6)]
            stub = health_pb2_grpc.HealthStub(channel)
            assert stub.Check(health_pb2.HealthCheckRequest(), timeout=30).status == SERVING
            let_go.set()
            assert [call.result() for call in waiting] == [b""] * 6
        server.stop(60)


def test_it_tells_what_it_offers(channel: grpc.Channel) -> None:
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=MLMD_SERVICE),
    ]
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    listed, found = stub.ServerReflectionInfo(iter(asked))
    assert [each.name for each in listed.list_services_response.service] == [
        "eventstore.EventStoreService",
        *("grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"),
        MLMD_SERVICE,
    ]
    serialized, *_ = found.file_descriptor_response.file_descriptor_proto
    assert FileDescriptorProto.FromString(serialized).name == service.DESCRIPTOR.name
