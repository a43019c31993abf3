"""A few of the kills, and a little of the work at once, of what `make torture` does at length."""

from __future__ import annotations

from tests.faults import many_processes


def test_killed_and_stopped_processes_take_nothing_along() -> None:
    outcome = many_processes.run(print, kills=6, seed=1)
    assert outcome.complaints == []
    assert outcome.counts["kills"] >= 6
    assert outcome.counts["acknowledged puts"] > 0


def test_processes_that_work_at_once_lose_nothing() -> None:
    outcome = many_processes.run(print, seconds=2, seed=2)
    assert outcome.complaints == []
    assert outcome.counts["turns"] > 0
