"""Sets of positions as spans, held against sets of whole numbers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from eventstore.log.erased import Erased, Spans

_SPANS = st.lists(
    st.tuples(st.integers(1, 60), st.integers(0, 8)).map(lambda span: (span[0], sum(span))),
    max_size=8,
)


def _positions(spans: Spans) -> set[int]:
    return {position for first, last in spans for position in range(first, last + 1)}


def _all_of(spans: list[tuple[int, int]]) -> set[int]:
    return {position for first, last in spans for position in range(first, last + 1)}


def _is_in_order(spans: Spans) -> bool:
    listed = list(spans)
    return all(first <= last for first, last in listed) and all(
        last + 1 < first for (_, last), (first, _) in pairwise(listed)
    )


@given(_SPANS, _SPANS, st.integers(0, 70), st.integers(0, 70))
def test_spans_are_sets(
    one: list[tuple[int, int]], other: list[tuple[int, int]], first: int, last: int
) -> None:
    left, right = Spans.of(one), Spans.of(other)
    assert _is_in_order(left)
    assert _positions(left) == _all_of(one)
    assert len(left) == len(_all_of(one))
    assert bool(left) == bool(one)
    assert {position for position in range(80) if position in left} == _all_of(one)
    for found, expected in (
        (left.within(first, last), _all_of(one) & set(range(first, last + 1))),
        (left.union(right), _all_of(one) | _all_of(other)),
        (left.without(right), _all_of(one) - _all_of(other)),
    ):
        assert _positions(found) == expected
        assert _is_in_order(found)


def test_content_and_who_are_erased_apart() -> None:
    content, who = Spans.of([(1, 3), (7, 9)]), Spans.of([(2, 8)])
    assert Erased(content).union(Erased(who=who)) == Erased(content, who)
    assert Erased(content, who).within(3, 7) == Erased(
        Spans.of([(3, 3), (7, 7)]), Spans.of([(3, 7)])
    )
    assert not Erased()
    assert Erased(who=who)
