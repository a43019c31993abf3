"""Which moments reads take, which position each stands for, and which are refused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore import errors, moments
from eventstore.log import PositionConflictError
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.store import putting
from tests.builders import memory_store

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
START = 1_700_000_000_000
"""Milliseconds; commits follow each other every second."""


def at(milliseconds: float) -> datetime:
    return EPOCH + timedelta(milliseconds=milliseconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time in milliseconds, which tests set."""
    now = [START]
    monkeypatch.setattr("time.time_ns", lambda: now[0] * 1_000_000)
    return now


@pytest.fixture
def store(clock: list[int]) -> Iterator[eventstore.MetadataStore]:
    """One artifact type per second, the last one three seconds after the start."""
    with memory_store() as opened:
        for number in range(1, 4):
            clock[0] = START + number * 1_000
            opened.put_artifact_type(mlmd.ArtifactType(name=f"T{number}"))
        yield opened


def names(store: Any) -> list[str]:
    return [node_type.name for node_type in store.get_artifact_types()]


@pytest.mark.parametrize(
    ("after", "known"),
    [(0, 0), (999, 0), (1_000, 1), (1_999, 1), (2_000, 2), (3_000, 3)],
)
def test_a_time_stands_for_all_that_was_put_by_then(
    store: eventstore.MetadataStore, after: int, known: int
) -> None:
    assert len(names(store.as_of(START + after))) == known
    assert len(names(store.as_of(at(START + after)))) == known


def test_milliseconds_mean_the_whole_of_them(
    store: eventstore.MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time_ns", lambda: (START + 4_000) * 1_000_000 + 999_000)
    store.put_artifact_type(mlmd.ArtifactType(name="T4"))
    assert names(store.as_of(START + 4_000)) == ["T1", "T2", "T3", "T4"]
    assert names(store.as_of(at(START + 4_000))) == ["T1", "T2", "T3"]


def test_the_present_is_no_future(store: eventstore.MetadataStore) -> None:
    assert store.as_of(START + 3_000)._position == store.log_position()
    for moment in (START + 3_001, at(START + 3_002), at(START + 10_000)):
        with pytest.raises(errors.InvalidArgumentError, match="that is in the future"):
            store.as_of(moment)


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        (0, "as of 0: the store has no commit at or before that moment"),
        (-1, "as of -1: the store has no commit"),
        (moments.MILLISECONDS_MIN - 1, "position 99999999999 is beyond the end of the log"),
        (
            moments.MILLISECONDS_MIN,
            r"as of 100000000000 ms since the epoch \(1973-03-03T09:46:40.000Z",
        ),
        (10**18, "as of 1000000000000000000 ms since the epoch"),
        (datetime(2020, 1, 1), "2020-01-01T00:00:00.000000 has no time zone"),
        (datetime(2020, 1, 1, tzinfo=timezone.utc), "as of 2020-01-01T.*the store has no commit"),
        (True, "as of True: pass a position"),
        ("now", "as of 'now': pass a position"),
        (1.5, "as of 1.5: pass a position"),
    ],
)
def test_no_moment_of_a_store(store: eventstore.MetadataStore, moment: Any, words: str) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=words):
        store.as_of(moment)


def test_positions_stand_for_the_ends_of_their_commits(store: eventstore.MetadataStore) -> None:
    newest = store.log_position()
    with pytest.raises(errors.InvalidArgumentError, match=f"position {newest + 1} is beyond"):
        store.as_of(newest + 1)
    assert store.as_of(newest)._position == newest
    # The system types are one commit, and half of it is nothing.
    assert store.as_of(newest - 3)._position == newest - 3
    with pytest.raises(errors.InvalidArgumentError, match="the store has no commit"):
        store.as_of(newest - 4)


def test_what_another_process_has_just_put_is_there_as_of_then(tmp_path: Path) -> None:
    with (
        eventstore.open(tmp_path / "store") as reader,
        eventstore.open(tmp_path / "store") as other,
    ):
        for number in range(1, 4):
            other.put_artifact_type(mlmd.ArtifactType(name=f"T{number}"))
            assert len(names(reader.as_of(9 + number))) == number


def test_moments_in_the_wrong_order(store: eventstore.MetadataStore) -> None:
    newest = store.log_position()
    between = [START + 1_100, START + 1_200]
    for since, until in (
        (newest, newest - 1),
        (between[1], between[0]),
        (at(between[1]), at(between[0])),
        (at(START + 2_500), newest - 2),
        (START + 2_500, newest - 2),
        (newest, START + 2_500),
    ):
        with pytest.raises(errors.InvalidArgumentError, match="ends before it begins; swap the"):
            store.changes(since, until)


def test_moments_of_different_sorts_are_compared_by_what_was_put(
    store: eventstore.MetadataStore,
) -> None:
    newest = store.log_position()
    for since, until, commits in (
        (None, None, 4),
        (0, newest, 4),
        (newest, newest, 0),
        (newest - 1, newest, 1),
        (START + 2_500, newest, 1),
        (at(START + 2_500), newest, 1),
        (newest - 2, START + 2_500, 1),
        (newest - 2, at(START + 2_500), 1),
        (at(START + 1_500), START + 1_500, 0),
        (START + 1_500, at(START + 1_400), 0),
        (at(START + 1_500), at(START + 1_500), 0),
        (START + 1_500, START + 1_500, 0),
        (at(START - 5_000), at(START + 1_500), 2),
    ):
        assert len([*store.changes(since, until)]) == commits, (since, until)


def test_differences_between_moments_in_the_wrong_order(store: eventstore.MetadataStore) -> None:
    newest = store.log_position()
    data = store.get_artifact_type("T1").id
    (node,) = store.put_artifacts([mlmd.Artifact(type_id=data)])
    with pytest.raises(errors.InvalidArgumentError, match=r"later than the second .*: swap them"):
        store.lineage_diff("artifact", node, newest + 1, newest)
    assert store.lineage_diff("artifact", node, newest + 1, newest + 1).new_nodes == ()
    assert [n.id for n in store.lineage_diff("artifact", node, newest, newest + 1).new_nodes] == [
        node
    ]
    assert store.diff(newest, newest) == []


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), True, "1", None])
def test_following_needs_a_pause_between_looks(
    store: eventstore.MetadataStore, seconds: Any
) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="poll_seconds is"):
        next(store.follow(after=0, poll_seconds=seconds))


def test_following_begins_within_the_log(store: eventstore.MetadataStore) -> None:
    newest = store.log_position()
    for after in (-1, newest + 1):
        with pytest.raises(errors.InvalidArgumentError, match=f"follow from 0 to {newest}"):
            next(store.follow(after=after))
    assert next(store.follow(after=newest - 1)).last_position == newest
    assert next(store.follow(after=0)).first_position == 1


def test_a_put_gives_up_after_many_conflicts(
    store: eventstore.MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(putting, "MAX_CONFLICTS", 5)
    log, reserved, tried = store._engine.log, list[int](), list[int]()

    def conflict(*_: Any, **__: Any) -> Any:
        tried.append(len(reserved))
        raise PositionConflictError("somebody was faster")

    def reserving(action: Any) -> Any:
        reserved.append(1)
        return action()

    request = service.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name="T4"))
    monkeypatch.setattr(log, "append", conflict)
    monkeypatch.setattr(log, "reserved", reserving)
    with pytest.raises(errors.AbortedError, match="5 times in a row; nothing was put: retry"):
        store._engine.call("PutArtifactType", request)
    # Once without asking what is new, since nobody else has put so far. Then others are kept from
    # appending after three.
    assert tried == [0, 0, 0, 0, 1, 2]


def test_puts_of_one_process_come_one_after_the_other(store: eventstore.MetadataStore) -> None:
    engine = store._engine
    assert engine.put(lambda *_: bool(engine._leading), None)
    assert not engine._leading


def test_requests_that_nobody_serves(store: eventstore.MetadataStore) -> None:
    with pytest.raises(errors.UnimplementedError, match="there is no RPC 'GetNothing'"):
        store._engine.call("GetNothing", None)
