"""Make the levels of the point index anew that hold what was erased after they were made."""

from __future__ import annotations

from eventstore.log import Log
from eventstore.projections.erased_records import ErasedRecords, erased_positions
from eventstore.projections.erasures import Erasures
from eventstore.projections.index_entries import commit_entries
from eventstore.projections.index_tail import Tail


def is_changed(log: Log, erasures: Erasures, first: int, last: int, known: int) -> bool:
    """Whether records at these positions have other entries since an erasure that is not `known`.

    Erased ones have, and those that come right after the erased version of a node.
    """
    changed = erasures.changed_since(known)
    if not changed or first > last:
        return False
    if changed.within(first, last):
        return True
    import pyarrow.compute as compute

    erased = erased_positions(erasures)
    return any(
        compute.any(compute.is_in(batch["previous"], value_set=erased)).as_py()
        for batch in log.scan(first - 1, last, ["previous"])
    )


def refolded(log: Log, tail: Tail, erased: ErasedRecords) -> Tail:
    """A tail of the same records, folded from the log again."""
    after, recorded_at = tail.first_position - 1, tail.preceding_recorded_at
    made = Tail(after, recorded_at, tail.highest_ids, erased.erasures.position)
    for commit in log.commits(after, tail.last_position):
        made.add(commit, commit_entries(commit, erased))
    return made
