"""The stores that the page's tests look at, each made once for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import eventstore
from eventstore.http_api.application import make_application
from eventstore.http_api.authentication import NoAuthentication
from eventstore.http_api.opening import warm
from eventstore.http_api.serving import Serving
from eventstore.page.pages import PAGES
from eventstore.server.web_server import WebServer
from tests.page.store_of_runs import MadeStore, make_store
from tests.pages.browser import BROWSER, WITHOUT_BROWSER

_PATIENCE_MS = 60_000


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> MadeStore:
    """A store of 200 runs. Nobody puts into it: a test that does copies its folder first."""
    return make_store(tmp_path_factory.mktemp("runs") / "churn")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser of all tests: each makes a context of its own, which shares nothing."""
    if BROWSER is None:
        pytest.skip(WITHOUT_BROWSER)
    from playwright.sync_api import expect, sync_playwright

    # Other tests run beside these.
    expect.set_options(timeout=_PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def served(runs: MadeStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of that store, which has its checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoints")
    (folder / "churn.checkpoint").write_text(runs.checkpoint, encoding="utf-8")
    web = WebServer("127.0.0.1", 0, None, 100)
    with eventstore.open(runs.path, read_only=True) as store:
        serving = Serving({"churn": store._engine}, checkpoints=folder)
        warm(store._engine, lambda _done, _of_all: None)
        web.start(make_application(serving, NoAuthentication(), PAGES))
        yield f"http://localhost:{web.port}"
        web.stop()


@pytest.fixture
def browsing(chromium: Any, served: str) -> Iterator[Any]:
    """A page of a browser of its own, at that server; its console has to stay empty.

    Chromium notes there what the API refuses, too; that is the page's to tell.
    """
    with chromium.new_context(base_url=served, viewport={"width": 1280, "height": 900}) as context:
        context.set_default_timeout(_PATIENCE_MS)
        page = context.new_page()
        said: list[str] = []

        def note(message: Any) -> None:
            if "/api/v1/" not in message.location["url"]:
                said.append(message.text)

        page.on("console", note)
        page.on("pageerror", lambda error: said.append(str(error)))
        yield page
        assert said == []
