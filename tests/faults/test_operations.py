"""A part of what `make torture` tries: some operations of every chapter fail, stop, or are torn."""

from __future__ import annotations

import pytest

from tests.faults import layer
from tests.faults.operations import WAYS, runs

pytestmark = pytest.mark.skipif(layer.why_not() is not None, reason=str(layer.why_not()))

_SHARES = {
    "create": 61,
    "put": 29,
    "together": 47,
    "rotate": 601,
    "seal": 601,
    "query": 61,
    "rebuild": 1301,
    "sign": 211,
    "erase": 2601,
    "compact": 1301,
    "import": 401,
    "copy": 1301,
    "pack": 401,
}
"""Of how many operations of a kind one is struck, by chance, and one of each kind at least."""


@pytest.mark.parametrize("chapter", _SHARES)
def test_every_promise_is_kept_after_a_fault(chapter: str) -> None:
    tried = 0
    for run in runs([chapter], list(WAYS), share=_SHARES[chapter]):
        tried += 1
        assert not run.complaints, f"{run.title()}: {run.complaints}"
    assert tried > 1
