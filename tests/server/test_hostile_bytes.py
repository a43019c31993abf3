"""Whatever bytes arrive, the server answers with a status of the contract, and stays up."""

from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator

import grpc
import pytest

from eventstore import MetadataStore
from eventstore.server.roles import MLMD_SERVICE
from eventstore.store.rpcs import GETS, PUTS
from tests.differential.raw_requests import RawGenerator
from tests.server.serving import client_config, serving

CALLS = 300
HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"
TOLD = {
    *(grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND),
    *(grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.FAILED_PRECONDITION),
    *(grpc.StatusCode.ABORTED, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.OUT_OF_RANGE),
}
RPCS = (*PUTS, *GETS)


@pytest.mark.parametrize("seed", range(2))
def test_no_bytes_bring_a_fault_about(home: MetadataStore, seed: int) -> None:
    generator, rng = RawGenerator(random.Random(seed)), random.Random(seed)
    counts = Counter[grpc.StatusCode]()
    with serving(home._engine) as server, grpc.insecure_channel(server.address) as channel:
        for _ in range(CALLS):
            rpc, request = generator.next_raw_call()
            if rng.random() < 0.2:
                rpc, content = rng.choice(RPCS), rng.randbytes(rng.randrange(40))
            else:
                content = mutated(request.SerializeToString(), rng)
            answer = channel.unary_unary(f"/{MLMD_SERVICE}/{rpc}").future(content)
            counts[answer.code()] += 1
            assert answer.code() in TOLD, (rpc, content, answer.details())
    assert counts[grpc.StatusCode.OK]
    assert counts[grpc.StatusCode.INVALID_ARGUMENT]


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Bytes with a few of them changed, left out or repeated; sometimes none."""
    changed = bytearray(content)
    for _ in range(rng.choice((0, 1, 1, 2, 8))):
        at = rng.randrange(len(changed) + 1)
        until = at + rng.randrange(1, 5)
        changed[at:until] = rng.choice((b"", rng.randbytes(3), 2 * changed[at:until]))
    return bytes(changed)


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
