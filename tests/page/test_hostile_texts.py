"""Names, URIs, properties, reasons, actors and types with markup and script in them do no harm."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from starlette.testclient import TestClient

import eventstore
from eventstore.http_api.application import make_application
from eventstore.http_api.authentication import NoAuthentication
from eventstore.http_api.serving import Serving
from eventstore.page.pages import PAGES
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.server.web_server import WebServer

PAYLOADS = (
    "<script>window.hit = 1</script>",
    "<img src=x onerror=window.hit=1>",
    '"><svg onload=window.hit=1>',
    "' onmouseover='window.hit=1",
    "javascript:window.hit=1",
    "data:text/html,<script>window.hit=1</script>",
    "https://example.com/\u202egpj.exe",
    "{{ 7 * 7 }}{% raw %}",
    "</script><script>window.hit=1</script>",
    "</textarea></title></style><iframe srcdoc='<script>parent.hit=1</script>'>",
    "a/b?c=d&at=1#e%2f..%00\\",
    "\x1b[31m\u200b\u2066\x00x",
    "']);alert(1);//${window.hit=1}`",
    '=HYPERLINK("https://example.com")',
)
_HANDLER = re.compile(r"on[a-z]+")
_MOST_PAGES = 400


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[eventstore.MetadataStore]:
    """A node of each kind for each payload, which is wherever a text may stand."""
    with eventstore.open(tmp_path_factory.mktemp("hostile") / "store") as made:
        for text in PAYLOADS:
            with made.acting(actor=text, reason=text, request_id=text):
                _put(made, text)
        yield made


def _put(store: eventstore.MetadataStore, text: str) -> None:
    held = {text: mlmd.STRING}
    data = store.put_artifact_type(mlmd.ArtifactType(name=f"D{text}", properties=held))
    with store.acting(request_id=f"2 {text}"):
        step = store.put_execution_type(mlmd.ExecutionType(name=f"S{text}", properties=held))
    with store.acting(request_id=f"3 {text}"):
        run = store.put_context_type(mlmd.ContextType(name=f"R{text}", properties=held))
    artifact = mlmd.Artifact(
        type_id=data, name=text, uri=text, external_id=text, state=mlmd.Artifact.LIVE
    )
    artifact.properties[text].string_value = text
    artifact.custom_properties[text].struct_value.update({text: [text]})
    execution = mlmd.Execution(type_id=step, name=text, external_id=text)
    execution.last_known_state = mlmd.Execution.FAILED
    execution.custom_properties[text].string_value = text
    event = mlmd.Event(type=mlmd.Event.OUTPUT)
    event.path.steps.add().key = text
    with store.acting(request_id=f"4 {text}"):
        _, (made,), _ = store.put_execution(
            execution, [(artifact, event)], [mlmd.Context(type_id=run, name=text)]
        )
    [changed] = store.get_artifacts_by_id([made])
    changed.properties[text].string_value = f"{text}, changed"
    with store.acting(request_id=f"5 {text}"):
        store.put_artifacts([changed])


def application(store: eventstore.MetadataStore) -> Any:
    return make_application(Serving({"hostile": store._engine}), NoAuthentication(), PAGES)


class _Found(HTMLParser):
    """The links of a page, and what no stored text may become."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.followed: set[str] = set()
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        held = dict(attributes)
        if tag in ("iframe", "img", "object", "embed", "style", "base"):
            self.wrong.append(tag)
        # Data for scripts is no script.
        is_data = held.get("type") == "application/json"
        if tag == "script" and not is_data and not (held.get("src") or "").startswith("/static/"):
            self.wrong.append(str(attributes))
        for name, value in attributes:
            if _HANDLER.fullmatch(name) or name in ("style", "srcdoc"):
                self.wrong.append(f"{tag} {name}")
            if name in ("href", "src", "action") and value:
                self.links.add(value)
                if name == "href":
                    self.followed.add(value)


def test_no_page_has_a_stored_text_as_markup(store: eventstore.MetadataStore) -> None:
    """All pages that lead to each other are looked at, and each link leads to one that is there.

    Or it leads to the same as it was before it came, and then that is told.
    """
    seen, linked = set[str](), set[str]()
    with TestClient(
        application(store), base_url="http://localhost", headers={"sec-fetch-site": "none"}
    ) as client:
        left = ["/", "/compare?artifacts=1,2,3", "/sql?q=<script>", "/check"]
        left += [f"/artifacts?filter={text}" for text in PAYLOADS[:3]]
        while left and len(seen) < _MOST_PAGES:
            address = left.pop(0)
            kind = re.sub(r"[0-9]+", "N", urlsplit(address).path) + str("?" in address)
            # Each kind of page for some of what it may show.
            if address in seen or sum(one.startswith(kind) for one in seen) > 5:
                continue
            seen |= {address, f"{kind} {len(seen)}"}
            answer = client.get(address)
            is_file = "content-disposition" in answer.headers
            if is_file or "text/html" not in answer.headers.get("content-type", ""):
                continue
            if address in linked and "with which it came" not in answer.text:
                assert answer.status_code == 200, (address, answer.text)
            assert answer.status_code in (200, 400, 404), (address, answer.text)
            found = _Found()
            found.feed(answer.text)
            assert found.wrong == [], address
            for link in found.links:
                parts = urlsplit(link)
                assert parts.scheme in ("", "https"), (address, link)
                assert "\u202e" not in link
                if not parts.netloc and not parts.path.startswith(("/static", "/api")):
                    left.append(urljoin(address, link))
            linked.update(urljoin(address, link) for link in found.followed)
    assert len(seen) > 80


def test_nothing_of_it_runs_in_a_browser(chromium: Any, store: eventstore.MetadataStore) -> None:
    web = WebServer("127.0.0.1", 0, None, 100)
    web.start(application(store))
    said: list[str] = []
    try:
        with chromium.new_context(base_url=f"http://localhost:{web.port}") as context:
            page = context.new_page()
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("dialog", lambda dialog: said.append(dialog.message))
            for address in (
                *("/", "/artifacts", "/log", "/go?q=<", "/executions/1", "/contexts/1"),
                *("/artifacts/2", "/artifacts/7?at=100", "/artifacts/3/lineage", "/commits/5"),
                *("/records/4/proof", "/compare?artifacts=1,2,3", "/sql"),
            ):
                page.goto(address)
                page.wait_for_selector(".strip .handle", timeout=9_000)
                page.mouse.move(300, 300)
                assert page.evaluate("window.hit") is None, address
    finally:
        web.stop()
    assert said == []
