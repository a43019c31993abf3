"""Every range, position and moment of a log, whatever its segments are, against plain lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from eventstore import errors
from eventstore.log import Commit, DirectoryLog, Log, MemoryLog, Record, closed_segments, sealing
from eventstore.log.columns import RECORD_SCHEMA
from eventstore.log.commit import records_of
from tests.builders import append, draft, rotate

COLUMNS = [*Record.__struct_fields__, "tree_head"]
SIZES = [1, 3, 2, 1, 1, 4, 2, 1, 3]
"""How many records each commit has."""
MOMENTS = [10, 20, 20, 20, 30, 30, 40, 50, 50]
"""When each is recorded (µs): some at once, also in two segments."""
SEALED, CLOSED = (2, 4), (6,)
"""After how many commits a segment ends that is sealed, or stays closed."""


def fill(log: Log, after: Callable[[int], None] = lambda commits: None) -> list[Commit]:
    ids = count(1)
    commits = []
    with pytest.MonkeyPatch.context() as patched:
        for number, (size, moment) in enumerate(zip(SIZES, MOMENTS, strict=True), start=1):
            patched.setattr("time.time_ns", lambda moment=moment: moment * 1_000)
            drafts = (
                draft(entity, name=f"n{entity}") for entity in (next(ids) for _ in range(size))
            )
            commits.append(append(log, *drafts))
            after(number)
    return commits


def segmented(directory: Path) -> list[Commit]:
    """Fill a log in a directory in four segments: two sealed, one closed, one active."""
    log = DirectoryLog.create(directory)

    def end_segment(commits: int) -> None:
        if commits in SEALED:
            log.seal()
        elif commits in CLOSED:
            rotate(log)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sealing, "ROWS_PER_GROUP", 2)
        commits = fill(log, end_segment)
    states = [segment.state for segment in log.segments()]
    assert states == ["sealed", "sealed", "closed", "active"]
    log.close()
    return commits


@pytest.fixture(scope="module", params=["memory", "one segment", "segments", "read only"])
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Log, list[Commit]]]:
    directory = tmp_path_factory.mktemp("ranges") / "store"
    log: Log
    if request.param == "memory":
        log = MemoryLog()
        commits = fill(log)
    elif request.param == "one segment":
        log = DirectoryLog.create(directory)
        commits = fill(log)
    else:
        commits = segmented(directory)
        log = DirectoryLog.open(directory, read_only=request.param == "read only")
    yield log, commits
    if isinstance(log, DirectoryLog):
        log.close()


def test_all_of_it(filled: tuple[Log, list[Commit]]) -> None:
    log, commits = filled
    assert [*log.commits()] == commits
    assert (log.position, log.commit_number) == (sum(SIZES), len(SIZES))
    moments = [commit.recorded_at for commit in commits]
    # A directory tells by the time which commits were written together.
    later = [moment + 2 * MOMENTS[:number].count(moment) for number, moment in enumerate(MOMENTS)]
    assert moments == (MOMENTS if isinstance(log, MemoryLog) else later)


@pytest.mark.share(2)
def test_every_range(filled: tuple[Log, list[Commit]]) -> None:
    log, commits = filled
    records = [record for commit in commits for record in commit.records]
    for after in range(len(records) + 1):
        for upto in range(after, len(records) + 3):
            expected = records[after:upto]
            found = [*log.scan(after, upto, COLUMNS)]
            assert [record for batch in found for record in records_of(batch)] == expected
            assert all(len(batch) for batch in found)
            names = [
                name
                for batch in log.scan(after, upto, ["name", "position"])
                for name in zip(
                    batch["name"].to_pylist(), batch["position"].to_pylist(), strict=True
                )
            ]
            assert names == [(f"n{r.entity_id}", r.position) for r in expected]
            whole = [
                commit
                for commit in commits
                if commit.first_position > after and commit.last_position <= upto
            ]
            assert [*log.commits(after, upto)] == whole
    assert next(iter(log.scan())).schema.names == RECORD_SCHEMA.names
    assert sum(len(batch) for batch in log.scan(3)) == len(records) - 3


def test_every_position(filled: tuple[Log, list[Commit]]) -> None:
    log, commits = filled
    ends = [0, *(commit.last_position for commit in commits)]
    for position in range(-1, ends[-1] + 3):
        expected = max((end for end in ends if end <= position), default=0)
        assert log.commit_end(position) == expected, position
    for commit in commits:
        for record in commit.records:
            assert log.recorded_at(record.position) == commit.recorded_at
    for position in (-1, 0, ends[-1] + 1):
        words = f"there is no position {position}: the log has 1 to {ends[-1]}"
        with pytest.raises(errors.InvalidArgumentError, match=words):
            log.recorded_at(position)


def test_every_moment(filled: tuple[Log, list[Commit]]) -> None:
    log, commits = filled
    for moment in range(max(MOMENTS) + 3):
        expected = [c.last_position for c in commits if c.recorded_at <= moment]
        assert log.position_at(moment) == (expected[-1] if expected else 0), moment


@pytest.fixture
def store(tmp_path: Path) -> Path:
    segmented(tmp_path / "store")
    return tmp_path / "store"


def test_segments_as_they_are(store: Path) -> None:
    log = DirectoryLog.open(store)
    described = [
        (s.number, s.state, s.first_position, s.last_position, s.path) for s in log.segments()
    ]
    folder = store / "log"
    assert described == [
        (1, "sealed", 1, 4, folder / "0000000001.parquet"),
        (2, "sealed", 5, 7, folder / "0000000002.parquet"),
        (3, "closed", 8, 12, folder / "0000000003.arrows"),
        (4, "active", 13, 18, folder / "0000000004.arrows"),
    ]
    assert all(s.path and s.file_bytes == s.path.stat().st_size for s in log.segments()[:3])
    assert log.segments()[3].file_bytes == log._active.end
    log.close()


def test_few_columns_are_kept(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed_segments, "_CACHED_COLUMNS_MAX", 2)
    log = DirectoryLog.open(store)
    for _ in range(2):
        assert [log.recorded_at(position) for position in (1, 5, 8)] == [10, 22, 30]
        assert [log.commit_end(position) for position in (2, 6, 9)] == [1, 6, 8]
        assert len(log._closed._columns) == 2
    log.close()


# Files that change while the log is open


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_file_that_is_changed_after_it_was_read(store: Path, number: int) -> None:
    log = DirectoryLog.open(store)
    segment = log.segments()[number - 1]
    path = segment.path
    assert path is not None
    ask: list[Callable[[], Any]] = [
        lambda: list(log.scan(segment.first_position - 1, segment.last_position)),
        lambda: log.check_closed(),
    ]
    for one in ask:
        one()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    words = f"segment {number} .positions {segment.first_position} to {segment.last_position}."
    for one in (*ask, *ask):
        with pytest.raises(errors.DataLossError, match=words + " is damaged"):
            one()
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for one in ask:
        one()
    path.unlink()
    for one in ask:
        with pytest.raises(errors.DataLossError, match=words + " is missing"):
            one()
    log.close()


@pytest.mark.parametrize("name", ["file_sha256", "closed_batches"])
def test_a_segment_that_is_sealed_while_it_is_read(
    store: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    log = DirectoryLog.open(store, read_only=True)
    before = [*log.scan(7, 12, ["position", "payload"])]
    log.close()
    log = DirectoryLog.open(store, read_only=True)
    call, calls = getattr(sealing, name), []

    def sealing_first(path: Path, *others: Any) -> Any:
        calls.append(path)
        if len(calls) == 1:
            with monkeypatch.context() as patched:
                patched.setattr(sealing, name, call)
                other = DirectoryLog.open(store)
                other.seal()
                other.close()
            assert not path.exists()
        return call(path, *others)

    monkeypatch.setattr(sealing, name, sealing_first)
    found = [*log.scan(7, 12, ["position", "payload"])]
    assert [r for b in found for r in b.to_pylist()] == [r for b in before for r in b.to_pylist()]
    assert calls
    assert log.segments()[2].state == "sealed"
    log.close()
