"""What is told of commits, against what `changes` tells."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.http_api.commits import activity, actors, commit, commits
from eventstore.metadata_store.source import Source


def source_of(store: Any) -> Source:
    found: Source = store._source
    return found


def said(c: Any) -> tuple[Any, ...]:
    return (c.first_position, c.last_position, c.recorded_at, c.actor, c.reason, c.request_id)


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"actors": ["ana"]},
        {"actors": ["nobody"]},
        {"kinds": ["artifact", "hold"]},
        {"kinds": ["artifact_type"]},
        {"kinds": ["event"]},
        {"types": ["Model"]},
        {"types": ["Model", "Run"], "kinds": ["context", "artifact_type"], "actors": ["nightly"]},
    ],
)
def test_commits_are_those_of_changes(
    small: eventstore.MetadataStore, chosen: dict[str, Any]
) -> None:
    expected = [
        (
            c.number,
            c.first_position,
            c.last_position,
            c.recorded_at,
            c.actor,
            c.reason,
            c.request_id,
        )
        for c in small.changes(**chosen)
    ]
    given = dict(chosen)
    by = given.pop("actors", [None])[0]
    found = commits(source_of(small), actor=by, limit=1_000, **given)
    assert [
        (
            c.commit,
            c.first_position,
            c.last_position,
            c.recorded_at,
            c.actor,
            c.reason,
            c.request_id,
        )
        for c in found
    ] == expected[::-1]


def test_a_commit_says_what_it_put(small: eventstore.MetadataStore) -> None:
    for told in small.changes():
        counted = Counter((change.kind, change.is_new) for change in told.changes)
        found = commit(source_of(small), told.number)
        assert {(one.kind, True): one.new for one in found.counts if one.new} | {
            (one.kind, False): one.changed for one in found.counts if one.changed
        } == counted


def test_pages_follow_one_another_and_stay_in_the_past(small: eventstore.MetadataStore) -> None:
    then = small.as_of(60)
    source = source_of(then)
    found = commits(source, limit=3)
    assert found[0].last_position == then.log_position()
    following = commits(source, before=found[-1].commit, limit=3)
    assert [one.commit for one in [*found, *following]] == [
        found[0].commit - place for place in range(6)
    ]
    with pytest.raises(errors.NotFoundError, match="there is no commit"):
        commit(source, found[0].commit + 1)


def test_reasons_and_times_narrow(small: eventstore.MetadataStore) -> None:
    source = source_of(small)
    corrections = commits(source, with_reason=True)
    assert [one.reason for one in corrections] == [f"checked again, {n}" for n in (3, 2, 1, 0)]
    one = corrections[1]
    assert commits(source, since=one.recorded_at, until=one.recorded_at) == [one]


def test_buckets_hold_every_commit_once(small: eventstore.MetadataStore) -> None:
    source, told = source_of(small), [*small.changes()]
    for buckets in (1, 7, 200):
        found = activity(source, buckets=buckets)
        assert len(found.buckets) <= buckets
        width = timedelta(seconds=found.bucket_seconds)
        for bucket in found.buckets:
            here = [c for c in told if bucket.start <= c.recorded_at < bucket.start + width]
            assert bucket.commits == len(here) == sum(bucket.by)
            by = Counter(c.actor for c in here)
            assert bucket.by[:-1] == [by[actor] for actor in found.actors]
            assert (bucket.first_position, bucket.last_position) == (
                here[0].first_position,
                here[-1].last_position,
            )
        assert sum(bucket.commits for bucket in found.buckets) == len(told) == found.commits
    part = activity(source, since=told[3].recorded_at, before=told[9].recorded_at, buckets=2)
    assert 0 < part.commits < len(told)
    with pytest.raises(errors.InvalidArgumentError, match="buckets is 0"):
        activity(source, buckets=0)


def test_actors_are_counted_as_of_the_moment(small: eventstore.MetadataStore) -> None:
    counted = Counter(c.actor for c in small.changes(until=60))
    assert {one.actor: one.commits for one in actors(source_of(small.as_of(60)))} == counted


def test_activity_is_as_of_the_moment(small: eventstore.MetadataStore) -> None:
    found = activity(source_of(small.as_of(60)))
    assert found.commits == len([*small.changes(until=60)])
    assert found.buckets[-1].last_position <= 60


def test_an_empty_store_has_its_first_commit_alone() -> None:
    with eventstore.open("memory://") as store:
        assert activity(source_of(store)).commits == len([*store.changes()])


def test_who_is_erased_is_told_no_more(tmp_path: Any) -> None:
    """Also by who has read the commits before."""
    with eventstore.open(tmp_path / "store") as store:
        with store.acting(actor="ana", reason="a name of somebody"):
            type_id = store.put_artifact_type(eventstore.proto.ArtifactType(name="Data"))
            store.put_artifacts([eventstore.proto.Artifact(type_id=type_id)])
        assert [one.actor for one in commits(source_of(store), limit=1)] == ["ana"]
        store.erase("artifact", 1, who=True, content=False, reason="GDPR-17")
        assert not commits(source_of(store), kinds=["artifact"])[0].actor
        assert [one.reason for one in commits(source_of(store), with_reason=True)] == [
            "a name of somebody"
        ]
