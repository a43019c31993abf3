"""The stores that the page's tests look at, each made once for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.page.store_of_runs import MadeStore, make_store
from tests.pages.browser import BROWSER, WITHOUT_BROWSER


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> MadeStore:
    """A store of 200 runs. Nobody puts into it: a test that does copies its folder first."""
    return make_store(tmp_path_factory.mktemp("runs") / "churn")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser of all tests: each makes a context of its own, which shares nothing."""
    if BROWSER is None:
        pytest.skip(WITHOUT_BROWSER)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()
