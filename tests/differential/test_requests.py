"""A few programs of raw requests; `python -m tests.differential.requests` runs more."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.differential.clients import OurStore
from tests.differential.minimising import minimised
from tests.differential.oracle import Oracle
from tests.differential.raw_requests import RPCS
from tests.differential.requests import run_raw_program


@pytest.mark.parametrize("seed", range(8))
def test_raw_requests_are_answered_as_upstream_answers_them(oracle: Oracle, seed: int) -> None:
    ours = OurStore()
    difference = run_raw_program(seed, 50, oracle, ours, Counter())
    assert difference is None, str(minimised(oracle, ours, difference))
    ours.close()


def test_all_rpcs_that_upstream_serves_are_asked() -> None:
    assert len(RPCS) == 49
