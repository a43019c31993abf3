"""Holds, rules and erasures, against what the store tells of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

import eventstore
from eventstore import errors
from eventstore.history.marks import marks_of
from eventstore.http_api import rules as told
from eventstore.http_api.application import make_application
from eventstore.http_api.authentication import NoAuthentication
from eventstore.http_api.serving import Serving
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.retention.precedence import ChosenVersion, refusals
from eventstore.retention.scope_check import count_nodes
from tests.http_api.conftest import put_run
from tests.http_api.test_commits import source_of

OURS = {"sec-fetch-site": "same-origin"}


@pytest.fixture(scope="module")
def store() -> Iterator[eventstore.MetadataStore]:
    """Three runs, a hold on the model of one, others by type, filter and context, and rules."""
    with eventstore.open("memory://") as made:
        data = made.put_artifact_type(mlmd.ArtifactType(name="Data", properties={"rows": mlmd.INT}))
        model = made.put_artifact_type(
            mlmd.ArtifactType(name="Model", properties={"accuracy": mlmd.DOUBLE})
        )
        train = made.put_execution_type(
            mlmd.ExecutionType(name="Train", properties={"rate": mlmd.DOUBLE})
        )
        run = made.put_context_type(mlmd.ContextType(name="Run"))
        for number in range(3):
            put_run(made, number, data, model, train, run)
        made.put_attributions_and_associations([mlmd.Attribution(artifact_id=6, context_id=1)], [])
        with made.acting(actor="legal"):
            made.place_hold(entities=[("artifact", 2)], basis="CASE-1")
            made.place_hold(type_ids=[model], basis="CASE-2")
            made.place_hold(
                filter_query="properties.rows.int_value >= 100", kinds=["artifact"], basis="CASE-3"
            )
            made.place_hold(context_ids=[1], basis="CASE-4")
            made.release_hold(2, ticket="DONE")
            made.set_retention_rule(type_ids=[data], keep_at_least=timedelta(days=7), basis="LAW-1")
            made.set_retention_rule(
                keep_at_most=timedelta(seconds=1), includes_current=True, basis="LAW-2"
            )
            made.withdraw_retention_rule(2, ticket="DONE")
        made.erase_many([("execution", 2)], reason="GDPR-17", who=True)
        yield made


def test_holds_cover_what_is_in_scope_and_all_upstream(store: eventstore.MetadataStore) -> None:
    source, snapshot = source_of(store), source_of(store).snapshot()
    found, _ = told.holds(source)
    assert [one.hold for one in found] == store.holds()
    for one in found:
        if one.hold.stage == "released":
            assert one.covers is None
            continue
        assert one.covers is not None
        assert one.covers.in_scope == count_nodes(source.log, snapshot, one.hold.scope)
        assert one.covers.is_complete
    assert found[0].covers is not None
    assert found[0].covers.upstream == {"artifact": 1, "execution": 1, "context": 0}
    nodes, following = told.covered(source, "hold", 1, limit=2)
    rest, end = told.covered(source, "hold", 1, after=following or 0, limit=2)
    assert [(one.node.kind, one.node.id, one.is_upstream) for one in [*nodes, *rest]] == [
        ("artifact", 2, False),
        ("artifact", 1, True),
        ("execution", 1, True),
    ]
    assert end is None


def test_rules_have_their_scope_counted(store: eventstore.MetadataStore) -> None:
    source = source_of(store)
    found, _ = told.rules(source)
    assert [one.rule for one in found] == store.retention_rules()
    assert [one.recorded_by for one in found] == ["legal", "legal"]
    assert found[0].covers is not None
    assert found[0].covers.in_scope["artifact"] == 3
    assert found[1].covers is None
    nodes, _ = told.covered(source, "rule", 1)
    assert [one.node.id for one in nodes] == [1, 3, 5]


def test_what_protects_a_node_is_what_would_refuse_its_erasure(
    store: eventstore.MetadataStore,
) -> None:
    source = source_of(store)
    for kind, ids in (("artifact", range(1, 7)), ("execution", range(1, 4)), ("context", (1, 2))):
        for node_id in ids:
            position = store.history(kind, node_id)[-1].position
            (*refused,) = refusals(
                source.log, source.snapshot(), [ChosenVersion(kind, node_id, position)]
            )
            found = told.covering(source, kind, node_id)
            by = [*found.holds, *found.locks]
            assert {one.by for one in refused} <= {one.by for one in by}
            assert bool(refused) == bool(by)
            assert all(one.number in {other.number for other in by} for one in refused)


def test_erasures_tell_the_records_that_they_are_of(store: eventstore.MetadataStore) -> None:
    source = source_of(store)
    ((one,), _) = told.erasures(source)
    (row,) = store.sql("SELECT * FROM erasures").arrow().to_pylist()
    assert (one.stage, one.position, one.requested_at, one.actor, one.contents, one.whos) == tuple(
        row[name] for name in ("stage", "position", "recorded_at", "actor", "contents", "whos")
    )
    assert one.completed_at == row["completed_at"]
    records, after = [], 0
    while after is not None:
        page, after = told.erased_records(source, 1, after=after, limit=1)
        records += page
    marks = marks_of(source.log, source.projections.index)
    assert [(r.kind, r.id, r.content, r.who) for r in records] == [("execution", 2, True, True)]
    assert [mark.number for mark in marks.of(records[0].position)] == [1]
    with pytest.raises(errors.NotFoundError, match="no erasure 2"):
        told.erased_records(source, 2)


def test_what_is_due_is_what_the_store_tells(small: Any) -> None:
    assert told.expired(source_of(small)) == small.expired()


@pytest.mark.parametrize(
    ("path", "name", "count"), [("holds", "holds", 4), ("retention", "rules", 2)]
)
def test_lists_have_pages(
    store: eventstore.MetadataStore, path: str, name: str, count: int
) -> None:
    application = make_application(Serving({"default": store._engine}), NoAuthentication())
    with TestClient(application, base_url="http://localhost", headers=OURS) as client:
        whole = client.get(f"/api/v1/{path}").json()
        assert (len(whole[name]), whole["next"]) == (count, None)
        assert pages(client, f"/api/v1/{path}", name) == whole[name]
        erasures = client.get("/api/v1/erasures?limit=1").json()
        assert (len(erasures["erasures"]), erasures["next"]) == (1, None)


def test_what_is_due_is_told_as_of_now_alone(store: eventstore.MetadataStore) -> None:
    application = make_application(Serving({"default": store._engine}), NoAuthentication())
    with TestClient(application, base_url="http://localhost", headers=OURS) as client:
        address = "/api/v1/retention/due"
        assert client.get(address).status_code == 200
        then = store.log_position() - 1
        answer = client.get(address, params={"at": then})
        assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_ARGUMENT")
        assert "now alone" in answer.json()["detail"]


def test_what_is_due_has_pages_of_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with eventstore.open("memory://") as store:
        data = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        train = store.put_execution_type(mlmd.ExecutionType(name="Train"))
        store.put_artifacts([mlmd.Artifact(type_id=data) for _ in range(6)])
        store.put_executions([mlmd.Execution(type_id=train)])
        store.put_events([mlmd.Event(artifact_id=1, execution_id=1, type=mlmd.Event.INPUT)])
        store.place_hold(entities=[("artifact", 2)], basis="CASE-1")
        store.set_retention_rule(
            keep_at_most=timedelta(seconds=1), includes_current=True, kinds=["artifact"], basis="L"
        )
        later = time.time_ns() + 10**10
        monkeypatch.setattr("time.time_ns", lambda: later)
        application = make_application(Serving({"default": store._engine}), NoAuthentication())
        with TestClient(application, base_url="http://localhost", headers=OURS) as client:
            path = "/api/v1/retention/due"
            whole = client.get(path).json()
            assert [len(whole[name]) for name in ("due", "refused", "pinned")] == [4, 1, 1]
            first = client.get(f"{path}?limit=1").json()
            later += 10**10
            store.put_artifacts([mlmd.Artifact(type_id=data) for _ in range(3)])
            store.place_hold(entities=[("artifact", 3)], basis="CASE-2")
            for name in ("due", "refused", "pinned"):
                rest = pages(client, f"{path}?limit=1", name, first)
                assert rest == whole[name]
            assert {whole[f"{name}_count"] for name in ("refused", "pinned")} == {1}
            assert whole["due_count"] == 4


def pages(client: TestClient, address: str, name: str, page: Any = None) -> list[Any]:
    """The rows of a list, a page of one row after the other."""
    said = "&" if "?" in address else "?limit=1&"
    page = page or client.get(address, params={"limit": 1}).json()
    rows = [*page[name]]
    while page["next"] is not None:
        page = client.get(f"{address}{said}cursor={page['next']}").json()
        rows += page[name]
    return rows


def test_nothing_is_told_of_what_was_recorded_later(small: eventstore.MetadataStore) -> None:
    source = source_of(small.as_of(60))
    assert told.holds(source) == told.erasures(source) == told.rules(source) == ([], None)
    assert told.covering(source, "artifact", 5).holds == []
    assert [one.number for one in told.covering(source_of(small), "artifact", 5).holds] == [1]
