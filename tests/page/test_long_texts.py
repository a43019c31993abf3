"""Texts of a megabyte wherever a store takes one: pages stay small, and as wide as their window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

import eventstore
from eventstore.http_api.application import make_application
from eventstore.http_api.authentication import NoAuthentication
from eventstore.http_api.serving import Serving
from eventstore.page.pages import PAGES
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.server.web_server import WebServer

LONG = "x" * 1_000_000
LONG_WHO = "w" * 60_000
PAGES_BYTES_MAX = 400_000
ADDRESSES = (
    *("/", "/artifacts", "/executions", "/contexts", "/log", "/log?reason=1", "/commits/8"),
    *("/artifacts/1", "/artifacts/2", "/executions/1", "/contexts/1", "/artifacts?type=Data"),
    *("/artifacts/1/lineage?direction=both", "/compare?artifacts=1,2", "/go?q=Data", "/commits/9"),
    *("/artifacts?columns=name,uri,custom_properties.p7", "/rules/holds", "/rules/erasures"),
)

_WIDEST = """width => [...document.querySelectorAll("main *, header *, footer *")]
    .filter(it => it.getBoundingClientRect().right > width + 1)
    .filter(it => !it.closest(".scrolls, pre, nav, svg"))
    .slice(0, 5).map(it => it.outerHTML.slice(0, 120))"""

_BROKEN_COUNTS = """() => [...document.querySelectorAll(".types .quiet")].filter(it => {
    const text = document.createRange();
    text.selectNodeContents(it);
    return text.getClientRects().length > 1;
}).map(it => it.parentElement.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="module")
def long_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[eventstore.MetadataStore]:
    with eventstore.open(tmp_path_factory.mktemp("long") / "store", actor=LONG_WHO) as store:
        data = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        other = store.put_artifact_type(mlmd.ArtifactType(name="T" + LONG, description=LONG))
        step = store.put_execution_type(mlmd.ExecutionType(name="Step"))
        run = store.put_context_type(mlmd.ContextType(name="Run"))
        first = mlmd.Artifact(type_id=data, name="a" + LONG, uri="u" + LONG, external_id="e" + LONG)
        first.custom_properties["n" * 60_000].string_value = "named"
        second = mlmd.Artifact(type_id=other, name="b" + LONG, uri="https://example.com/" + LONG)
        for number in range(150):
            second.custom_properties[f"p{number}"].string_value = str(number) * 5_000

        def acting(number: int) -> Any:
            return store.acting(reason="r" + LONG_WHO, request_id=f"{number}" + LONG_WHO)

        with acting(1):
            artifacts = store.put_artifacts([first, second])
        with acting(2):
            (stored, _) = store.get_artifacts_by_id(artifacts)
            event = mlmd.Event(artifact_id=artifacts[0], type=mlmd.Event.INPUT)
            event.path.steps.add().key = "k" + LONG
            execution = mlmd.Execution(type_id=step, name="s" + LONG)
            context = mlmd.Context(type_id=run, name="c" + LONG)
            store.put_execution(execution, [(stored, event)], [context])
        with acting(3):
            (stored, _) = store.get_artifacts_by_id(artifacts)
            stored.uri = "v" + LONG
            store.put_artifacts([stored])
        store.place_hold(entities=[("artifact", artifacts[0])], basis="CASE-1")
        unbroken = store.put_artifact_type(mlmd.ArtifactType(name="U" * 100))
        store.put_artifacts([mlmd.Artifact(type_id=unbroken) for _ in range(10)])
        yield store


def test_each_page_is_small(long_store: eventstore.MetadataStore) -> None:
    application = make_application(Serving({"long": long_store._engine}), NoAuthentication(), PAGES)
    with TestClient(
        application, base_url="http://localhost", headers={"sec-fetch-site": "none"}
    ) as client:
        sizes = {}
        for address in ADDRESSES:
            answer = client.get(address)
            assert answer.status_code == 200, address
            sizes[address] = len(answer.content)
    assert not {address: size for address, size in sizes.items() if size > PAGES_BYTES_MAX}


def test_no_page_is_wider_than_its_window_nor_breaks_a_count(
    long_store: eventstore.MetadataStore, chromium: Any
) -> None:
    web = WebServer("127.0.0.1", 0, None, 100)
    web.start(make_application(Serving({"long": long_store._engine}), NoAuthentication(), PAGES))
    try:
        with chromium.new_context(base_url=f"http://localhost:{web.port}") as context:
            page = context.new_page()
            for width in (1280, 360):
                page.set_viewport_size({"width": width, "height": 800})
                for address in ADDRESSES:
                    page.goto(address)
                    wide = page.evaluate("document.documentElement.scrollWidth")
                    widest = page.evaluate(_WIDEST, width) if wide > width else []
                    assert not widest, (address, width)
                    broken = page.evaluate(_BROKEN_COUNTS)
                    assert not broken, (address, width)
    finally:
        web.stop()
