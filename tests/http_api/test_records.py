"""Records, what commits put, and what differs between two moments, against the store's own."""

from __future__ import annotations

import pytest

import eventstore
from eventstore import errors
from eventstore.http_api.differences import differences
from eventstore.http_api.records import commit_detail, record
from eventstore.plain_values import shown_struct
from tests.http_api.test_commits import source_of


@pytest.mark.parametrize("limit", [2, 100])
def test_a_commit_tells_its_changes_in_pages(small: eventstore.MetadataStore, limit: int) -> None:
    for told in small.changes():
        found, after = [], 0
        while after is not None:
            page = commit_detail(source_of(small), told.number, after=after, limit=limit)
            found += page.changes
            after = page.after
        assert [
            (row.kind, row.id, row.is_first, [(c.field, c.before, c.after) for c in row.changes])
            for row in found
        ] == [
            (
                change.kind,
                change.id,
                change.is_new,
                [(f.field, shown_struct(f.before), shown_struct(f.after)) for f in change.fields],
            )
            for change in told.changes
        ]


def test_commits_know_those_beside_them(small: eventstore.MetadataStore) -> None:
    source = source_of(small.as_of(40))
    first = commit_detail(source, 1)
    assert (first.older, first.newer) == (None, 2)
    (last,) = [*small.changes(until=40)][-1:]
    assert commit_detail(source, last.number).newer is None


def test_records_are_those_of_the_log(small: eventstore.MetadataStore) -> None:
    source = source_of(small)
    for told in small.changes():
        for change in told.changes:
            found = record(source, change.position)
            assert (found.kind, found.entity_id, found.commit) == (
                *(change.kind, change.id, told.number),
            )
            assert found.commit_positions == (told.first_position, told.last_position)
    (put,) = [version for version in small.history("artifact", 8) if version.is_first]
    found = record(source, put.position)
    assert (found.actor, [mark.who for mark in found.erasures]) == (None, [True])
    assert found.content is not None
    assert found.content["name"] == "model-03"
    with pytest.raises(errors.NotFoundError, match="no record at position 129"):
        record(source, small.log_position() + 1)


@pytest.mark.parametrize(("first", "second"), [(0, None), (50, 90), (60, 60), (110, None)])
@pytest.mark.parametrize("limit", [3, 1_000])
def test_differences_come_in_pages(
    small: eventstore.MetadataStore, first: int, second: int | None, limit: int
) -> None:
    store = small if second is None else small.as_of(second)
    since = small.as_of(first).log_position() if first else 0
    expected = [
        (d.kind, d.id, d.is_new, [(f.field, f.before, f.after) for f in d.fields])
        for d in small.diff(since, store.log_position())
    ]
    found, after = [], None
    while True:
        page = differences(source_of(store), since, after=after, limit=limit)
        found += page.differences
        after = page.after
        if after is None:
            break
        assert len(page.differences) == limit
    assert [
        (d.kind, d.id, d.is_new, [(f.field, f.before, f.after) for f in d.fields]) for d in found
    ] == expected
    artifacts = differences(source_of(store), since, kind="artifact", limit=1_000).differences
    assert [row.id for row in artifacts] == [
        id_ for kind, id_, *_ in expected if kind == "artifact"
    ]
    with pytest.raises(errors.InvalidArgumentError, match="swap them"):
        differences(source_of(store), store.log_position() + 1)
