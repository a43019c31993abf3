"""Each address of the API and of the page: its answer is as described, and nothing is written."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jsonschema
import msgspec
import pytest
from starlette.testclient import TestClient

import eventstore
from eventstore.http_api.answering import OF_ALL, types_of
from eventstore.http_api.application import API, API_ROUTES, make_application
from eventstore.http_api.authentication import NoAuthentication
from eventstore.http_api.routes import Route
from eventstore.http_api.serving import Serving
from eventstore.page.pages import PAGES
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.page.store_of_runs import KEY

OURS = {"sec-fetch-site": "same-origin"}

VALUES = {
    "id": "3",
    "number": "4",
    "position": "20",
    "of": "artifacts",
    "kind": "artifact",
    "filter": "id > 1",
    "q": "data",
    "type": "Model",
    "name": "Model",
    "y": "properties.accuracy",
}
"""What is said for parameters that have to be given, by name: a new one needs a value here."""

SAID: dict[str, dict[str, str]] = {
    "/compare": {"artifacts": "3,5"},
    "/sql": {"q": "FROM artifacts"},
    "/holds/{number}/covered": {"number": "1"},
    "/erasures/{number}/covered": {"number": "1"},
}
"""What is said at some addresses, beside or in the place of that."""

NOT_THERE = {f"{API}/retention/{{number}}/covered"}
"""What the store has none of."""

MOMENTS: tuple[dict[str, str], ...] = ({}, {"at": "60"}, {"at": "60", "until": "now"})
OF_TWO_MOMENTS = {f"{API}/diff", f"{API}/changes"}

ALL = [(f"{API}{route.path}", route) for route in API_ROUTES] + [
    (route.path, route) for route in PAGES.routes
]


@pytest.fixture(scope="module")
def serving(small: eventstore.MetadataStore, tmp_path_factory: pytest.TempPathFactory) -> Serving:
    folder = tmp_path_factory.mktemp("checkpoints")
    (folder / "newest.checkpoint").write_text(small.checkpoint(KEY).text)
    return Serving({"default": small._engine}, checkpoints=folder)


@pytest.fixture(scope="module")
def client(serving: Serving) -> Iterator[TestClient]:
    application = make_application(serving, NoAuthentication(), PAGES)
    with TestClient(application, base_url="http://localhost", headers=OURS) as made:
        yield made


@pytest.fixture(scope="module")
def document(client: TestClient) -> Any:
    return client.get(f"{API}/openapi.json").json()


def address_of(path: str, values: Mapping[str, str] = {}) -> str:
    said = {**VALUES, **SAID.get(path.removeprefix(API), {}), **values}
    return re.sub(r"{(\w+)(?::\w+)?}", lambda at: said[at[1]], path)


def query_for(route: Route) -> dict[str, str]:
    fields = msgspec.structs.fields(types_of(route.answer)[0])
    query = {one.name: VALUES[one.name] for one in fields if one.required}
    query |= SAID.get(route.path, {})
    return {name: value for name, value in query.items() if f"{{{name}" not in route.path}


@pytest.mark.parametrize(
    ("path", "route"), ALL, ids=[f"{' '.join(route.methods)} {path}" for path, route in ALL]
)
def test_an_address_answers(
    client: TestClient, document: Any, serving: Serving, path: str, route: Route
) -> None:
    query = query_for(route)
    asked = MOMENTS[2:] if path in OF_TWO_MOMENTS else MOMENTS
    # What is due is told as of now alone.
    for moments in MOMENTS[:1] if path == f"{API}/retention/due" else asked:
        if route.starts:
            answer = client.post(address_of(path), params=moments, json=query)
            serving.verifications.wait()
        else:
            answer = client.get(address_of(path), params={**query, **moments})
        # It may have come later.
        if answer.status_code == 404 and (moments or path in NOT_THERE):
            continue
        assert answer.status_code == 200, (query, moments, answer.text[:500])
        if path.startswith(API):
            is_as_described(document, path, "post" if route.starts else "get", answer)
        else:
            assert answer.headers["content-type"].startswith("text/html")


def is_as_described(document: Any, path: str, method: str, answer: Any) -> None:
    described = document["paths"][re.sub(r":\w+}", "}", path.removeprefix(API))][method]
    content = described["responses"]["200"]["content"]
    media_type = answer.headers["content-type"].partition(";")[0]
    assert media_type in content, media_type
    if media_type == "application/json":
        schema = {**content[media_type]["schema"], "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(answer.json())


def test_the_documentation_names_every_address() -> None:
    text = (Path(__file__).parents[2] / "docs" / "http-api.md").read_text()
    for route in API_ROUTES:
        for word in re.findall(r"/(\w+)", route.path):
            assert f"/{word}" in text, route.path


def test_problems_are_as_described(client: TestClient, document: Any) -> None:
    schema = {"$ref": "#/components/schemas/Problem", "components": document["components"]}
    for path in ("/types?at=99999", "/types?kind=x", "/nothing"):
        answer = client.get(f"{API}{path}")
        assert answer.headers["content-type"] == "application/problem+json"
        jsonschema.Draft202012Validator(schema).validate(answer.json())
        assert answer.status_code == answer.json()["status"]


def test_nothing_writes(tmp_path: Path) -> None:
    """All addresses by all methods leave every byte of the log as it was."""
    with eventstore.open(tmp_path / "store", actor="ana") as store:
        _fill(store)
        before = _bytes_of(tmp_path / "store" / "log")
        position = store.log_position()
        serving = Serving({"default": store._engine})
        application = make_application(serving, NoAuthentication(), PAGES)
        with TestClient(application, base_url="http://localhost", headers=OURS) as client:
            for path, route in ALL:
                for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
                    query = query_for(route)
                    body = query if method == "POST" else None
                    answer = client.request(method, address_of(path), params=query, json=body)
                    assert answer.status_code != 500, (method, path, answer.text[:300])
            serving.verifications.wait()
        assert store.log_position() == position
        assert _bytes_of(tmp_path / "store" / "log") == before


def test_a_verification_is_told(small: eventstore.MetadataStore) -> None:
    serving = Serving({"default": small._engine})
    application = make_application(serving, NoAuthentication(), PAGES)
    with TestClient(application, base_url="http://localhost", headers=OURS) as client:
        assert client.get(f"{API}/verification").json()["state"] == "none"
        assert client.post(f"{API}/verification", json={}).json()["state"] == "running"
        serving.verifications.wait()
        told = client.get(f"{API}/verification").json()
        assert (told["state"], told["tree_head"]) == ("sound", small.verify().tree_head)
        assert f"verified to {small.log_position()}" in client.get("/").text
        # A page of another site has no way to make this a request with a body of JSON.
        assert client.post(f"{API}/verification", data={"x": "1"}).status_code == 400


def _fill(store: eventstore.MetadataStore) -> None:
    types = mlmd.ArtifactType(name="Data", properties={"rows": mlmd.DOUBLE})
    data = store.put_artifact_type(types)
    for rows in (1.5, math.nan):
        artifact = mlmd.Artifact(type_id=data)
        artifact.properties["rows"].double_value = rows
        store.put_artifacts([artifact])


def _bytes_of(folder: Path) -> dict[Path, str]:
    return {
        file: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


ODD = (
    *("", "0", "-1", "1e3", "9" * 18, "9" * 40, "NaN", "now", "null", "[]", "{}", "true"),
    *("'", '"', "\x00", "\u202e", "\ud7ff", "%", "a" * 5_000, "1,2,3", "name", "-name"),
    *("SELECT 1", "name = ", "(" * 200, "<script>", "../../etc/passwd", "2026-11-20", "*"),
)


def test_odd_values_are_refused_or_answered(client: TestClient, document: Any) -> None:
    """Each parameter of the API with some odd values: nothing fails in the server.

    Those that all addresses take have all of them, at one address.
    """
    odd, failed = cycle(ODD), []
    for path, route in ALL:
        if route.starts or not path.startswith(API):
            continue
        for name in [one["name"] for one in _described(document, path)["parameters"]]:
            is_of_all = name in OF_ALL
            if is_of_all and path != f"{API}/types":
                continue
            for value in islice(odd, len(ODD) if is_of_all else 2):
                answer = client.get(
                    address_of(path, {name: quote(value, safe="")}),
                    params={**query_for(route), name: value} if f"{{{name}" not in path else {},
                )
                if answer.status_code >= 500:
                    failed.append((path, name, value[:20], answer.text[:300]))
    assert not failed, "\n".join(map(str, failed))


def _described(document: Any, path: str) -> Any:
    return document["paths"][re.sub(r":\w+}", "}", path.removeprefix(API))]["get"]


def test_a_forged_checkpoint_is_no_word_of_whom_it_names(
    client: TestClient, small: eventstore.MetadataStore
) -> None:
    text = small.checkpoint(KEY).text
    size = str(small.log_position())
    for other in (int(size) - 1, int(size) + 1):
        forged = text.replace(f"\n{size}\n", f"\n{other}\n", 1)
        assert forged != text
        asked = {"checkpoint": forged}
        answer = client.get(f"{API}/records/20/proof", params=asked)
        assert answer.status_code == 400
        assert "not checked" in answer.json()["detail"]
    assert client.get(f"{API}/records/20/proof", params={"checkpoint": text}).status_code == 200
