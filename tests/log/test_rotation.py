"""What a rotation does while a put waits for it, and what a sealing keeps in memory."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eventstore import errors
from eventstore.log import DirectoryLog, directory_writer, ipc_stream, sealing, turns
from eventstore.log import growing_digest as digests
from eventstore.log.commit import records_of
from eventstore.log.manifest import Segment, read_manifest
from tests.builders import append, draft, rotate


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash a segment after every few commits."""
    monkeypatch.setattr(digests, "PIECE_BYTES", 3_000)


def _closed(store: Path) -> Segment:
    (segment,) = read_manifest(store).segments
    return segment


def _digest(store: Path, segment: Segment) -> str:
    return hashlib.sha256((store / "log" / segment.file).read_bytes()).hexdigest()


def test_a_rotation_reads_little_of_its_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_pieces: None
) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    for number in range(1, 61):
        append(log, draft(number), *([draft(100 + number)] if number % 7 == 0 else []))
    log._seal_closed_in_background = lambda: None  # type: ignore[method-assign]
    size, read, pread = log._active.end, [], os.pread

    def counting(descriptor: int, length: int, offset: int) -> bytes:
        found = pread(descriptor, length, offset)
        read.append(len(found))
        return found

    assert size > 30_000
    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", counting)
        rotate(log)
    # The commits since the last piece, the first one, and the frontier.
    assert sum(read) < 10_000
    segment = _closed(log.directory)
    assert segment.file_sha256 == _digest(log.directory, segment)
    commits = list(log.commits())
    assert (segment.first_commit, segment.last_commit) == (1, 60)
    assert segment.first_recorded_at == commits[0].recorded_at
    assert segment.last_recorded_at == commits[-1].recorded_at
    assert log.verify().ok
    log.close()


@pytest.mark.parametrize("others", [0, 1, 25])
def test_the_digest_of_a_segment_that_several_wrote(
    tmp_path: Path, small_pieces: None, others: int
) -> None:
    first = DirectoryLog.create(tmp_path / "store")
    second = DirectoryLog.open(tmp_path / "store")
    number = iter(range(1, 1_000))
    for _ in range(6):
        append(first, draft(next(number)), draft(next(number)))
        for _ in range(others):
            second.refresh()
            append(second, draft(next(number)))
        first.refresh()
    rotate(first)
    segment = _closed(first.directory)
    assert segment.file_sha256 == _digest(first.directory, segment)
    assert segment.last_position == first.position
    assert first.verify().ok
    first.close()
    second.close()


def test_a_put_after_those_of_others_reads_no_more_than_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_pieces: None
) -> None:
    other = DirectoryLog.create(tmp_path / "store")
    for number in range(1, 61):
        append(other, draft(number))
    log = DirectoryLog.open(tmp_path / "store")
    extended: list[int] = []
    extend = digests.GrowingDigest.extend

    def noted(digest: digests.GrowingDigest, descriptor: int, end: int) -> None:
        before = digest.size
        extend(digest, descriptor, end)
        extended.append(digest.size - before)

    monkeypatch.setattr(digests.GrowingDigest, "extend", noted)
    start = log._active.end
    append(log, draft(61))
    assert extended == []
    for number in range(62, 82):
        append(log, draft(number))
    assert 0 < sum(extended) <= 2 * (log._active.end - start)
    rotate(log)
    segment = _closed(log.directory)
    assert segment.file_sha256 == _digest(log.directory, segment)
    other.close()
    log.close()


@pytest.fixture
def filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_pieces: None
) -> Iterator[DirectoryLog]:
    """A log whose active segment is full, by what others put."""
    monkeypatch.setattr(directory_writer, "_UNHASHED_BYTES_MAX", 10_000)
    other = DirectoryLog.create(tmp_path / "store")
    for number in range(1, 61):
        append(other, draft(number))
    other.close()
    log = DirectoryLog.open(tmp_path / "store", segment_records_max=50)
    yield log
    log.close()


def test_a_put_does_not_wait_for_what_is_hashed_of_others(
    filled: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    extend, may_go_on = digests.GrowingDigest.extend, threading.Event()

    def waiting(digest: digests.GrowingDigest, descriptor: int, end: int) -> None:
        if end - digest.size > 10_000:
            assert threading.current_thread() is not threading.main_thread()
            assert may_go_on.wait(60)
        extend(digest, descriptor, end)

    with monkeypatch.context() as patched:
        patched.setattr(digests.GrowingDigest, "extend", waiting)
        for number in (61, 62):
            append(filled, draft(number))
        assert read_manifest(filled.directory).segments == ()
        may_go_on.set()
        # It waits for what is at work.
        filled.close()
    segment = _closed(filled.directory)
    assert segment.last_position == 62
    assert segment.file_sha256 == _digest(filled.directory, segment)
    with contextlib.closing(DirectoryLog.open(filled.directory)) as again:
        append(again, draft(63))
        assert again.verify().ok


def test_a_put_closes_a_segment_that_grows_although_it_is_full(
    filled: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(filled, "_hash_ahead", failing)
    monkeypatch.setattr(filled, "_seal_closed_in_background", lambda: None)
    for number in range(61, 103):
        append(filled, draft(number))
    assert _closed(filled.directory).last_position == 100
    assert filled.verify().ok


def test_puts_go_on_while_what_is_to_be_sealed_is_hashed(
    filled: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    extend, put = digests.GrowingDigest.extend, []

    def putting(digest: digests.GrowingDigest, descriptor: int, end: int) -> None:
        if not put:
            put.append(end)
            with ThreadPoolExecutor(1) as pool:
                pool.submit(append, filled, draft(61)).result(timeout=60)
        extend(digest, descriptor, end)

    monkeypatch.setattr(filled, "_segment_records_max", 1_000)
    with monkeypatch.context() as patched:
        patched.setattr(digests.GrowingDigest, "extend", putting)
        filled.seal()
    assert _closed(filled.directory).last_position == 61
    assert filled.verify().ok


def test_the_digest_of_a_segment_whose_closing_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_pieces: None
) -> None:
    """The end-of-stream marker is taken back, and commits come where it was."""
    log = DirectoryLog.create(tmp_path / "store")
    for number in range(1, 11):
        append(log, draft(number))

    def refused(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr("eventstore.log.directory_writer.start_segment", refused)
        with pytest.raises(errors.ResourceExhaustedError):
            log.seal()
    ftruncate, calls = os.ftruncate, []

    def first_refused(descriptor: int, size: int) -> None:
        calls.append(size)
        if len(calls) == 1:
            refused()
        ftruncate(descriptor, size)

    with monkeypatch.context() as patched:
        patched.setattr(os, "ftruncate", first_refused)
        with pytest.raises(errors.ResourceExhaustedError):
            append(log, draft(11))
    for number in range(11, 21):
        append(log, draft(number))
    rotate(log)
    segment = _closed(log.directory)
    assert (segment.file_sha256, segment.last_position) == (_digest(log.directory, segment), 20)
    assert log.verify().ok
    log.close()


def test_a_hashing_that_fails_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_pieces: None
) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    extend = digests.GrowingDigest.extend

    def failing(digest: digests.GrowingDigest, descriptor: int, end: int) -> None:
        extend(digest, descriptor, end)
        raise OSError(5, os.strerror(5))

    with monkeypatch.context() as patched:
        patched.setattr(digests.GrowingDigest, "extend", failing)
        for number in range(1, 11):
            append(log, draft(number))
    rotate(log)
    segment = _closed(log.directory)
    assert segment.file_sha256 == _digest(log.directory, segment)
    log.close()


def test_a_file_that_is_shorter_than_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    digest = digests.GrowingDigest()
    with path.open("rb") as file:
        with pytest.raises(OSError, match="ends at byte 3, not 4"):
            digest.extend(file.fileno(), 4)
        assert digest.size == 0
        digest.extend(file.fileno(), 3)
    assert digest.followed_by(b"d") == hashlib.sha256(b"abcd").hexdigest()


def test_a_sealing_decodes_some_commits_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "_SMALL_BATCHES_MAX", 3)
    monkeypatch.setattr(sealing, "ROWS_PER_GROUP", 10)
    monkeypatch.setattr("eventstore.log.followed_segment._MESSAGES_MAX", 4)
    log = DirectoryLog.create(tmp_path / "store")
    for number in range(1, 26):
        append(log, draft(number))
    before, decoded = list(log.commits()), []
    read_batches = ipc_stream.read_batches

    def counting(data: memoryview, ends: list[int], start: int) -> Any:
        decoded.append(len(ends))
        return read_batches(data, ends, start)

    for module in (sealing, ipc_stream):
        monkeypatch.setattr(module, "read_batches", counting)
    assert [record for batch in log.scan() for record in records_of(batch)] == [
        record for commit in before for record in commit.records
    ]
    # Four at a time are found, and decoded three at a time.
    assert set(decoded) == {3, 1}
    rotate(log)
    decoded.clear()
    assert list(log.commits()) == before
    log.seal()
    assert list(log.commits()) == before
    assert set(decoded) == {3, 1}
    assert log.verify().ok
    log.close()


@pytest.mark.parametrize("state", ["sealed", "closed"])
def test_a_put_does_not_wait_for_a_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """Another thread appends while one is in the midst of reading a segment."""
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1), draft(2))
    (log.seal if state == "sealed" else lambda: rotate(log))()
    check = log._closed.check

    def appending(segment: Segment) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(append, log, draft(10 + log.position)).result(timeout=30)
        check(segment)

    monkeypatch.setattr(log._closed, "check", appending)
    asked = [
        lambda: list(log.scan(0, 2)),
        lambda: list(log.commits(0, 2)),
        lambda: log.commit_end(1),
        lambda: log.check_closed(),
    ]
    for number, ask in enumerate(asked, start=3):
        ask()
        assert log.position == number
    log.close()


def test_a_put_does_not_wait_for_the_room_of_a_long_file(
    filled: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sealed is removed while it is open: its room is given back after puts go on."""
    replace_segment, stay_open = filled._replace_segment, []

    def replacing(segment: Segment, sealed: Segment, prepared: Path) -> None:
        replace_segment(segment, sealed, prepared)
        removed = f"{filled._folder / segment.file} (deleted)"
        stay_open.append(removed in map(os.readlink, Path("/proc/self/fd").iterdir()))

    monkeypatch.setattr(filled, "_replace_segment", replacing)
    filled.seal()
    assert stay_open == [True]


def test_a_sealing_gives_puts_their_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    append(log, *map(draft, range(1, 101)))
    for number in range(101, 201):
        append(log, draft(number))
    given: list[float] = []
    monkeypatch.setattr(turns, "time", SimpleNamespace(sleep=given.append))
    log.seal()
    # Of 101 messages, and of 200 records.
    assert len(given) >= 101 // 64 + 200 // 64
    log.close()
