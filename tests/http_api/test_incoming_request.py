"""Requests are told to the observers of calls: in the log and in metrics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import eventstore
from eventstore import errors
from eventstore.http_api.application import make_application
from eventstore.http_api.serving import Serving
from eventstore.server.call_log import fields_of
from eventstore.server.incoming import Incoming
from eventstore.server.metrics import Metrics
from eventstore.server.observing import Ended
from tests.http_api.test_signing_in import OURS, TOKENS, Desk


def test_each_request_is_told(small: eventstore.MetadataStore, tmp_path: Path) -> None:
    ended: list[Ended] = []
    metrics = Metrics()

    def begin(_: Incoming) -> Callable[[Ended], None]:
        return ended.append

    desk = Desk(small, tmp_path, is_secure=False)
    stores = {"churn": small._engine, "fraud": small._engine}
    desk.client.app = make_application(
        Serving(stores), desk.authenticator, None, [begin, metrics.begin]
    )
    client = type(desk.client)(desk.client.app, base_url="http://localhost", headers=OURS)
    bearer = {"authorization": f"Bearer {TOKENS['ana']}"}
    api = "/stores/churn/api/v1"
    assert client.get(f"{api}/artifacts/1", headers=bearer).status_code == 200
    assert client.get(f"{api}/artifacts/999", headers=bearer).status_code == 404
    assert client.get(f"{api}/holds", headers=bearer).status_code == 403
    assert client.get(f"{api}/artifacts/1").status_code == 401
    query = {"q": "SELECT count(*) FROM artifacts"}
    assert client.post(f"{api}/sql", json=query, headers=bearer).status_code == 200
    told = [(call.rpc, call.code, call.store, call.actor) for call in ended]
    assert told == [
        ("GET /api/v1/artifacts/{id}", errors.OK, "churn", "ana"),
        ("GET /api/v1/artifacts/{id}", errors.NOT_FOUND, "churn", "ana"),
        ("GET /api/v1/holds", errors.PERMISSION_DENIED, "churn", "ana"),
        ("GET /api/v1/artifacts/{id}", errors.UNAUTHENTICATED, None, None),
        ("POST /api/v1/sql", errors.OK, "churn", "ana"),
    ]
    assert ended[0].answer_bytes > 100
    assert ended[4].request_bytes > len(query["q"])
    assert fields_of(ended[0])["method"] == "GET /api/v1/artifacts/{id}"
    labels = {"method": "POST /api/v1/sql", "status": "OK"}
    counted = metrics._registry.get_sample_value("eventstore_call_duration_seconds_count", labels)
    assert counted == 1


def test_a_fault_here_is_told_as_one(
    small: eventstore.MetadataStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[Ended] = []
    desk = Desk(small, tmp_path, is_secure=False)

    def begin(_: Incoming) -> Callable[[Ended], None]:
        return ended.append

    monkeypatch.setattr("eventstore.http_api.answering.query_of", lambda *_, **__: 1 / 0)
    application = make_application(
        Serving({"churn": small._engine}), desk.authenticator, None, [begin]
    )
    client = type(desk.client)(application, base_url="http://localhost", headers=OURS)
    bearer = {"authorization": f"Bearer {TOKENS['ana']}"}
    assert client.get("/api/v1/types", headers=bearer).status_code == 500
    assert [call.code for call in ended] == [errors.INTERNAL]
