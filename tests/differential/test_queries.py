"""Random filter and lineage queries on random stores find what upstream finds."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.differential.oracle import Oracle
from tests.differential.queries import run_filters, run_lineage

STORES = int(os.environ.get("EVENTSTORE_FILTER_STORES", "6"))
QUERIES = 100


@pytest.mark.share(2)
@pytest.mark.parametrize("seed", range(STORES))
def test_filters_find_what_upstream_finds(oracle: Oracle, seed: int) -> None:
    outcomes: Counter[str] = Counter()
    assert run_filters(oracle, seed, QUERIES, outcomes) is None
    assert outcomes["found some"] > QUERIES // 10


@pytest.mark.parametrize("seed", range(STORES))
def test_lineage_finds_what_upstream_finds(oracle: Oracle, seed: int) -> None:
    outcomes: Counter[str] = Counter()
    assert run_lineage(oracle, seed, QUERIES, outcomes) is None
    assert outcomes["found some"] > QUERIES // 10
