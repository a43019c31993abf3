"""Random filter queries on random stores give the ids, in the order, that upstream gives."""

from __future__ import annotations

import os
import random
from collections import Counter
from contextlib import closing
from typing import Any

import pytest

from eventstore.proto import metadata_store_service_pb2 as service
from tests.differential.clients import OurStore
from tests.differential.filters import random_filter
from tests.differential.oracle import Oracle
from tests.differential.programs import run_program
from tests.differential.reads import outcome

STORES = int(os.environ.get("EVENTSTORE_FILTER_STORES", "6"))
QUERIES = 100


@pytest.mark.parametrize("seed", range(STORES))
def test_filters_find_what_upstream_finds(oracle: Oracle, seed: int) -> None:
    found: Counter[bool] = Counter()
    with closing(OurStore()) as ours:
        assert run_program(seed, 80, oracle, ours, Counter()) is None
        choice = random.Random(seed)
        for _ in range(QUERIES):
            kind = choice.choice(("artifact", "execution", "context"))
            rpc = f"Get{kind.capitalize()}s"
            request = getattr(service, f"{rpc}Request")()
            request.options.max_result_size = 100
            request.options.filter_query = random_filter(choice, kind)
            expected = _ids(outcome(oracle.call, rpc, request))
            found[bool(expected) and isinstance(expected, list)] += 1
            assert _ids(outcome(ours.call, rpc, request)) == expected, request
    assert found[True] > QUERIES // 10


def _ids(result: Any) -> Any:
    """The ids of a page, or the class of the error."""
    if isinstance(result, type):
        return result
    ((_, nodes),) = result.ListFields() or ((None, ()),)
    return [node.id for node in nodes]
