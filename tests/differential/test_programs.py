"""A fixed number of random programs; `python -m tests.differential.run` runs more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.differential.clients import OurStore
from tests.differential.minimising import minimised
from tests.differential.oracle import Oracle
from tests.differential.programs import run_program
from tests.differential.run import store_for


@pytest.fixture
def ours(request: pytest.FixtureRequest) -> Iterator[OurStore]:
    store = store_for(request.getfixturevalue("seed"))
    yield store
    store.close()


@pytest.mark.share(2)
@pytest.mark.parametrize("seed", range(40))
def test_a_program_answers_as_upstream_answers_it(
    oracle: Oracle, ours: OurStore, seed: int
) -> None:
    difference = run_program(seed, 60, oracle, ours, Counter())
    assert difference is None, str(minimised(oracle, ours, difference))
