"""Who may read what of a server: bearers' tokens, sessions of browsers, stores apart."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import eventstore
from eventstore.http_api.application import make_application
from eventstore.http_api.serving import Serving
from eventstore.http_api.sessions import SESSION_SECONDS, SignedIn
from eventstore.page.pages import PAGES
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.server.access import Access
from eventstore.server.reloading import Reloaded
from eventstore.server.token_file import line_of, new_token, read_tokens

OURS = {"sec-fetch-site": "same-origin"}
TOKENS = {name: new_token() for name in ("ana", "bob", "all")}


class Desk:
    """A server of two stores: Ana may use one of them, Bob the other, and one both."""

    def __init__(self, small: eventstore.MetadataStore, folder: Path, *, is_secure: bool) -> None:
        self.seconds = 0.0
        self.file = folder / "tokens"
        self.write("ana", "bob", "all")
        tokens = Reloaded([self.file], partial(read_tokens, self.file))
        self.authenticator = SignedIn(
            Access(tokens), 8400, is_secure=is_secure, clock=lambda: self.seconds
        )
        stores = {"churn": small._engine, "fraud": small._engine}
        application = make_application(Serving(stores), self.authenticator, PAGES)
        self.client = TestClient(
            application,
            base_url="https://localhost" if is_secure else "http://localhost",
            headers=OURS,
            follow_redirects=False,
        )

    def write(self, *names: str) -> None:
        grants = {"ana": ["churn=read"], "bob": ["fraud=audit"], "all": ["*=read"]}
        lines = [line_of(TOKENS[name], name, grants[name], None) for name in names]
        self.file.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture(params=[False, True], ids=["plain", "TLS"])
def desk(
    small: eventstore.MetadataStore, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Desk]:
    made = Desk(small, tmp_path, is_secure=request.param)
    with made.client:
        yield made


def test_a_bearer_has_the_roles_of_the_token(desk: Desk) -> None:
    def status(name: str | None, path: str) -> int:
        headers = {} if name is None else {"authorization": f"Bearer {TOKENS.get(name, name)}"}
        return desk.client.get(path, headers=headers).status_code

    assert status("ana", "/stores/churn/api/v1/types") == 200
    assert status("ana", "/stores/fraud/api/v1/types") == 403
    assert status("ana", "/stores/missing/api/v1/types") == 403
    assert status(None, "/stores/churn/api/v1/types") == 401
    assert status("evs_guessed", "/stores/churn/api/v1/types") == 401


@pytest.mark.parametrize(
    "address",
    [
        *("holds", "holds/1/covered", "retention", "retention/due", "retention/1/covered"),
        *("covering?kind=artifact&id=5", "records/5/proof"),
    ],
)
def test_what_forbids_an_erasure_is_for_auditors(desk: Desk, address: str) -> None:
    def status(name: str, store: str) -> int:
        headers = {"authorization": f"Bearer {TOKENS[name]}"}
        return desk.client.get(f"/stores/{store}/api/v1/{address}", headers=headers).status_code

    assert status("ana", "churn") == 403
    assert status("bob", "fraud") in (200, 404)


def test_what_holds_and_rules_say_is_for_auditors(tmp_path: Path) -> None:
    with eventstore.open(tmp_path / "store") as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        [artifact_id] = store.put_artifacts([mlmd.Artifact(type_id=type_id)])
        before = store.log_position()
        store.place_hold(entities=[("artifact", artifact_id)], basis="CASE-5", ticket="T-9")
        store.set_retention_rule(type_ids=[type_id], keep_at_least=timedelta(days=9), basis="LAW-7")
        desk = Desk(store, tmp_path, is_secure=False)
        last = store.log_position()
        numbers = [commit.number for commit in store.changes()][-2:]
        for name, of, is_told in (("ana", "churn", False), ("bob", "fraud", True)):
            headers = {"authorization": f"Bearer {TOKENS[name]}"}
            for address in (
                *(f"{of_api}commits/{number}" for of_api in ("", "api/v1/") for number in numbers),
                *(f"api/v1/records/{last - 1}", f"api/v1/records/{last}"),
                f"api/v1/changes?at={before}&until=now",
            ):
                answer = desk.client.get(f"/stores/{of}/{address}", headers=headers)
                assert answer.status_code == 200, answer.text
                told = [word for word in ("CASE-5", "T-9", "LAW-7") if word in answer.text]
                assert bool(told) == is_told, (name, address)


def test_a_browser_signs_in_where_it_wanted_to_go(desk: Desk) -> None:
    answer = desk.client.get("/stores/churn/?at=12")
    assert answer.status_code == 303
    form = desk.client.get(answer.headers["location"])
    assert 'value="/stores/churn/?at=12"' in form.text
    given = {"token": TOKENS["ana"], "next": "/stores/churn/?at=12"}
    answer = desk.client.post("/sign-in", data=given)
    assert (answer.status_code, answer.headers["location"]) == (303, "/stores/churn/?at=12")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "path=/" in cookie
    assert ("secure" in cookie, "__host-" in cookie) == (desk.authenticator.is_secure,) * 2
    assert TOKENS["ana"] not in answer.headers["set-cookie"]
    page = desk.client.get("/stores/churn/?at=12")
    assert page.status_code == 200
    assert "<span>ana</span> <button>Sign out</button>" in page.text
    assert desk.client.get("/stores/fraud/").status_code == 403
    # The one store that she may use.
    assert desk.client.get("/").headers["location"] == "/stores/churn/"
    assert desk.client.post("/sign-out").status_code == 303
    assert desk.client.get("/stores/churn/").status_code == 303


def test_who_has_several_stores_chooses(desk: Desk) -> None:
    desk.client.post("/sign-in", data={"token": TOKENS["all"]})
    text = desk.client.get("/").text
    assert 'href="/stores/churn/"' in text
    assert 'href="/stores/fraud/"' in text


def test_a_session_ends(desk: Desk) -> None:
    desk.client.post("/sign-in", data={"token": TOKENS["bob"]})
    assert desk.client.get("/stores/fraud/").status_code == 200
    desk.seconds = SESSION_SECONDS + 1
    assert desk.client.get("/stores/fraud/").status_code == 303
    desk.client.post("/sign-in", data={"token": TOKENS["bob"]})
    assert desk.client.get("/stores/fraud/").status_code == 200
    desk.write("ana")
    assert desk.client.get("/stores/fraud/").status_code == 303


def test_wrong_tokens_are_told_and_soon_refused(desk: Desk) -> None:
    for _ in range(10):
        answer = desk.client.post("/sign-in", data={"token": "evs_secret-guess"})
        assert answer.status_code == 401
        assert "not known here" in answer.text
        assert "secret-guess" not in answer.text
    wrong = {"token": "evs_secret-guess"}
    assert desk.client.post("/sign-in", data=wrong).status_code == 429
    assert desk.client.post("/sign-in", data={"token": TOKENS["ana"]}).status_code == 303
    desk.seconds = 61
    assert desk.client.post("/sign-in", data=wrong).status_code == 401


@pytest.mark.parametrize(
    "following",
    [
        *("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"),
        *("", "evil", "/a\r\nset-cookie: x=1", "/\t/evil.example"),
    ],
)
def test_nobody_is_led_elsewhere(desk: Desk, following: str) -> None:
    given = {"token": TOKENS["ana"], "next": following}
    assert desk.client.post("/sign-in", data=given).headers["location"] == "/"


def test_another_site_signs_nobody_in(desk: Desk) -> None:
    answer = desk.client.post(
        "/sign-in", data={"token": TOKENS["ana"]}, headers={"sec-fetch-site": "cross-site"}
    )
    assert answer.status_code == 403
