"""What the holder of one store's token is answered is the same whatever is in another store."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore.errors import INTERNAL, OK, PERMISSION_DENIED, UNAUTHENTICATED, StatusError
from eventstore.metadata_store.passed_values import packed
from eventstore.metadata_store.served import OWN_SERVICE
from eventstore.proto import eventstore_service_pb2 as own
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.server.access import Access
from eventstore.server.answering import Answering
from eventstore.server.beyond_mlmd import BeyondMlmd
from eventstore.server.caller import Callers
from eventstore.server.gate import Gate
from eventstore.server.reloading import Reloaded
from eventstore.server.token_file import line_of, new_token, read_tokens
from eventstore.store.rpcs import GETS
from tests.differential.raw_requests import RawGenerator
from tests.server.calls_by_hand import Came

CALLS = 300
SECRET = "only in b"
A, B = new_token(), new_token()

Said = list[tuple[str, str | bytes]]


ASKED_BEYOND: Sequence[tuple[str, dict[str, Any]]] = (
    ("LogPosition", {}),
    ("Changes", {}),
    *(
        ("History", {"kind": kind, "entity_id": n})
        for kind in ("artifact", "context")
        for n in (1, 3)
    ),
    *(("Lineage", {"kind": "artifact", "node_id": n}) for n in (1, 2, 3)),
    ("Diff", {"first": 9}),
    ("ContextGraph", {"context_id": 1}),
    ("FindRuns", {"execution_type": "T0", "inputs": []}),
    ("Holds", {}),
    ("RetentionRules", {}),
    ("Expired", {}),
    ("Erase", {"kind": "artifact", "entity_id": 3, "reason": "GDPR-17(1)(b)", "dry_run": True}),
    ("PlaceHold", {"basis": "C", "entities": [("artifact", 3)]}),
    *(
        ("Sql", {"query": query})
        for query in (
            "SELECT name FROM artifacts ORDER BY id",
            "SELECT count(*) FROM records",
            "FROM duckdb_databases()",
            "FROM duckdb_memory()",
            "FROM duckdb_temporary_files()",
            "SELECT current_setting('temp_directory')",
            "FROM pragma_database_list",
            "FROM sqlite_master",
            "FROM information_schema.tables",
            "FROM read_text('/etc/hostname')",
            "FROM b.artifacts",
        )
    ),
)
"""Calls of our own service, whose answers do not depend on which store it is."""


class World:
    """A server of two stores, asked without a network."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._beyond = BeyondMlmd(answering, 4)

    def __call__(self, rpc: str, request: Any, said: Said) -> tuple[int, bytes | str]:
        try:
            answer = self._answering.answer(Came(said, rpc=rpc), request.SerializeToString())
        except StatusError as error:
            return error.error_code, error.message
        return OK, answer

    def beyond(self, rpc: str, said: Said, **arguments: Any) -> tuple[int, bytes | str]:
        content = own.Arguments(values=packed(arguments)).SerializeToString()
        parts = list[bytes]()
        try:
            came = Came(said, rpc=rpc, service=OWN_SERVICE)
            self._beyond.answer(came, content, parts.append)
        except StatusError as error:
            return error.error_code, error.message
        return OK, b"".join(parts)


@contextmanager
def world(token_file: Path) -> Iterator[World]:
    access = Access(Reloaded([token_file], partial(read_tokens, token_file)))
    with eventstore.open("memory://") as a, eventstore.open("memory://") as b:
        callers = Callers({"a": a._engine, "b": b._engine}, access)
        yield World(Answering(callers, Gate(), 20_000))


def token_of_a_page(filled: World) -> str:
    """What a page of b's ends with."""
    said: Said = [("authorization", f"Bearer {B}")]
    put = service.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name=SECRET))
    answer = service.PutArtifactTypeResponse()
    answer.ParseFromString(_bytes(filled("PutArtifactType", put, said)))
    some = [mlmd.Artifact(type_id=answer.type_id, name=f"{SECRET} {n}") for n in range(3)]
    filled("PutArtifacts", service.PutArtifactsRequest(artifacts=some), said)
    get = service.GetArtifactsRequest(options=mlmd.ListOperationOptions(max_result_size=1))
    page = service.GetArtifactsResponse.FromString(_bytes(filled("GetArtifacts", get, said)))
    assert page.next_page_token
    return page.next_page_token


def _bytes(answered: tuple[int, bytes | str]) -> bytes:
    code, answer = answered
    assert code == OK, answer
    assert isinstance(answer, bytes)
    return answer


def what_is_said(rng: random.Random) -> Said:
    """Beside a call of a's holder, or of nobody's."""

    def perhaps(name: str, texts: Sequence[str], likely: float) -> Said:
        return [(name, rng.choice(texts))] if rng.random() < likely else []

    bearers = [*[A] * 15, new_token(), "x"]
    return [
        *perhaps("authorization", [f"Bearer {each}" for each in bearers], 0.98),
        *perhaps("eventstore-store", ["a", "a", "a", "b", "c", "B", ""], 0.3),
        *perhaps("eventstore-as-of", ["9", "12", "20", "99", "99999", "yesterday", "x"], 0.15),
        *perhaps("eventstore-actor", ["a's", "b's"], 0.05),
        *perhaps("eventstore-request-id", [str(n) for n in range(9)], 0.2),
    ]


@pytest.mark.parametrize("seed", range(2))
def test_nothing_of_another_store_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    file = tmp_path / "tokens"
    lines = line_of(A, "a's", ["a=admin"], None), line_of(B, "b's", ["b=admin"], None)
    file.write_text("\n".join(lines))
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now)
    rng = random.Random(seed)
    calls, others = RawGenerator(random.Random(seed)), RawGenerator(random.Random(~seed))
    counts = Counter[int]()
    with world(file) as empty, world(file) as filled:
        page_token = token_of_a_page(filled)
        for number in range(CALLS):
            rpc, request = calls.next_raw_call()
            if hasattr(request, "options") and rpc in GETS and rng.random() < 0.1:
                request.options.next_page_token = page_token
            said = what_is_said(rng)
            answered = empty(rpc, request, said)
            assert filled(rpc, request, said) == answered, (rpc, request, said)
            assert SECRET not in str(answered)
            counts[answered[0]] += 1
            # Of b's, the same under the same request ids, and other calls.
            by_b: Said = [("authorization", f"Bearer {B}")]
            filled(rpc, request, [*by_b, ("eventstore-request-id", str(number % 9))])
            filled(*others.next_raw_call(), by_b)
        for rpc, arguments in ASKED_BEYOND:
            said = [("authorization", f"Bearer {A}")]
            answered = empty.beyond(rpc, said, **arguments)
            assert filled.beyond(rpc, said, **arguments) == answered, (rpc, arguments)
            assert SECRET not in str(answered)
            assert answered[0] not in (INTERNAL, PERMISSION_DENIED)
            said.append(("eventstore-store", "b"))
            assert empty.beyond(rpc, said, **arguments)[0] == PERMISSION_DENIED
            assert filled.beyond(rpc, said, **arguments) == empty.beyond(rpc, said, **arguments)
    assert counts[OK] > CALLS / 5
    assert counts[PERMISSION_DENIED] > CALLS / 30
    assert counts[UNAUTHENTICATED] > CALLS / 30
