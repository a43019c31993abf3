"""A fixed number of random programs; `python -m tests.differential.run` runs more."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.differential.oracle import Oracle
from tests.differential.programs import run_program
from tests.differential.run import minimised, with_fresh_stores


@pytest.mark.parametrize("seed", range(40))
def test_a_program_answers_as_upstream_answers_it(oracle: Oracle, seed: int) -> None:
    difference = with_fresh_stores(
        oracle, lambda ours: run_program(seed, 60, oracle.call, ours, Counter())
    )
    assert difference is None, str(minimised(oracle, difference))
