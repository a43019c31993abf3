"""What holds for every log, wherever it is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore import errors
from eventstore.log import Commit, Log, MemoryLog, Position, PositionConflictError
from eventstore.testing.drafts import append, draft, erased_of
from eventstore.times import Microseconds


class MadeLog:
    """How a contract's log is made: who inherits a contract says so."""

    def made(self, folder: Path) -> Log:
        """A new and empty log, for which there is an empty folder of this machine."""
        raise NotImplementedError

    def again(self, log: Log) -> Log:
        """The same log, opened once more to read; the log itself where it cannot be."""
        return log

    @pytest.fixture
    def log(self, tmp_path: Path) -> Iterator[Log]:
        """A new log."""
        made = self.made(tmp_path)
        yield made
        made.close()


class LogContract(MadeLog):
    """Appends, reads and verification of one log. Inherit it, and say how a log is made."""

    def test_positions_are_dense_and_commits_are_whole(self, log: Log) -> None:
        append(log, draft(1), draft(2))
        append(log, draft(3))
        append(log, draft(1, previous=1), draft(4), draft(5))
        commits = list(log.commits())
        assert [commit.number for commit in commits] == [1, 2, 3]
        positions = [record.position for commit in commits for record in commit.records]
        assert positions == [1, 2, 3, 4, 5, 6]
        assert [commit.number for commit in log.commits(after=2, upto=3)] == [2]
        assert (log.position, log.commit_number) == (6, 3)

    def test_commits_of_another_log_are_appended_if_they_follow(self, log: Log) -> None:
        source = MemoryLog(log.store_id)
        commits = [append(source, draft(2 * n + 1), draft(2 * n + 2)) for n in range(3)]
        for refused in (commits[1:], [msgspec.structs.replace(commits[0], tree_head=bytes(32))]):
            with pytest.raises(errors.DataLossError):
                log.append_recorded(refused, expected_position=Position(0))
        with pytest.raises(PositionConflictError):
            log.append_recorded(commits[1:], expected_position=Position(2))
        with pytest.raises(ValueError, match="no commits"):
            log.append_recorded([], expected_position=Position(0))
        assert log.position == 0
        log.append_recorded(commits[:2], expected_position=Position(0))
        source.destroy(erased_of([5], [6]))
        log.append_recorded([*source.commits(4)], expected_position=Position(4))
        assert list(log.commits()) == list(source.commits())
        assert list(self.again(log).commits()) == list(source.commits())
        last = append(log, draft(7))
        assert (last.number, last.first_position) == (4, 7)

    def test_scan_gives_typed_columns(self, log: Log) -> None:
        append(log, draft(1, name="one"), draft(2))
        append(log, draft(1, name="one", previous=1))
        rows = [row for batch in log.scan() for row in batch.to_pylist()]
        assert [row["name"] for row in rows] == ["one", None, "one"]
        assert [row["uri"] for row in rows] == ["s3://1", "s3://2", "s3://1"]
        assert [row["previous"] for row in rows] == [None, None, 1]
        assert rows[1]["custom_properties"][0][1]["int_value"] == 2
        some = [row for batch in log.scan(1, 2, ["position", "kind"]) for row in batch.to_pylist()]
        assert some == [{"position": 2, "kind": "artifact"}]

    def test_expected_position_guards_the_append(self, log: Log) -> None:
        append(log, draft(1))
        with pytest.raises(PositionConflictError):
            log.append([draft(2)], expected_position=Position(0))
        assert log.position == 1
        with pytest.raises(ValueError, match="at least one draft"):
            log.append([], expected_position=Position(1))

    def test_moments_map_to_whole_commits(self, log: Log) -> None:
        first = append(log, draft(1), draft(2), draft(3))
        second = append(log, draft(4), draft(5))
        log.seal()
        third = append(log, draft(6), draft(7))
        assert [log.commit_end(p) for p in range(9)] == [0, 0, 0, 3, 3, 5, 5, 7, 7]
        assert log.position_at(Microseconds(first.recorded_at - 1)) == 0
        assert log.position_at(Microseconds(third.recorded_at + 1)) == 7
        assert log.recorded_at(4) == second.recorded_at
        with pytest.raises(errors.InvalidArgumentError, match="no position 8"):
            log.recorded_at(8)

    def test_recorded_at_never_goes_backwards(
        self, log: Log, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = iter([5_000_000, 3_000_000, 9_000_000])
        monkeypatch.setattr("time.time_ns", lambda: next(clock))
        moments = [append(log, draft(number)).recorded_at for number in (1, 2, 3)]
        # A log may tell by the time which commits were written together.
        assert moments in ([5_000, 5_000, 9_000], [5_000, 5_002, 9_000])

    def test_it_has_a_clock_that_nobody_moves_on(
        self, log: Log, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hour = 3_600_000_000
        assert abs(log.now() - append(log, draft(1)).recorded_at) < hour
        # An hour back counts; where the log has a clock of its own, an hour on does not.
        clock = time.time_ns
        monkeypatch.setattr("time.time_ns", lambda: clock() - 2 * hour * 1_000)
        assert log.now() < append(log, draft(2)).recorded_at - hour

    def test_threads_append_one_after_the_other(self, log: Log) -> None:
        def write(first_id: int) -> None:
            for number in range(20):
                while True:
                    try:
                        log.append([draft(first_id + number)], expected_position=log.position)
                        break
                    except PositionConflictError:
                        continue

        threads = [threading.Thread(target=write, args=(first,)) for first in (100, 200, 300)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ids = [record.entity_id for commit in log.commits() for record in commit.records]
        assert sorted(ids) == [f + n for f in (100, 200, 300) for n in range(20)]
        assert log.verify().ok

    def test_an_empty_log(self, log: Log) -> None:
        assert (log.position, log.commit_number) == (0, 0)
        assert log.content_epoch == 0
        assert log.is_still_at(Position(0), 0)
        assert not log.refresh()
        assert [*log.commits(), *log.scan(), *log.dense_ends()] == []
        assert (log.commit_end(5), log.position_at(Microseconds(2**60))) == (0, 0)
        assert log.name
        log.seal()
        assert log.verify().ok

    def test_another_log_of_the_same_store_sees_what_is_appended(self, log: Log) -> None:
        other = self.again(log)
        for number in range(1, 8):
            commit = append(log, draft(2 * number), draft(2 * number + 1))
            assert log.is_still_at(Position(commit.last_position), 0)
            other.refresh()
            assert other.is_still_at(Position(commit.last_position), 0)
            assert list(other.commits(commit.first_position - 1)) == [commit]
        assert (other.store_id, other.position) == (log.store_id, 14)
        assert self.again(log).commit_number == 7

    @settings(
        max_examples=settings().max_examples // 6,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(st.one_of(st.integers(1, 7), st.just("seal")), max_size=12))
    def test_answers_at_every_bound(
        self, tmp_path_factory: pytest.TempPathFactory, steps: list[int | str]
    ) -> None:
        log = self.made(tmp_path_factory.mktemp("log"))
        commits: list[Commit] = []
        for step in steps:
            if isinstance(step, int):
                first = log.position + 1
                commits.append(append(log, *(draft(first + n) for n in range(step))))
            else:
                log.seal()
        for one in (log, self.again(log)):
            _answers(one, commits)
        assert log.verify().ok
        log.close()


def _answers(log: Log, commits: list[Commit]) -> None:
    """Compare what a log says of each position with the commits that it was given."""
    records = [record for commit in commits for record in commit.records]
    last = len(records)
    assert (log.position, log.commit_number) == (last, len(commits))
    ends = [commit.last_position for commit in commits]
    for position in range(last + 2):
        assert log.commit_end(position) == max((e for e in ends if e <= position), default=0)
        assert list(log.commits(position)) == [c for c in commits if c.first_position > position]
        assert list(log.commits(0, position)) == [c for c in commits if c.last_position <= position]
        found = [*log.scan(position, position + 3, ["position", "payload", "name"])]
        payloads = [payload for batch in found for payload in batch["payload"].to_pylist()]
        assert payloads == [record.payload for record in records[position : position + 3]]
    for record in records:
        assert log.recorded_at(record.position) == record.recorded_at
        first, end = log.stretch_of(record.position)
        assert 1 <= first <= record.position <= end <= last
        expected = max(c.last_position for c in commits if c.recorded_at <= record.recorded_at)
        assert log.position_at(record.recorded_at) == expected
    for after in range(last + 1):
        dense = [end for end, size in log.dense_ends(after) if size > 0]
        assert dense == sorted(set(dense))
        assert all(after < end <= last for end in dense)
    dense_end = max((end for end, _ in log.dense_ends()), default=0)
    rows = log.dataset(last, ["entity_id", "position"]).to_table().to_pylist()
    assert [(row["position"], row["entity_id"]) for row in rows] == [
        (record.position, record.entity_id) for record in records
    ]
    if dense_end < last:
        # More, if some was sealed meanwhile.
        some = log.dataset(dense_end, ["position"]).to_table()["position"].to_pylist()
        assert some == list(range(1, max(dense_end, len(some)) + 1))
