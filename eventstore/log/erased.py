"""Which records of a log are erased: of which the content, and of which who put them and why."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise

import msgspec


class Spans(msgspec.Struct, frozen=True):
    """A set of positions, as spans of consecutive ones.

    `firsts` and `lasts` are their first and last positions: ascending, disjoint and not adjacent.
    Made by `of`.
    """

    firsts: tuple[int, ...] = ()
    lasts: tuple[int, ...] = ()

    @classmethod
    def of(cls, spans: Iterable[tuple[int, int]]) -> Spans:
        """The positions in any of some (first, last), which may come in any order and overlap."""
        firsts: list[int] = []
        lasts: list[int] = []
        for first, last in sorted(spans):
            if lasts and first <= lasts[-1] + 1:
                lasts[-1] = max(lasts[-1], last)
            else:
                firsts.append(first)
                lasts.append(last)
        return cls(tuple(firsts), tuple(lasts))

    def __bool__(self) -> bool:
        return bool(self.firsts)

    def __len__(self) -> int:
        """How many positions there are."""
        return sum(self.lasts) - sum(self.firsts) + len(self.firsts)

    def __contains__(self, position: int) -> bool:
        before = bisect.bisect_right(self.firsts, position) - 1
        return before >= 0 and position <= self.lasts[before]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The (first, last) of each span, ascending."""
        return zip(self.firsts, self.lasts, strict=True)

    def positions(self) -> Iterator[int]:
        """Each position, ascending."""
        return chain.from_iterable(range(first, last + 1) for first, last in self)

    def within(self, first: int, last: int) -> Spans:
        """Those of the positions that lie from `first` to `last`."""
        if first > last:
            return Spans()
        start = bisect.bisect_left(self.lasts, first)
        end = bisect.bisect_right(self.firsts, last)
        firsts, lasts = list(self.firsts[start:end]), list(self.lasts[start:end])
        if firsts:
            firsts[0], lasts[-1] = max(firsts[0], first), min(lasts[-1], last)
        return Spans(tuple(firsts), tuple(lasts))

    def union(self, other: Spans) -> Spans:
        """The positions that are in either."""
        if not (self and other):
            return self or other
        return Spans.of([*iter(self), *iter(other)])

    def without(self, other: Spans) -> Spans:
        """Those of the positions that another set has not."""
        kept: list[tuple[int, int]] = []
        for first, last in self:
            cuts = other.within(first, last)
            # Its length counts positions, which is no hint at how many spans there are.
            ends = [(first - 1, first - 1), *iter(cuts), (last + 1, last + 1)]
            kept += [
                (end + 1, start - 1) for (_, end), (start, _) in pairwise(ends) if end + 1 < start
            ]
        return Spans(tuple(first for first, _ in kept), tuple(last for _, last in kept))


class Erased(msgspec.Struct, frozen=True):
    """The records whose content is erased, and those whose actor, reason and request id are."""

    content: Spans = Spans()
    who: Spans = Spans()

    def __bool__(self) -> bool:
        return bool(self.content or self.who)

    def union(self, other: Erased) -> Erased:
        """What is erased by either."""
        return Erased(self.content.union(other.content), self.who.union(other.who))

    def within(self, first: int, last: int) -> Erased:
        """What is erased of the records from `first` to `last`."""
        return Erased(self.content.within(first, last), self.who.within(first, last))
