"""The real ml-metadata 1.17.1 as an oracle: a process in its own environment (`make oracle`)."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import eventstore
from eventstore import errors
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from tests.differential.codec import decoded, encoded

ORACLE_PYTHON = Path(__file__).parents[2] / ".oracle" / "bin" / "python"
_SERVER = Path(__file__).with_name("oracle_server.py")


class OracleDiedError(AssertionError):
    """ml-metadata has taken its process down with it."""


class Oracle:
    """Answers RPCs and methods as ml-metadata does, raising this project's errors for its own."""

    def __init__(self) -> None:
        self.revive()

    def revive(self) -> None:
        """Begin anew, in another process."""
        self._process = subprocess.Popen(
            [ORACLE_PYTHON, _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def open(self, database: Path | None) -> None:
        """Use a database file (brought to the newest schema), or a new one in memory."""
        self._exchange({"open": None if database is None else str(database)})

    def connect(self, config: mlmd.ConnectionConfig) -> None:
        """Use a database of a server (brought to the newest schema), which may be empty."""
        self._exchange({"connect": _text(config)})

    def dial(self, port: int) -> None:
        """Use a server on this machine, as a client."""
        self._exchange({"dial": port})

    def downgrade(self, config: mlmd.ConnectionConfig, version: int) -> None:
        """Bring a database to an older schema, and use it no longer."""
        self._exchange({"downgrade": _text(config), "version": version})

    def call(self, rpc: str, request: Any) -> Any:
        reply = self._exchange({"rpc": rpc, "request": _text(request)})
        response = getattr(service, f"{rpc}Response")()
        response.ParseFromString(base64.b64decode(reply["response"]))
        return response

    def method(self, name: str, *arguments: Any) -> Any:
        """Call a method of MetadataStore with positional arguments."""
        call = {"method": name, "arguments": [encoded(argument) for argument in arguments]}
        return decoded(self._exchange(call)["returned"], eventstore, (mlmd, service))

    def start_over(self) -> None:
        self.open(None)

    def reopen(self) -> None:
        """Does nothing: a database in memory is gone with its store."""

    def seal(self) -> None:
        """Does nothing: there is no log."""

    def changed_past(self) -> None:
        """Does nothing: there is no past."""

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise OracleDiedError(f"the oracle died on {message}")
        reply: dict[str, Any] = json.loads(line)
        if "code" in reply:
            raise errors.make_exception(reply["message"], reply["code"])
        return reply


def _text(message: Any) -> str:
    return base64.b64encode(message.SerializeToString()).decode()
