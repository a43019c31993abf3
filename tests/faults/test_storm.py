"""Two seconds of what `make torture` does with servers for a minute each."""

from __future__ import annotations

from tests.faults import storm


def test_a_server_that_is_killed_again_and_again_loses_nothing() -> None:
    outcome = storm.run(print, "postgresql", seconds=2, processes=2, seed=1)
    assert outcome.complaints == []
    assert outcome.counts["restarts"] > 0
    assert outcome.counts["acknowledged puts"] > 0
