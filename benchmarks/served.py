"""Both sides as servers, and one client for both: serialized requests over grpcio."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from eventstore.proto import metadata_store_service_pb2 as service

ROOT = Path(__file__).resolve().parents[1]
_PEER_PYTHON = ROOT / ".oracle" / "bin" / "python"
_SERVICE = service.DESCRIPTOR.services_by_name["MetadataStoreService"].full_name


@contextmanager
def serving(side: str, folder: Path) -> Iterator[int]:
    """The port of a server of one side, `ours` or `peer`, on a new store in a folder."""
    path = str(folder / side)
    if side == "ours":
        command = [sys.executable, "-m", "eventstore", "serve", path, "--grpc_port", "0"]
    else:
        command = [str(_PEER_PYTHON), str(ROOT / "benchmarks" / "peer_server.py"), path]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | ({"PYTHONPATH": str(ROOT)} if side == "ours" else {}),
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline().rpartition(":")[2])
        yield port
    finally:
        process.terminate()
        process.communicate()


class Client:
    """One connection of its own, as each client has. Not shared between threads."""

    def __init__(self, port: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options)
        self._calls: dict[str, Callable[..., Any]] = {}

    def call(self, rpc: str, request: Any) -> Any:
        """The response to a request. Raises grpc.RpcError."""
        call = self._calls.get(rpc)
        if call is None:
            call = self._calls[rpc] = self._channel.unary_unary(
                f"/{_SERVICE}/{rpc}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=getattr(service, f"{rpc}Response").FromString,
            )
        return call(request)

    def close(self) -> None:
        self._channel.close()
