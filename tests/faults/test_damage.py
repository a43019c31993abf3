"""A few of the damages that `make torture` does by the thousand."""

from __future__ import annotations

from tests.faults import damage


def test_damage_to_any_file_changes_no_answer() -> None:
    outcome = damage.run(range(8), 6)
    assert outcome.complaints == []
    assert outcome.counts["damages"] == 8
    assert outcome.counts["reads"] > 8
