"""Each single answer out of what other writers noted of commits is held against the segment."""

from __future__ import annotations

import shutil
from array import array
from itertools import count
from pathlib import Path

import pytest

from eventstore.log import DirectoryLog
from eventstore.log import active_segment as active_segment_module
from eventstore.log.commit_ends import BLOCK_COMMITS, read_commit_ends, write_commit_ends
from tests.builders import append, draft

_STEP = 10
"""Microseconds between two commits."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many commits as are noted at a time, of two records each."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("eventstore.log.followed_segment.FollowedSegment._sync", lambda _: None)
        moments = count(10**15, _STEP * 1_000)
        patched.setattr("time.time_ns", lambda: next(moments))
        directory = tmp_path_factory.mktemp("told") / "store"
        log = DirectoryLog.create(directory)
        for number in range(BLOCK_COMMITS):
            append(log, draft(2 * number + 1), draft(2 * number + 2))
        log.close()
    return directory


class _Truth:
    def __init__(self, directory: Path) -> None:
        log = DirectoryLog.open(directory, read_only=True)
        commits = [*log.commits()]
        log.close()
        self.ends = [commit.last_position for commit in commits]
        self.moments = [commit.recorded_at for commit in commits]
        assert self.ends == [2 * number + 2 for number in range(BLOCK_COMMITS)]
        assert self.moments[1] - self.moments[0] == _STEP

    def answers(self, commit: int) -> dict[tuple[str, int], int]:
        """The right answers around a commit, which has an index."""
        end, moment = self.ends[commit], self.moments[commit]
        asked: dict[tuple[str, int], int] = {}
        for position in range(max(end - 3, 0), min(end + 3, self.ends[-1]) + 1):
            asked["commit_end", position] = position // 2 * 2
            if position:
                asked["recorded_at", position] = self.moments[(position - 1) // 2]
        for at in (moment - _STEP, moment - 1, moment, moment + 1, moment + _STEP):
            known = sum(one <= at for one in self.moments)
            asked["position_at", at] = self.ends[known - 1] if known else 0
        return asked


@pytest.mark.parametrize("commit", [0, 1, 100, BLOCK_COMMITS - 2, BLOCK_COMMITS - 1])
@pytest.mark.parametrize(
    ("column", "by"), [(0, 8), (0, -8), (1, 1), (1, -1), (2, 1), (2, -1), (2, -_STEP), (2, _STEP)]
)
def test_every_answer_is_the_segment_s(
    built: Path, tmp_path: Path, commit: int, column: int, by: int
) -> None:
    truth = _Truth(built)
    directory = shutil.copytree(built, tmp_path / "store")
    known = read_commit_ends(directory / "log", 1)
    assert len(known.offsets) == BLOCK_COMMITS
    columns = [array("q", numbers) for numbers in known]
    columns[column][commit] += by
    write_commit_ends(directory / "log", 1, type(known)(*columns))
    for (name, asked), answer in truth.answers(commit).items():
        log = DirectoryLog.open(directory, read_only=True)
        assert getattr(log, name)(asked) == answer, (name, asked)
        log.close()


def test_what_is_told_rightly_is_believed(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = _Truth(built)
    monkeypatch.setattr(active_segment_module.ActiveSegmentFile, "_read_ends", None)
    for commit in (0, 100, BLOCK_COMMITS - 1):
        log = DirectoryLog.open(built, read_only=True)
        assert log._active._believed == BLOCK_COMMITS
        for (name, asked), answer in truth.answers(commit).items():
            assert getattr(log, name)(asked) == answer, (name, asked)
        log.close()
