"""Make the levels of the point index anew that hold what was erased after they were made."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from eventstore.log import Log
from eventstore.log.cache_file import TEMPORARY_SUFFIX
from eventstore.log.erased import Spans
from eventstore.log.scattered import positions_in
from eventstore.projections.erased_records import ErasedRecords
from eventstore.projections.erasures import Erasures
from eventstore.projections.index_entries import commit_entries
from eventstore.projections.index_tail import Tail
from eventstore.projections.run_file import RunMetadata, UnusableRunError, parts
from eventstore.projections.sorted_run import SortedRun


def is_changed(log: Log, erasures: Erasures, first: int, last: int, known: int) -> bool:
    """Whether records at these positions have other entries since an erasure that is not `known`.

    Erased ones have, and those that come right after the erased version of a node.
    """
    changed = erasures.changed_since(known)
    return bool(changed.within(first, last)) or any(_after(log, changed, first, last))


def changed_positions(log: Log, erasures: Erasures, run: RunMetadata) -> Spans:
    """The records of a run that have other entries since erasures that it does not know."""
    found: list[tuple[int, int]] = []
    for first, last, known in parts(run):
        changed = erasures.changed_since(known)
        found += changed.within(first, last)
        found += [(position, position) for position in _after(log, changed, first, last)]
    return Spans.of(found)


def _after(log: Log, changed: Spans, first: int, last: int) -> Iterator[int]:
    """The records at these positions that come right after a changed version of a node."""
    after = max(first - 1, changed.firsts[0]) if changed else last
    if after >= last:
        return
    import pyarrow.compute as compute

    earlier = positions_in(changed)
    for batch in log.scan(after, last, ["position", "previous"]):
        is_after = compute.is_in(batch["previous"], value_set=earlier)
        yield from batch["position"].filter(is_after).to_pylist()


def is_outdated(erasures: Erasures, run: RunMetadata) -> bool:
    """Whether a run may hold what was erased after it was made."""
    return any(erasures.changed_since(known).within(f, last) for f, last, known in parts(run))


def runs_to_build(log: Log, erasures: Erasures, runs: Sequence[SortedRun]) -> list[SortedRun]:
    """Those of some runs that have other entries by now, newest first.

    In this order what comes after an erased version is found by its name before that version is
    no more.
    """
    if not any(is_outdated(erasures, run.metadata) for run in runs):
        return []
    return [
        run
        for run in reversed(runs)
        if any(is_changed(log, erasures, *part) for part in parts(run.metadata))
    ]


def remove_outdated(folder: Path, erasures: Erasures, used: Collection[Path]) -> None:
    """Remove files of a folder of runs that hold what is erased, but for those that are used."""
    for path in folder.glob(f"*{TEMPORARY_SUFFIX}"):
        # Also of those who live: they may have begun it before the erasure.
        if not path.is_dir():
            path.unlink(missing_ok=True)
    for path in {*folder.glob("*.run")}.difference(used):
        try:
            is_useless = is_outdated(erasures, SortedRun(path).metadata)
        except UnusableRunError:
            is_useless = True
        if is_useless:
            path.unlink(missing_ok=True)


def refolded(log: Log, tail: Tail, erased: ErasedRecords) -> Tail:
    """A tail of the same records, folded from the log again."""
    after, recorded_at = tail.first_position - 1, tail.preceding_recorded_at
    made = Tail(after, recorded_at, tail.highest_ids, erased.erasures.position)
    for commit in log.commits(after, tail.last_position):
        made.add(commit, commit_entries(commit, erased))
    return made
