"""What ml-metadata answers to every get on the databases in tests/data, kept in one file.

It lets imports be checked where ml-metadata cannot be installed. Written again, after a change of
the databases or of the reads, by `python -m tests.differential.recorded`.
"""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from eventstore import errors
from eventstore.proto import metadata_store_service_pb2 as service
from tests.differential.oracle import Oracle
from tests.differential.reads import all_reads, outcome

DATA = Path(__file__).parents[1] / "data"
DATABASES = sorted(DATA.glob("*.db"))
ANSWERS = DATA / "upstream-answers.json.gz"

Answer = tuple[str, Any, Any]
"""RPC, request, and the response or the class of the error."""


def ask(oracle: Oracle, database: Path) -> list[Answer]:
    """Every get of a copy of the database, brought to the newest schema by ml-metadata."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.db"
        shutil.copy(database, copy)
        oracle.open(copy)
        return [
            (rpc, request, outcome(oracle.call, rpc, request))
            for rpc, request in all_reads(oracle.call)
        ]


def recorded(database: Path) -> list[Answer]:
    """The same from the file."""
    everything = json.loads(gzip.decompress(ANSWERS.read_bytes()))
    return [_decoded(*answer) for answer in everything[database.name]]


def main() -> None:
    oracle = Oracle()
    answers = {
        database.name: [_encoded(*answer) for answer in ask(oracle, database)]
        for database in DATABASES
    }
    oracle.close()
    ANSWERS.write_bytes(gzip.compress(json.dumps(answers).encode(), mtime=0))
    print(f"{ANSWERS.name}: {ANSWERS.stat().st_size} bytes")


def _encoded(rpc: str, request: Any, answer: Any) -> list[str]:
    if isinstance(answer, type):
        return [rpc, _text(request), answer.__name__]
    return [rpc, _text(request), f"={_text(answer)}"]


def _decoded(rpc: str, request: str, answer: str) -> Answer:
    asked = _message(f"{rpc}Request", request)
    if not answer.startswith("="):
        return rpc, asked, getattr(errors, answer)
    return rpc, asked, _message(f"{rpc}Response", answer[1:])


def _text(message: Any) -> str:
    return base64.b64encode(message.SerializeToString(deterministic=True)).decode()


def _message(name: str, text: str) -> Any:
    return getattr(service, name).FromString(base64.b64decode(text))


if __name__ == "__main__":
    main()
