"""Lineage over HTTP: that it says what the store says, and refuses what it cannot answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

import eventstore
from eventstore.http_api.application import make_application
from eventstore.http_api.authentication import NoAuthentication
from eventstore.http_api.serving import Serving


@pytest.fixture(scope="module")
def client(small: eventstore.MetadataStore) -> Iterator[TestClient]:
    application = make_application(Serving({"default": small._engine}), NoAuthentication())
    headers = {"sec-fetch-site": "same-origin"}
    with TestClient(application, base_url="http://localhost/api/v1", headers=headers) as made:
        yield made


def ok(client: TestClient, address: str, **parameters: Any) -> Any:
    answer = client.get(address, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def keys(answer: Any) -> set[str]:
    return {node["key"] for node in answer["nodes"]}


def test_it_has_the_nodes_and_events_that_the_store_has(
    client: TestClient, small: eventstore.MetadataStore
) -> None:
    for kind, node_id in (("artifact", 2), ("execution", 1)):
        for direction in ("upstream", "downstream", "both"):
            told = small.lineage(kind, node_id, direction=direction)
            found = ok(client, f"{kind}s/{node_id}/lineage", direction=direction, hops="all")
            assert keys(found) == {f"{node.kind}/{node.id}" for node in told.nodes}
            assert [(link["source"], link["target"]) for link in found["links"]] == [
                ("/".join(map(str, edge.source)), "/".join(map(str, edge.target)))
                for edge in told.edges
            ]
    graph = ok(client, "contexts/4/graph")
    assert keys(graph) == {f"{n.kind}/{n.id}" for n in small.context_graph(4).nodes}
    assert graph["subject"] == "context/4"


def test_two_moments_tell_what_has_changed(
    client: TestClient, small: eventstore.MetadataStore
) -> None:
    first, second = [version.position for version in small.history("artifact", 1)]
    found = ok(client, "artifacts/2/lineage", at=second - 1, until=second)
    assert first < found["first"] < found["second"] == second
    assert found["counts"] == {"added": 0, "changed": 1, "gone": 0, "same": 2}
    (changed,) = [node for node in found["nodes"] if node["mark"] == "changed"]
    assert changed["key"] == "artifact/1"
    old, new = changed["versions"]
    assert (old["actor"], new["actor"], new["request_id"]) == (None, "ana", "QA-0")
    assert [change["field"] for change in new["changes"]] == ["state", "custom_properties.quality"]
    assert ok(client, "artifacts/2/lineage", at=second)["counts"]["same"] == 3


def test_hops_limit_and_open(client: TestClient) -> None:
    near = ok(client, "artifacts/2/lineage", hops=1)
    assert [node["beyond"] for node in near["nodes"]] == [0, 1]
    opened = ok(client, "artifacts/2/lineage", hops=1, open="execution/1")
    assert keys(opened) == {"artifact/2", "execution/1", "artifact/1"}
    assert opened["opened"] == ["execution/1"]
    assert ok(client, "artifacts/2/lineage", limit=1)["left_out"] == 1


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("artifacts/2/lineage?direction=left", 400, "direction is 'left'"),
        ("artifacts/2/lineage?hops=-1", 400, "hops is '-1'"),
        ("artifacts/2/lineage?limit=2001", 400, "limit is '2001'"),
        ("artifacts/2/lineage?open=context/4", 400, "open has 'context/4'"),
        ("artifacts/2/lineage?open=" + ",".join(["artifact/1"] * 51), 400, "at most 50"),
        ("artifacts/999/lineage", 404, "no artifact has id 999"),
        ("artifacts/24/lineage?at=20", 404, "not there yet"),
        ("contexts/999/graph", 404, "no context has id 999"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    client: TestClient, address: str, status: int, words: str
) -> None:
    answer = client.get(address)
    assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text
