"""Hostile bytes to each RPC of a server, for as long as one wants.

`python -m tests.server.fuzz --seconds 600` sends them to a process of its own. The server has to
answer each call with a status of the contract, to log no fault, to stay within its memory, and to
answer others meanwhile.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import grpc

from eventstore.call_metadata import ACTOR, AS_OF, REASON, REQUEST_ID, STORE
from eventstore.metadata_store.passed_values import packed
from eventstore.metadata_store.served import OWN_SERVICE
from eventstore.proto import eventstore_service_pb2 as own
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.server.roles import METHODS, MLMD_SERVICE
from eventstore.store.rpcs import GETS, PUTS
from tests.command_line.runner import ENVIRONMENT
from tests.differential.raw_requests import RawGenerator
from tests.server.web_calls import BINARY, TEXT, answer_of, framed

PATHS = (
    *(f"/{MLMD_SERVICE}/{rpc}" for rpc in (*PUTS, *GETS)),
    *(f"/{OWN_SERVICE}/{rpc}" for rpc in METHODS if rpc != "Follow"),
)
"""Of all RPCs that end by themselves."""

GROWTH_MIB_MAX = 256
"""How much more memory a server may have taken at the end than after its first call."""

TOLD = {
    *(grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND),
    *(grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.FAILED_PRECONDITION),
    *(grpc.StatusCode.ABORTED, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.OUT_OF_RANGE),
    grpc.StatusCode.PERMISSION_DENIED,
}
_CODES_TOLD = {status.value[0] for status in TOLD}
_HTTP_TOLD = {200, 204, 400, 403, 405, 415}

_VALUES = (
    None,
    True,
    0,
    1,
    -1,
    2**63,
    1.5,
    "",
    "artifact",
    "x",
    "SELECT 1",
    [],
    [1],
    ["x"],
    {},
    b"x",
)

_HELD = 40
"""How many connections are left open in the middle of something."""

_FAULT = re.compile(r"Traceback(?!.*\n.*cygrpc)|ERROR (?!Invalid encoding on b)")
"""What a log says of a fault; gRPC's own library also says where names of metadata are no UTF-8."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Bytes with a few of them changed, left out or repeated; sometimes none."""
    changed = bytearray(content)
    for _ in range(rng.choice((0, 1, 1, 2, 8))):
        at = rng.randrange(len(changed) + 1)
        until = at + rng.randrange(1, 5)
        changed[at:until] = rng.choice((b"", rng.randbytes(3), 2 * changed[at:until]))
    return bytes(changed)


class Served(NamedTuple):
    """A process that serves, and what it writes to standard error."""

    process: subprocess.Popen[str]
    port: int
    web_port: int
    errors: Path

    def peak_mib(self) -> float:
        """The most memory that it has had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1024


@contextmanager
def served() -> Iterator[Served]:
    """A server of a store in memory that has answered a call."""
    with (
        tempfile.NamedTemporaryFile("w") as errors,
        subprocess.Popen(
            [*(sys.executable, "-m", "eventstore", "serve"), "--grpc_port=0", "--grpc-web-port=0"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=ENVIRONMENT,
        ) as process,
    ):
        assert process.stdout is not None
        ports = [int(process.stdout.readline().rpartition(":")[2]) for _ in range(2)]
        running = Served(process, *ports, Path(errors.name))
        answers_well(running)
        try:
            yield running
        finally:
            process.kill()


def answers_well(server: Served) -> None:
    """Ask over gRPC and gRPC-Web, as anybody would."""
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        channel.unary_unary(f"/{MLMD_SERVICE}/GetArtifactTypes")(b"", timeout=60)
    with closing(http.client.HTTPConnection("127.0.0.1", server.web_port, timeout=60)) as to:
        path = f"/{MLMD_SERVICE}/GetArtifactTypes"
        to.request("POST", path, framed(b""), {"Content-Type": BINARY})
        assert answer_of(to.getresponse()).code == 0


class Fuzzer:
    """Sends what a seed makes of each RPC."""

    def __init__(self, server: Served, seed: int) -> None:
        self.counts = Counter[str]()
        self._server = server
        self._rng = random.Random(seed)
        self._generator = RawGenerator(self._rng)
        self._channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")
        self._held = deque[socket.socket](maxlen=_HELD)

    def close(self) -> None:
        self._channel.close()
        for each in self._held:
            each.close()

    def round(self) -> None:
        """Twice each RPC over each, and as many connections with something else."""
        for path in PATHS:
            for _ in range(2):
                self.call(path)
                self.call_web(path)
            self.send(self._server.port, self._http2(path))
            self.send(self._server.web_port, self._http1(path))

    def call(self, path: str) -> None:
        content = self._content(path)
        metadata = self._metadata()
        answer = self._channel.unary_stream(path)(content, metadata=metadata, timeout=60)
        with contextlib.suppress(grpc.RpcError):
            for _ in answer:
                pass
        self.counts[f"gRPC {answer.code().name}"] += 1
        assert answer.code() in TOLD, (path, content, metadata, answer.code(), answer.details())

    def call_web(self, path: str) -> None:
        rng = self._rng
        kind = rng.choice((BINARY, TEXT))
        body = framed(self._content(path))
        is_whole = rng.random() < 0.5
        if not is_whole:
            body = mutated(bytes([rng.choice((0, 0, 1, 0x80))]) + body[1:], rng)
        if kind == TEXT:
            body = base64.b64encode(body)
            body = body if is_whole else mutated(body, rng)
        headers = {name: value for name, value in self._metadata() if isinstance(value, str)}
        with closing(self._connection()) as to:
            to.request("POST", path, body, {**headers, "Content-Type": kind})
            answer = answer_of(to.getresponse(), kind)
        self.counts[f"web {answer.code}"] += 1
        assert answer.code in _CODES_TOLD, (path, kind, body, headers, answer)

    def send(self, port: int, content: bytes) -> None:
        """Send bytes, and leave the connection open, or read what comes and close it."""
        with contextlib.suppress(OSError):
            to = socket.create_connection(("127.0.0.1", port), timeout=60)
            if len(self._held) == _HELD:
                self._held.popleft().close()
            self._held.append(to)
            to.sendall(content)
            if self._rng.random() < 0.5:
                to.shutdown(socket.SHUT_WR)
                answer = to.recv(65536)
                if port == self._server.web_port and answer:
                    status = int(answer.split(b" ")[1])
                    self.counts[f"HTTP {status}"] += 1
                    assert status in _HTTP_TOLD, (content, answer)

    def _content(self, path: str) -> bytes:
        rng = self._rng
        _, of, rpc = path.split("/")
        if rng.random() < 0.2:
            return rng.randbytes(rng.randrange(40))
        if of == OWN_SERVICE:
            names = [*METHODS[rpc].arguments]
            given = {name: rng.choice(_VALUES) for name in names if rng.random() < 0.5}
            return mutated(own.Arguments(values=packed(given)).SerializeToString(), rng)
        made, request = self._generator.next_raw_call()
        if made != rpc and rng.random() < 0.5:
            request = getattr(service, f"{rpc}Request")()
        return mutated(request.SerializeToString(), rng)

    def _metadata(self) -> list[tuple[str, str | bytes]]:
        rng = self._rng
        texts = ("", "0", "1", "-1", "99999999999999999999", "now", "2026-13-45", "a b", "%41", "~")
        found = list[tuple[str, str | bytes]]()
        while rng.random() < 0.3:
            name = rng.choice((STORE, AS_OF, ACTOR, REASON, REQUEST_ID, "authorization", "x-y"))
            if rng.random() < 0.3:
                found.append((f"{name}-bin", rng.randbytes(rng.randrange(9))))
            else:
                found.append((name, rng.choice(texts)))
        return found

    def _http2(self, path: str) -> bytes:
        """A beginning of HTTP/2, right or wrong."""
        rng = self._rng
        if rng.random() < 0.2:
            return rng.randbytes(rng.randrange(400))
        sent = _PREFACE + _frame(4, 0, 0, b"")
        if rng.random() < 0.7:
            fields = {
                ":method": "POST",
                ":scheme": "http",
                ":path": path,
                ":authority": "localhost",
                "te": "trailers",
                "content-type": "application/grpc",
            }
            block = b"".join(map(_field, fields, fields.values()))
            sent += _frame(1, 4, 1, mutated(block, rng))
            message = mutated(framed(self._content(path), rng.choice((0, 0, 1))), rng)
            sent += _frame(0, rng.choice((0, 1)), 1, message)
        for _ in range(rng.randrange(20)):
            kind, flags, stream = rng.randrange(12), rng.randrange(256), rng.choice((0, 1, 2, 3))
            sent += _frame(kind, flags, stream, rng.randbytes(rng.randrange(64)))
        return mutated(sent, rng)[: rng.choice((len(sent), rng.randrange(1, len(sent))))]

    def _http1(self, path: str) -> bytes:
        rng = self._rng
        body = framed(self._content(path))
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {BINARY}\r\n"
        if rng.random() < 0.5:
            length = rng.choice((len(body), len(body), 0, 2**31, -1))
            sent = f"{head}Content-Length: {length}\r\n\r\n".encode() + body
        else:
            sent = f"{head}Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n".encode() + body
            sent += b"\r\n0\r\n\r\n"
        return mutated(sent, rng) * rng.choice((1, 1, 3))

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._server.web_port, timeout=60)


def check(server: Served, peak_before_mib: float) -> None:
    """Raise AssertionError unless it is as well as before."""
    assert server.process.poll() is None
    answers_well(server)
    told = server.errors.read_text("utf-8")
    assert all(each.isprintable() for each in told.splitlines()), told[-4_000:]
    assert not _FAULT.search(told), told[-4_000:]
    growth = server.peak_mib() - peak_before_mib
    assert growth < GROWTH_MIB_MAX, f"{growth:.0f} MiB more than before"


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2."""
    start = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return start + payload


def _field(name: str, value: str) -> bytes:
    """A field of HPACK, literally."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def main() -> int:
    """Send for so many seconds, and print what was answered."""
    parser = argparse.ArgumentParser(prog="python -m tests.server.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    arguments = parser.parse_args()
    until = time.monotonic() + arguments.seconds
    counts, seed = Counter[str](), arguments.seed
    with served() as server:
        before = server.peak_mib()
        while time.monotonic() < until:
            with closing(Fuzzer(server, seed)) as fuzzer:
                fuzzer.round()
                check(server, before)
                counts += fuzzer.counts
            seed += 1
        for what, count in sorted(counts.items()):
            print(f"{what:30}{count:8}")
        print(f"{seed - arguments.seed} rounds, {sum(counts.values())} calls, no fault;")
        print(f"memory {before:.0f} MiB after the first call, {server.peak_mib():.0f} MiB at most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
