"""What is erased of a log, by the erasures that are in effect."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from itertools import chain
from operator import itemgetter
from typing import Final, NamedTuple

import msgspec

from eventstore.log.erased import Erased, Spans
from eventstore.log.readable import read_message
from eventstore.proto import retention_pb2 as retention

_FIRST, _LAST = itemgetter(0), itemgetter(1)


class ErasedSpan(NamedTuple):
    """Consecutive positions whose content an erasure took away."""

    first: int
    last: int
    number: int
    """The erasure's."""
    replaced_by: int
    """The position of what is answered instead; 0 where that is a tombstone."""


class Erasures(msgspec.Struct, frozen=True):
    """The erasures of a log that are in effect, as far as they are known.

    Where several have erased the content of a record, the last that was requested counts.
    """

    position: int = 0
    """The newest record of an erasure that is known."""

    requested: int = 0
    """The newest of those that ask for one. Whoever knows it answers all that is erased."""

    erased: Erased = Erased()

    pending: Mapping[int, Erased] = {}
    """By the number of an erasure that is not completed, what it erases."""

    spans: tuple[ErasedSpan, ...] = ()
    """Disjoint and ascending."""

    firsts: tuple[int, ...] = ()
    requests: tuple[tuple[int, Spans], ...] = ()
    """The positions of those records, and for which others they change what is answered."""

    sources: Mapping[int, tuple[int, ...]] = {}
    """By the position of a replacement, for which records it was to be answered."""

    def __bool__(self) -> bool:
        return bool(self.requests)

    def span_of(self, position: int) -> ErasedSpan | None:
        """What has erased the content of a record, if anything has."""
        before = bisect_right(self.firsts, position) - 1
        if before < 0:
            return None
        span = self.spans[before]
        return span if position <= span.last else None

    def answer_of(self, position: int) -> tuple[int, int] | None:
        """The erasure of a record's content, and the position of what is answered instead or 0.

        None where its content is not erased. What replaces it may have been erased in turn.
        """
        span = self.span_of(position)
        if span is None:
            return None
        while span.replaced_by:
            further = self.span_of(span.replaced_by)
            if further is None:
                break
            span = further
        return span.number, span.replaced_by

    def changed_since(self, known: int) -> Spans:
        """The records that erasures requested after a position say something about."""
        start = bisect_right(self.requests, known, key=_FIRST)
        return Spans.of(span for _, spans in self.requests[start:] for span in spans)

    def all_pending(self) -> Erased:
        """What files may still hold though it is erased."""
        return _united(self.pending.values())

    def with_records(self, records: Iterable[tuple[int, bytes]]) -> Erasures:
        """These with further records of erasures: their positions and payloads, in order."""
        position, requested = self.position, self.requested
        pending, sources = dict(self.pending), dict(self.sources)
        spans, requests, erased = list(self.spans), list(self.requests), [self.erased]
        for position, payload in records:
            erasure = read_message(retention.Erasure, payload)
            if erasure.stage == retention.Erasure.COMPLETED:
                pending.pop(erasure.id, None)
            elif erasure.stage == retention.Erasure.REQUESTED:
                requested, found = position, requested_spans(position, erasure)
                content = Spans.of((span.first, span.last) for span in found)
                asked = [_clipped(range_, position) for range_ in erasure.ranges if range_.who]
                who = Spans.of(chain.from_iterable(asked))
                pending[erasure.id] = Erased(content, who)
                changed = content.union(who).union(_answered_by(content, sources))
                requests.append((position, changed))
                erased.append(pending[erasure.id])
                for span in found:
                    _lay_over(spans, span)
                    if span.replaced_by:
                        _note_sources(sources, span)
        return Erasures(
            position,
            requested,
            _united(erased),
            pending,
            tuple(spans),
            tuple(map(_FIRST, spans)),
            tuple(requests),
            sources,
        )


NONE_KNOWN: Final = Erasures()


def requested_spans(position: int, erasure: retention.Erasure) -> list[ErasedSpan]:
    """The content that a record at a position asks to erase, in the order of its ranges."""
    found = []
    for range_ in erasure.ranges:
        if range_.content:
            for first, last in _clipped(range_, position):
                # What replaces it comes after the erasure, so that no two replace each other.
                replaced_by = range_.replaced_by if range_.replaced_by > position else 0
                found.append(ErasedSpan(first, last, erasure.id, replaced_by))
    return found


def _clipped(range_: retention.ErasedRange, position: int) -> list[tuple[int, int]]:
    """The positions of a range, which lie before its erasure."""
    first, last = max(range_.first_position, 1), min(range_.last_position, position - 1)
    return [(first, last)] if first <= last else []


def _united(parts: Iterable[Erased]) -> Erased:
    parts = list(parts)
    return Erased(
        Spans.of(span for erased in parts for span in erased.content),
        Spans.of(span for erased in parts for span in erased.who),
    )


def _lay_over(spans: list[ErasedSpan], span: ErasedSpan) -> None:
    """Put a span among disjoint ascending ones, in place of what it covers of them."""
    start = bisect_left(spans, span.first, key=_LAST)
    end = bisect_right(spans, span.last, start, key=_FIRST)
    left = [s._replace(last=span.first - 1) for s in spans[start:end] if s.first < span.first]
    right = [s._replace(first=span.last + 1) for s in spans[start:end] if s.last > span.last]
    spans[start:end] = [*left, span, *right]


def _answered_by(content: Spans, sources: Mapping[int, tuple[int, ...]]) -> Spans:
    """The records for which one of these positions was to be answered."""
    if not sources:
        return Spans()
    if len(content) <= len(sources):
        replaced = [position for position in content.positions() if position in sources]
    else:
        replaced = [position for position in sources if position in content]
    return Spans.of((source, source) for position in replaced for source in sources[position])


def _note_sources(sources: dict[int, tuple[int, ...]], span: ErasedSpan) -> None:
    found = dict.fromkeys(sources.get(span.replaced_by, ()))
    for position in range(span.first, span.last + 1):
        found |= dict.fromkeys((position, *sources.get(position, ())))
    sources[span.replaced_by] = tuple(found)
