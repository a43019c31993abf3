"""Where commits end, when they were made and by whom: for the newest of them, and counts over time.

It is held in memory, folded from the log at the first question and then as commits come.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from eventstore.log import Log
from eventstore.log.erased import Spans
from eventstore.log.forking import renew_in_children

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS: Final = ("position", "recorded_at", "actor", "reason", "tree_head")


class CommitList(msgspec.Struct, frozen=True):
    """The commits from the first on; commit N is at place N - 1 of each column.

    `ends` are their last positions, `recorded_at` is in µs since the epoch and never decreases,
    `actors` are places in `names`, `has_reason` is 1 where there is one.
    """

    ends: array[int] = array("q")
    recorded_at: array[int] = array("q")
    actors: array[int] = array("i")
    has_reason: array[int] = array("b")
    names: tuple[str | None, ...] = ()

    def count(self, as_of: int) -> int:
        """How many commits end at or before a position: the number of the newest of them."""
        return bisect_right(self.ends, as_of)

    def number_at(self, position: int) -> int:
        """The number of the commit that has a record; one too many where none has it."""
        return bisect_left(self.ends, position) + 1

    def positions(self, number: int) -> tuple[int, int]:
        """The first and the last position of a commit."""
        return (self.ends[number - 2] if number > 1 else 0) + 1, self.ends[number - 1]

    def by(self, number: int) -> str | None:
        """Who made a commit."""
        return self.names[self.actors[number - 1]]

    def between(self, since: int, until: int) -> range:
        """The numbers of commits recorded from one time to before another (µs)."""
        times = self.recorded_at
        return range(bisect_left(times, since) + 1, bisect_left(times, until) + 1)

    def newest_first(
        self, numbers: range, actor: str | None = None, *, with_reason: bool = False
    ) -> Iterator[int]:
        """Those of some consecutive commits that an actor made, or that have a reason."""
        if actor is None and not with_reason:
            yield from reversed(numbers)
            return
        import pyarrow.compute as compute

        if not numbers or (actor is not None and actor not in self.names):
            return
        wanted = None
        if actor is not None:
            wanted = compute.equal(_arrow(self.actors, numbers), self.names.index(actor))
        if with_reason:
            reasons = compute.equal(_arrow(self.has_reason, numbers), 1)
            wanted = reasons if wanted is None else compute.and_(wanted, reasons)
        for place in reversed(compute.indices_nonzero(wanted).to_pylist()):
            yield numbers[place]

    def per_actor(self, numbers: range) -> Counter[str | None]:
        """How many of some consecutive commits each actor made."""
        import pyarrow.compute as compute

        found = compute.value_counts(_arrow(self.actors, numbers)).to_pylist()
        return Counter({self.names[one["values"]]: one["counts"] for one in found})

    def per_bucket(self, numbers: range, start: int, width: int) -> dict[int, Counter[str | None]]:
        """The same for each bucket of time, by its place; it begins at `start + place * width`."""
        import pyarrow.compute as compute

        if not numbers:
            return {}
        times, actors = _arrow(self.recorded_at, numbers), _arrow(self.actors, numbers)
        places = compute.divide(compute.subtract(times, start), width)
        keys = compute.add(compute.multiply(places, len(self.names)), actors)
        found: dict[int, Counter[str | None]] = {}
        for one in compute.value_counts(keys).to_pylist():
            place, actor = divmod(one["values"], len(self.names))
            found.setdefault(place, Counter())[self.names[actor]] = one["counts"]
        return found


class CommitListKeeper:
    """Folds the commits of one log. Safe to use from several threads."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._mutex = threading.Lock()
        self._folded = CommitList()
        self._state: object = None
        renew_in_children(self)

    def after_fork_in_child(self) -> None:
        """A thread of the parent may have been folding."""
        self._mutex = threading.Lock()

    def upto(self, position: int, state: object, who_erased: Spans) -> CommitList:
        """The commits up to a position at least, which the log has.

        `who_erased` are records of which it is erased who put them. Another `state` than at the
        call before says that this, or what was recorded, has changed: then all is folded again.
        """
        with self._mutex:
            known = self._folded if self._state == state else CommitList()
            if self._state != state or not known.ends or known.ends[-1] < position:
                self._folded, self._state = _with_later(self._log, known, who_erased), state
            return self._folded


def _with_later(log: Log, known: CommitList, who_erased: Spans) -> CommitList:
    """The list with what the log has gained since."""
    ends, times, actors, reasons = (
        column[:] for column in (known.ends, known.recorded_at, known.actors, known.has_reason)
    )
    codes = {name: code for code, name in enumerate(known.names)}
    for batch in log.scan(ends[-1] if ends else 0, None, _COLUMNS):
        # Only the last record of a commit has a tree head.
        last = batch.filter(batch["tree_head"].is_valid())
        if not last.num_rows:
            continue
        ends.extend(last["position"].to_pylist())
        times.extend(_microseconds(last["recorded_at"]))
        reasons.extend(last["reason"].is_valid().to_pylist())
        for actor in last["actor"].to_pylist():
            actors.append(codes.setdefault(actor, len(codes)))
    start = len(known.ends)
    for first, last_erased in who_erased.within(ends[start - 1] + 1 if start else 1, 2**62):
        for place in range(bisect_left(ends, first), len(ends)):
            before = ends[place - 1] if place else 0
            if before >= last_erased:
                break
            # Who put another of its records may be known yet.
            (commit,) = log.commits(before, ends[place])
            actor, reason, _ = commit.who
            actors[place] = codes.setdefault(actor, len(codes))
            reasons[place] = reason is not None
    return CommitList(ends, times, actors, reasons, tuple(codes))


def _microseconds(instants: pa.Array) -> list[int]:
    import pyarrow as pa

    found: list[int] = instants.view(pa.int64()).to_pylist()
    return found


def _arrow(column: array[int], numbers: range) -> pa.Array:
    """The part of a column that some consecutive commits have, without copying it."""
    import pyarrow as pa

    types = {"q": pa.int64(), "i": pa.int32(), "b": pa.int8()}
    whole = pa.Array.from_buffers(types[column.typecode], len(column), [None, pa.py_buffer(column)])
    return whole.slice(numbers.start - 1, len(numbers))
