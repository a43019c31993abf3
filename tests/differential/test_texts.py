"""Random texts of filters, right and wrong ones, are answered as upstream answers them."""

from __future__ import annotations

import os
from collections import Counter

from tests.differential.oracle import Oracle
from tests.differential.texts import differences

TEXTS = int(os.environ.get("EVENTSTORE_FILTER_TEXTS", "300"))


def test_texts_are_taken_as_upstream_takes_them(oracle: Oracle) -> None:
    outcomes: Counter[str] = Counter()
    assert list(differences(oracle, 1, TEXTS, outcomes)) == []
    assert outcomes["found some"] > TEXTS // 10
    assert outcomes["refused"] > TEXTS // 10
