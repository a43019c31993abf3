"""What every address has in common: who is let in, moments, what is refused, and the headers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import msgspec
import pytest
from starlette.testclient import TestClient

import eventstore
from eventstore.http_api.application import make_application
from eventstore.http_api.authentication import NoAuthentication, OneBrowser
from eventstore.http_api.serving import Serving
from eventstore.page.pages import PAGES

OURS = {"sec-fetch-site": "same-origin"}


@pytest.fixture(scope="module")
def client(small: eventstore.MetadataStore) -> Iterator[TestClient]:
    application = make_application(Serving({"default": small._engine}), NoAuthentication(), PAGES)
    with TestClient(
        application, base_url="http://localhost", headers=OURS, follow_redirects=False
    ) as made:
        yield made


def test_the_store_is_told_as_the_command_tells_it(
    client: TestClient, small: eventstore.MetadataStore
) -> None:
    answer = client.get("/api/v1/store").json()
    assert answer["info"]["position"] == small.info().position == answer["at"]["position"]
    assert answer["counts"] == small.info().counts
    assert "until" not in answer
    assert datetime.fromisoformat(answer["at"]["recorded_at"]) == small.info().recorded_at


def test_types_are_those_of_the_moment(client: TestClient) -> None:
    first = client.get("/api/v1/types?at=10&kind=artifact").json()["types"]
    assert first[-1]["name"] == "Data"
    assert first[-1]["properties"] == {"rows": "INT"}
    now = client.get("/api/v1/types?kind=artifact").json()["types"]
    assert [one["name"] for one in now[len(first) :]] == ["Model"]


def test_a_time_leads_to_its_position(client: TestClient, small: eventstore.MetadataStore) -> None:
    moment = small._recorded_at(12).isoformat()
    answer = client.get("/api/v1/types", params={"at": moment, "kind": "artifact"})
    assert answer.status_code == 307
    assert answer.headers["location"] == "/api/v1/types?at=12&kind=artifact"
    answer = client.get(f"{answer.headers['location']}&until=now")
    assert answer.json()["at"]["position"] == 12
    assert answer.json()["until"]["position"] == small.log_position()


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("at=tomorrow", 400, "no moment"),
        ("at=99999", 400, "beyond the end"),
        ("at=15&until=12", 400, "swap"),
        ("kind=model", 400, "kind is 'model'"),
        ("knid=artifact", 400, "knid"),
    ],
)
def test_what_is_wrong_is_told(client: TestClient, query: str, status: int, words: str) -> None:
    answer = client.get(f"/api/v1/types?{query}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]
    assert answer.json()["code"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize("path", ["commits/7", "records/40", "artifacts/5"])
def test_what_came_later_is_told(client: TestClient, path: str) -> None:
    assert client.get(f"/api/v1/{path}").status_code == 200
    told = client.get(f"/api/v1/{path}?at=12").json()
    assert told["status"] == 404
    assert client.get(f"/api/v1/{path}?at={told['came_at']}").status_code == 200


def test_now_is_no_past(client: TestClient) -> None:
    page = client.get("/artifacts?at=now").text
    assert "The past" not in page
    assert "as_of(now)" not in page


@pytest.mark.parametrize("start", ["/artifacts/", "/api/v1/commits/"])
def test_a_path_of_any_length_is_refused_as_others_are(client: TestClient, start: str) -> None:
    answer = client.get(start + "9" * 5_000)
    assert answer.status_code == 414
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.json()["code"] == "INVALID_ARGUMENT"


def test_before_a_time_is_the_same_for_commits_and_activity(
    client: TestClient, small: eventstore.MetadataStore
) -> None:
    time = small._recorded_at(small.log_position()).isoformat()
    commits = client.get("/api/v1/commits", params={"before": time, "limit": 1000}).json()
    buckets = client.get("/api/v1/activity", params={"before": time}).json()["buckets"]
    assert len(commits["commits"]) == sum(bucket["commits"] for bucket in buckets)


def test_exact_answers_have_whole_numbers_as_texts(client: TestClient) -> None:
    one = client.get("/api/v1/types?exact=1").json()["types"][0]
    assert one["id"] == "10"


def test_what_has_not_changed_is_not_sent_again(client: TestClient) -> None:
    answer = client.get("/api/v1/types")
    assert answer.headers["cache-control"] == "private, no-cache"
    again = client.get("/api/v1/types", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/api/v1/types?at=12").headers["etag"] != answer.headers["etag"]


@pytest.mark.parametrize("path", ["/", "/api/v1/types", "/nothing", "/static/x/y"])
def test_every_answer_has_the_policy(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"host": "evil.example"}, 421),
        ("GET", {"sec-fetch-site": "cross-site"}, 403),
        ("GET", {"sec-fetch-site": "same-site"}, 403),
        ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 403),
        (
            "GET",
            {
                "sec-fetch-site": "cross-site",
                "sec-fetch-mode": "navigate",
                "sec-fetch-dest": "iframe",
            },
            403,
        ),
        (
            "GET",
            {
                "sec-fetch-site": "cross-site",
                "sec-fetch-mode": "navigate",
                "sec-fetch-dest": "document",
            },
            200,
        ),
        (
            "POST",
            {
                "sec-fetch-site": "cross-site",
                "sec-fetch-mode": "navigate",
                "sec-fetch-dest": "document",
            },
            403,
        ),
        ("POST", {"sec-fetch-site": "same-origin"}, 405),
        ("GET", {"sec-fetch-site": ""}, 403),
        ("GET", {"sec-fetch-site": "none"}, 200),
    ],
)
def test_other_sites_are_refused(
    client: TestClient, method: str, headers: dict[str, str], status: int
) -> None:
    assert client.request(method, "/api/v1/types", headers=headers).status_code == status


def test_without_a_site_a_bearer_alone_is_let_in(small: eventstore.MetadataStore) -> None:
    application = make_application(Serving({"default": small._engine}), NoAuthentication(), PAGES)
    with TestClient(application, base_url="http://localhost") as client:
        assert client.get("/api/v1/types").status_code == 403
        answer = client.get("/api/v1/types", headers={"authorization": "Bearer x"})
        assert answer.status_code == 200


def test_one_browser_is_let_in_once(small: eventstore.MetadataStore) -> None:
    authenticator = OneBrowser(8400)
    application = make_application(Serving({"default": small._engine}), authenticator, PAGES)
    with TestClient(application, base_url="http://localhost", headers=OURS) as client:
        refused = client.get("/api/v1/store", headers={"authorization": "Bearer x"})
        assert refused.status_code == 401
        assert "`eventstore serve STORE --http=PORT`" in refused.json()["detail"]
        assert client.get("/").status_code == 401
        assert client.get("/open?token=guessed").status_code == 401
        token = authenticator.token
        answer = client.get(f"/open?token={token}", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert client.get("/").status_code == 200
        client.cookies.clear()
        assert client.get(f"/open?token={token}").status_code == 401
        assert client.get("/").status_code == 401


def test_several_stores_are_apart(small: eventstore.MetadataStore) -> None:
    with eventstore.open("memory://") as other:
        stores = {"churn": small._engine, "empty": other._engine}
        application = make_application(Serving(stores), NoAuthentication(), PAGES)
        with TestClient(application, base_url="http://localhost", headers=OURS) as client:
            churn = client.get("/stores/churn/api/v1/store").json()
            empty = client.get("/stores/empty/api/v1/store").json()
            assert (churn["name"], empty["name"]) == ("churn", "empty")
            assert churn["info"]["position"] > 0
            assert empty["at"]["position"] < churn["at"]["position"]
            assert client.get("/stores/other/api/v1/store").status_code == 403
            document = client.get("/stores/churn/api/v1/openapi.json").json()
            assert document["servers"] == [{"url": "/stores/churn/api/v1"}]
            hint = client.get("/api/v1/store").json()["detail"]
            assert "ask /stores/NAME/api/v1" in hint
            hint = client.get("/stores/churn/api/v1/nope").json()["detail"]
            assert "/stores/churn/api/v1/openapi.json says" in hint
            assert 'href="/stores/churn/artifacts"' in client.get("/stores/churn/").text


def test_the_description_names_each_parameter(client: TestClient) -> None:
    document = client.get("/api/v1/openapi.json").json()
    parameters = document["paths"]["/types"]["get"]["parameters"]
    assert [one["name"] for one in parameters] == ["kind", "name", "at", "until", "exact"]
    assert msgspec.json.encode(document)


def test_the_description_says_how_to_sign_in(client: TestClient) -> None:
    document = client.get("/api/v1/openapi.json").json()
    assert "Nothing here writes" in document["info"]["description"]
    said = document["components"]["securitySchemes"]["bearer"]["description"]
    assert "`eventstore token`" in said
    assert "asks nobody takes any text" in said
