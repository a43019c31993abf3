"""One long row of requests, right and wrong ones, each with all that is answered.

The answers are those of ml-metadata, errors' words, the order of a subgraph's nodes and what
PORTING.md names apart. Each request changes one thing against one that is taken.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

import eventstore
from eventstore import errors
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.store import transaction
from tests.builders import memory_store, open_with
from tests.conftest import DATA

STEPS = DATA / "request-answers.json"
"""Names of requests, their text, and the text of the response or the class and the message."""

Reopened = Callable[[], eventstore.MetadataStore]


def answer(store: eventstore.MetadataStore, rpc: str, text: str) -> str:
    request: Any = text_format.Parse(text, getattr(service, f"{rpc}Request")())
    try:
        response = store._engine.call(rpc, request)
    except errors.StatusError as error:
        return f"{type(error).__name__}: {error.message}"
    return text_format.MessageToString(response, as_one_line=True)


@pytest.fixture(params=["memory", "mapped", "held", "sealed"])
def reopened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reopened]:
    """Give a store, at first an empty one, later that with all that was put, opened again.

    In the point index each row is in a run of few records: mapped, held in memory, or built from
    what the log has sealed. Or all is in memory.
    """
    if request.param == "memory":
        with memory_store() as only:
            yield lambda: only
        return
    limits = {"tail_records_max": 5, "built_records_max": 20, "closing_records_min": 1}
    if request.param != "held":
        limits["copied_bytes_max"] = 0
    opened: list[eventstore.MetadataStore] = []

    def again() -> eventstore.MetadataStore:
        if opened:
            if request.param == "sealed":
                opened[-1].seal()
            opened[-1].close()
            if request.param == "sealed":
                shutil.rmtree(tmp_path / "store" / "projections")
        opened.append(open_with(tmp_path / "store", **limits))
        return opened[-1]

    yield again
    opened[-1].close()


def test_each_request_is_answered_as_before(
    reopened: Reopened, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count(1_000)
    monkeypatch.setattr(transaction, "now_in_milliseconds", lambda: next(clock))
    for number, (rpc, text, wanted) in enumerate(json.loads(STEPS.read_text("utf-8"))):
        if number % 50 == 0:
            store = reopened()
        position = store.log_position()
        found = answer(store, rpc, text)
        assert found == wanted, f"step {number}: {rpc} {text}"
        assert rpc.startswith("Put") or store.log_position() == position
        assert not found.partition(":")[0].endswith("Error") or store.log_position() == position
