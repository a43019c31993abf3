"""One long row of requests, right and wrong ones, each with all that is answered.

The answers are those of ml-metadata, errors' words, the order of a subgraph's nodes and what
PORTING.md names apart. Each request changes one thing against one that is taken.
"""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest
from google.protobuf import text_format

import eventstore
from eventstore import errors
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.store import transaction
from tests.builders import memory_store
from tests.conftest import DATA

STEPS = DATA / "request-answers.json"
"""Names of requests, their text, and the text of the response or the class and the message."""


def answer(store: eventstore.MetadataStore, rpc: str, text: str) -> str:
    request: Any = text_format.Parse(text, getattr(service, f"{rpc}Request")())
    try:
        response = store._engine.call(rpc, request)
    except errors.StatusError as error:
        return f"{type(error).__name__}: {error.message}"
    return text_format.MessageToString(response, as_one_line=True)


def test_each_request_is_answered_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count(1_000)
    monkeypatch.setattr(transaction, "_now_ms", lambda: next(clock))
    with memory_store() as store:
        for number, (rpc, text, wanted) in enumerate(json.loads(STEPS.read_text("utf-8"))):
            position = store.log_position()
            found = answer(store, rpc, text)
            assert found == wanted, f"step {number}: {rpc} {text}"
            assert rpc.startswith("Put") or store.log_position() == position
            assert not found.partition(":")[0].endswith("Error") or store.log_position() == position
