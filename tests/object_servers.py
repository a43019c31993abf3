"""Servers of object storage that tests start and kill: moto's for S3, Azurite for Azure."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import ClassVar

import pytest

_ROOT = Path(__file__).parents[1]
_STARTED_WITHIN_SECONDS = 60
_BUCKET = "history"

SECRET = "c2VjcmV0IG9mIHRoZSB0ZXN0cw=="
"""The key of each server's only account, which is no secret."""


class ObjectServer:
    """A server that is running, with one bucket."""

    scheme: str
    program: Path
    environment: dict[str, str]

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="objects-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._prefixes = itertools.count(1)
        self.start()
        self.make_bucket()

    def start(self) -> None:
        """Start the server, and wait until it listens."""
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                [*self.command(), *self.options()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | self.environment_of_server(),
            )
        until = time.monotonic() + _STARTED_WITHIN_SECONDS
        while not self._is_listening():
            assert time.monotonic() < until, self.log()
            assert self.process.poll() is None, self.log()
            time.sleep(0.02)

    def command(self) -> list[str]:
        return [str(self.program)]

    def options(self) -> list[str]:
        raise NotImplementedError

    def environment_of_server(self) -> dict[str, str]:
        return {}

    def make_bucket(self) -> None:
        raise NotImplementedError

    def endpoint(self, port: int | None = None) -> str:
        return f"http://127.0.0.1:{port or self.port}"

    def url(self, prefix: str, *, port: int | None = None, bucket: str = _BUCKET) -> str:
        return f"{self.scheme}://{bucket}/{prefix}?endpoint={self.endpoint(port)}&allow_http=true"

    def new_prefix(self) -> str:
        """A prefix below which there is nothing."""
        return f"teams/{next(self._prefixes)}"

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        return (self.folder / "server.log").read_text("utf-8", "replace")[-2_000:]

    def _is_listening(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False


_ONE_PUT_AT_A_TIME = """
import threading
from moto.s3.responses import S3Response
from moto.server import main

def put_object(self, do=S3Response.put_object, lock=threading.Lock()):
    with lock:
        return do(self)

S3Response.put_object = put_object
main()
"""


class Moto(ObjectServer):
    """S3, all of which is in memory. It checks no signatures and no policies.

    Left alone it looks whether there is an object of a key, and then makes it, so that of two who
    do it at once both are told that they have made it.
    """

    scheme = "s3"
    program = _ROOT / ".moto/bin/moto_server"
    environment: ClassVar = {
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }

    def command(self) -> list[str]:
        return [str(self.program.with_name("python3")), "-c", _ONE_PUT_AT_A_TIME]

    def options(self) -> list[str]:
        return ["-H", "127.0.0.1", "-p", str(self.port)]

    def make_bucket(self) -> None:
        request = urllib.request.Request(f"{self.endpoint()}/{_BUCKET}", method="PUT")
        urllib.request.urlopen(request).close()


class Azurite(ObjectServer):
    """Azure's blobs, in memory. It checks signatures."""

    scheme = "az"
    program = _ROOT / ".azurite/node_modules/.bin/azurite-blob"
    environment: ClassVar = {
        "AZURE_STORAGE_ACCOUNT_NAME": "tests",
        "AZURE_STORAGE_ACCOUNT_KEY": SECRET,
    }

    def options(self) -> list[str]:
        port = str(self.port)
        quiet = ["--silent", "--skipApiVersionCheck", "--disableTelemetry"]
        return ["--blobHost", "127.0.0.1", "--blobPort", port, *self.kept(), *quiet]

    def kept(self) -> list[str]:
        """Where the blobs are kept."""
        return ["--inMemoryPersistence"]

    def environment_of_server(self) -> dict[str, str]:
        return {"AZURITE_ACCOUNTS": f"tests:{SECRET}"}

    def endpoint(self, port: int | None = None) -> str:
        return f"{super().endpoint(port)}/tests"

    def make_bucket(self) -> None:
        date, version = formatdate(usegmt=True), "2021-08-06"
        told = (
            f"x-ms-date:{date}\nx-ms-version:{version}\n/tests/tests/{_BUCKET}\nrestype:container"
        )
        signed = "PUT\n" + 11 * "\n" + told
        key = base64.b64decode(SECRET)
        digest = hmac.new(key, signed.encode(), hashlib.sha256).digest()
        headers = {
            "x-ms-date": date,
            "x-ms-version": version,
            "Content-Length": "0",
            "Authorization": f"SharedKey tests:{base64.b64encode(digest).decode()}",
        }
        address = f"{self.endpoint()}/{_BUCKET}?restype=container"
        request = urllib.request.Request(address, method="PUT", headers=headers)
        urllib.request.urlopen(request).close()


class AzuriteOnDisk(Azurite):
    """The same on disk, where it writes its index as it stops, and else every five seconds."""

    def kept(self) -> list[str]:
        return ["--location", str(self.folder / "blobs")]

    def stop(self) -> None:
        """End it, once it has written its index."""
        self.process.terminate()
        self.process.wait()


@contextlib.contextmanager
def running_objects(kind: type[ObjectServer]) -> Iterator[ObjectServer]:
    """A server of a kind; the test is skipped where it is not installed."""
    if not kind.program.exists():
        pytest.skip(f"{kind.program.name} is not installed: run `make engines`")
    server = kind()
    try:
        yield server
    finally:
        server.close()
