"""The addresses of the API: that each answers what OpenAPI says, and how pages follow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

import eventstore
from eventstore.http_api import node_routes, ordering
from eventstore.http_api.application import make_application
from eventstore.http_api.authentication import NoAuthentication
from eventstore.http_api.cursors import cursor_text
from eventstore.http_api.serving import Serving
from eventstore.proto import metadata_store_pb2 as mlmd


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


@pytest.mark.parametrize(
    ("address", "rows", "parameters"),
    [
        ("artifacts", "rows", {"sort": "-properties.accuracy", "columns": ["name", "uri"]}),
        ("executions", "rows", {"type": "Train", "filter": "properties.rate.double_value > 0.04"}),
        ("contexts", "rows", {"sort": "-created_at"}),
        ("artifacts/5/versions", "versions", {}),
        ("contexts/4/touching", "versions", {}),
        ("executions/3/events", "events", {}),
        ("executions/3/contexts", "nodes", {}),
        ("contexts/4/artifacts", "nodes", {}),
        ("commits", "commits", {"kind": ["artifact"]}),
        ("commits/6", "changes", {}),
        ("diff", "differences", {"at": 60, "until": 90}),
        ("changes", "changes", {"at": 60, "until": 110, "kind": ["artifact"]}),
    ],
)
def test_pages_are_all_that_one_page_has(
    client: TestClient, address: str, rows: str, parameters: dict[str, Any]
) -> None:
    whole = ok(client, address, limit=1_000, **parameters)
    assert whole["next"] is None
    found, cursor = [], {}
    while True:
        page = ok(client, address, limit=2, **parameters, **cursor)
        found += page[rows]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert found == whole[rows]
    assert found


def test_pages_stay_at_the_position_of_the_first_one() -> None:
    with eventstore.open("memory://") as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        store.put_artifacts([mlmd.Artifact(type_id=type_id) for _ in range(3)])
        application = make_application(Serving({"default": store._engine}), NoAuthentication())
        with TestClient(application, base_url="http://localhost/api/v1") as client:
            client.headers["sec-fetch-site"] = "same-origin"
            first = ok(client, "artifacts", limit=2)
            store.put_artifacts([mlmd.Artifact(type_id=type_id) for _ in range(3)])
            second = ok(client, "artifacts", limit=2, cursor=first["next"])
            assert [row["id"] for row in second["rows"]] == [3]
            assert (second["next"], second["found"]["count"]) == (None, 3)
            assert second["at"] == first["at"]
            refused = client.get("artifacts", params={"cursor": first["next"], "at": "9"})
            assert (refused.status_code, "leave at out" in refused.text) == (400, True)


@pytest.mark.parametrize(
    ("address", "parameters", "words"),
    [
        ("artifacts", {"cursor": "nothing"}, "none that was given out"),
        ("artifacts", {"limit": "1e3"}, "no whole number"),
        ("artifacts", {"limit": "7.0"}, "no whole number"),
        ("artifacts", {"sort": "nothing"}, "cannot be ordered"),
        ("artifacts", {"limit": "1001"}, "limit is '1001'"),
        ("artifacts/0", {}, "id is"),
        ("contexts/4/runs", {}, "of is"),
        ("diff", {}, "give at= and until="),
        ("activity", {"since": "yesterday-ish"}, "is no moment"),
        ("commits", {"kind": "modle"}, "no kind of record"),
        ("catalog", {}, "kind must be given"),
        ("points", {"kind": "artifact"}, "type and y must be given"),
    ],
)
def test_what_cannot_be_answered_is_told(
    client: TestClient, address: str, parameters: dict[str, Any], words: str
) -> None:
    answer = client.get(address, params=parameters)
    assert answer.status_code == 400
    assert words in answer.json()["detail"]


def test_a_body_that_is_too_long_is_refused_for_its_length(client: TestClient) -> None:
    answer = client.post("sql", json={"q": "SELECT 1 -- " + "x" * (1 << 20)})
    assert answer.status_code == 413
    assert answer.json()["code"] == "RESOURCE_EXHAUSTED"
    assert "put" not in answer.json()["detail"]
    assert "retry-after" not in answer.headers


LONG = "x" * 3_000


@pytest.mark.parametrize(
    ("address", "parameters"),
    [
        ("artifacts", {LONG: "1"}),
        ("artifacts", {"limit": LONG}),
        ("artifacts", {"cursor": LONG}),
        ("artifacts", {"sort": LONG}),
        ("artifacts", {"columns": [LONG]}),
        ("artifacts", {"type": LONG}),
        ("artifacts", {"filter": LONG}),
        ("artifacts", {"filter": f"properties.{LONG} = 1"}),
        ("artifacts", {"filter": f"{LONG}.name = 'a'"}),
        ("artifacts", {"at": LONG}),
        ("points", {"kind": "artifact", "type": "Model", "x": LONG, "y": LONG}),
        ("commits", {"kind": [LONG]}),
        ("artifacts/5/lineage", {"open": LONG}),
        ("compare", {"artifact": LONG}),
    ],
)
def test_long_values_are_told_by_their_beginnings(
    client: TestClient, address: str, parameters: dict[str, Any]
) -> None:
    answer = client.get(address, params=parameters)
    assert answer.status_code in (400, 404), answer.text[:300]
    assert len(answer.json()["detail"]) < 800
    assert LONG not in answer.text


def test_a_cursor_that_was_changed_is_refused(client: TestClient) -> None:
    asked = {"sort": "name", "limit": 2}
    cursor = ok(client, "artifacts", **asked)["next"]
    for changed in (cursor[:-4], cursor[:-4] + "AAAA", cursor[:9] + "AA" + cursor[11:]):
        answer = client.get("artifacts", params={**asked, "cursor": changed})
        assert answer.status_code == 400, answer.text


@pytest.mark.parametrize(
    ("sort", "value"), [("position", "none"), ("name", True), ("uri", 7.5), ("id", "none")]
)
def test_a_cursor_of_another_kind_of_value_is_refused(
    client: TestClient, sort: str, value: Any
) -> None:
    now = ok(client, "artifacts")["at"]["position"]
    forged = cursor_text(now, node_routes.NodesQuery(sort=sort), ordering.Place(value, 1))
    answer = client.get("artifacts", params={"sort": sort, "cursor": forged})
    assert (answer.status_code, answer.json().get("code")) in (
        (200, None),
        (400, "INVALID_ARGUMENT"),
    )


def test_a_cursor_of_another_list_is_refused(client: TestClient) -> None:
    first = ok(client, "artifacts", limit=2)
    answer = client.get("artifacts", params={"cursor": first["next"], "type": "Model"})
    assert answer.status_code == 400
    assert "another list" in answer.json()["detail"]


def test_what_came_later_is_told_with_its_position(client: TestClient) -> None:
    answer = client.get("artifacts/24", params={"at": 40})
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
    assert ok(client, "artifacts/24", at=answer.json()["came_at"])["versions"] == 1


def test_single_answers(client: TestClient, small: eventstore.MetadataStore) -> None:
    assert ok(client, "artifacts/5")["state"] == "MARKED_FOR_DELETION"
    assert ok(client, "records/10")["commit_positions"] == [10, 10]
    assert ok(client, "activity", buckets=3)["commits"] == small.info().commits
    assert ok(client, "actors")["actors"][0]["actor"] == "nightly"
    assert "properties.rows" in {
        column["name"] for column in ok(client, "catalog", kind="artifact")["columns"]
    }


def test_changes_are_those_of_the_store(
    client: TestClient, small: eventstore.MetadataStore
) -> None:
    answer = ok(client, "changes", at=60, until=110)
    since = small.as_of(60).log_position()
    told = [*small.changes(since, 110)][::-1]
    assert [one["commit"]["commit"] for one in answer["changes"]] == [one.number for one in told]
    assert [
        [(change["kind"], change["id"], change["is_first"]) for change in one["changes"]]
        for one in answer["changes"]
    ] == [[(change.kind, change.id, change.is_new) for change in one.changes] for one in told]
