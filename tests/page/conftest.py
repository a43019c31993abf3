"""The stores that the page's tests look at, each made once for all tests."""

from __future__ import annotations

import pytest

from tests.page.store_of_runs import MadeStore, make_store


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> MadeStore:
    """A store of 200 runs. Nobody puts into it: a test that does copies its folder first."""
    return make_store(tmp_path_factory.mktemp("runs") / "churn")
