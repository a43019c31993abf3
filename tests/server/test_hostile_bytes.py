"""Whatever bytes arrive, the server answers with a status of the contract, and stays up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import grpc
import pytest

from eventstore import MetadataStore
from eventstore.server.roles import MLMD_SERVICE
from tests.server import fuzz
from tests.server.serving import client_config, serving

HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"


def test_no_bytes_bring_a_fault_about() -> None:
    """`python -m tests.server.fuzz` sends more of them."""
    with fuzz.served() as server:
        before = server.peak_mib()
        with closing(fuzz.Fuzzer(server, 0)) as fuzzer:
            fuzzer.round()
            fuzz.check(server, before)
        assert fuzzer.counts["gRPC OK"]
        assert fuzzer.counts["web 0"]


def test_calls_without_a_message_keep_nobody_waiting(home: MetadataStore) -> None:
    """Whoever they ask, there are more of them than calls that are answered at once."""
    may_end = threading.Event()

    def nothing() -> Iterator[bytes]:
        may_end.wait()
        yield from ()

    with serving(home._engine) as server, grpc.insecure_channel(server.address) as channel:
        waiting = [
            channel.stream_unary(f"/{service}/{rpc}").future(nothing())
            for service, rpc in ((MLMD_SERVICE, "GetArtifactTypes"), (HEALTH, "Check"))
            for _ in range(8)
        ]
        with MetadataStore(client_config(server.port)) as client:
            client.get_artifact_types()
        check = grpc.insecure_channel(server.address).unary_unary(f"/{HEALTH}/Check")
        assert check(b"", timeout=60)
        may_end.set()
        assert {call.code() for call in waiting} == {grpc.StatusCode.CANCELLED}


def test_calls_without_a_message_end(home: MetadataStore) -> None:
    never = threading.Event()

    def nothing() -> Iterator[bytes]:
        never.wait()
        yield from ()

    with (
        serving(home._engine, message_seconds=0.1) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        waiting = [
            channel.stream_unary(f"/{MLMD_SERVICE}/GetArtifactTypes").future(nothing()),
            channel.stream_unary(f"/{HEALTH}/Check").future(nothing()),
        ]
        watching = channel.stream_stream(f"/{HEALTH}/Watch")(nothing())
        looking = channel.stream_stream(f"/{REFLECTION}/ServerReflectionInfo")(nothing())
        for call in (*waiting, watching, looking):
            assert call.code() == grpc.StatusCode.CANCELLED
        never.set()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x20\x01",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["nothing", "HTTP/1", "half a frame", "TLS"],
)
def test_who_sends_something_else_and_waits_keeps_nobody_waiting(
    home: MetadataStore, sent: bytes
) -> None:
    with (
        serving(home._engine) as server,
        socket.create_connection(("127.0.0.1", server.port)) as waiting,
        MetadataStore(client_config(server.port)) as client,
    ):
        waiting.sendall(sent)
        assert client.get_artifact_types() == home.get_artifact_types()
        server.stop(60)
