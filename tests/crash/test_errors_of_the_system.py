"""Whatever the system refuses, wherever: an error of the API's, and what can go on goes on."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from eventstore import errors
from eventstore.log import DirectoryLog, sealing
from eventstore.log.growing_digest import GrowingDigest
from eventstore.log.verification import verify_directory
from tests.builders import append, draft, rotate


def _refused(*_: object, **__: object) -> Any:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def log(tmp_path: Path) -> DirectoryLog:
    """A log with a sealed, a closed and an active segment."""
    made = DirectoryLog.create(tmp_path / "store")
    append(made, draft(1), draft(2))
    made.seal()
    append(made, draft(3), draft(4))
    rotate(made)
    append(made, draft(5), draft(6))
    return made


@pytest.mark.parametrize(
    ("owner", "name", "words", "ask"),
    [
        ("_active", "catch_up", "reading .*/log failed", lambda log: log.refresh()),
        ("_active", "messages", "reading .*3.arrows failed", lambda log: list(log.scan(4))),
        ("_closed", "batches", "reading .*1.parquet failed", lambda log: list(log.commits())),
        ("_closed", "batches", "reading .*2.arrows failed", lambda log: list(log.scan(2))),
        ("_closed", "commit_end", "reading .*1.parquet failed", lambda log: log.commit_end(1)),
        ("_closed", "recorded_at", "reading .*1.parquet failed", lambda log: log.recorded_at(1)),
        ("_closed", "check", "reading .*1.parquet failed", lambda log: log.check_closed()),
        (
            *("_closed", "position_at", "reading .*1.parquet failed"),
            lambda log: log.position_at(log.manifest.segments[0].first_recorded_at),
        ),
    ],
)
def test_a_read_that_fails(
    log: DirectoryLog,
    monkeypatch: pytest.MonkeyPatch,
    owner: str,
    name: str,
    words: str,
    ask: Callable[[DirectoryLog], object],
) -> None:
    if name == "catch_up":
        monkeypatch.setattr(log._active, "is_up_to_date", lambda: False)
    monkeypatch.setattr(getattr(log, owner), name, _refused)
    with pytest.raises(errors.UnavailableError, match=words):
        ask(log)
    monkeypatch.undo()
    ask(log)
    log.close()


def test_a_store_that_may_not_be_looked_at(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.close()
    stat = Path.stat

    def forbidden(path: Path, **named: Any) -> os.stat_result:
        if path == log.directory / "manifest.json":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return stat(path, **named)

    monkeypatch.setattr(Path, "stat", forbidden)
    with pytest.raises(errors.PermissionDeniedError, match=r"opening .*/store failed"):
        DirectoryLog.open(log.directory)


@pytest.mark.parametrize(
    ("place", "name", "words"),
    [
        (GrowingDigest, "extend", "sealing in .*/log failed"),
        (sealing, "closed_batches", "sealing in .*/log failed"),
        (sealing, "file_sha256", "writing .*2.parquet.* failed"),
    ],
)
def test_a_rotation_or_sealing_that_cannot_read_back(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch, place: object, name: str, words: str
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(place, name, _refused)
        with pytest.raises(errors.UnavailableError, match=words):
            log.seal()
    log.seal()
    assert [segment.state for segment in log.segments()] == ["sealed"] * 3 + ["active"]
    assert log.verify().ok
    log.close()


def test_where_arrow_can_start_no_thread_nothing_is_damaged(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> Any:
        raise pa.ArrowException("Unknown error: Failed to launch worker thread: try again")

    asked: list[Callable[[], object]] = [
        log.verify,
        log.seal,
        lambda: list(log.scan(0, 2, ["properties"])),
        lambda: log.backup(log.directory.with_name("backup")),
    ]
    with monkeypatch.context() as patched:
        patched.setattr(parquet.ParquetFile, "read_row_group", refused)
        for ask in asked:
            with pytest.raises(errors.ResourceExhaustedError, match=r"launch worker thread.*retry"):
                ask()
    for ask in asked:
        ask()
    assert log.verify().ok
    log.close()


def test_a_sealing_that_may_not_be_locked(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def refusing(file: Any, operation: int) -> None:
        if not isinstance(file, int):
            _refused()
        flock(file, operation)

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", refusing)
        with pytest.raises(errors.UnavailableError, match=r"sealing in .*/log failed"):
            log.seal()
    log.seal()
    log.close()


@pytest.mark.parametrize("error", [OSError(errno.EIO, "no"), errors.UnavailableError("no")])
def test_room_that_is_not_given_back(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing() -> None:
        raise error

    monkeypatch.setattr(log._active, "give_back_room", failing)
    log.close()
    assert log._active._descriptor < 0
    assert verify_directory(log.directory).ok


def test_a_temporary_file_that_cannot_be_removed(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink

    def refusing(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".tmp":
            _refused()
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refusing)
    log.seal()
    assert [segment.state for segment in log.segments()] == ["sealed"] * 3 + ["active"]
    log.close()


def test_a_put_that_rotates_as_the_interpreter_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = DirectoryLog.create(tmp_path / "store", segment_records_max=1)
    append(log, draft(1))
    append(log, draft(2))
    assert log._sealer is not None

    def refused(_: object) -> None:
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr(log._sealer, "submit", refused)
    append(log, draft(3))
    assert log.position == 3
    log.close()
    assert verify_directory(log.directory).ok


def test_leftovers_are_left_to_whoever_seals(log: DirectoryLog) -> None:
    stream = log.directory / "log" / "0000000002.arrows"
    kept = stream.read_bytes()
    log.seal()
    log.close()
    stream.write_bytes(kept)
    with (log.directory / "sealing.lock").open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        DirectoryLog.open(log.directory).close()
        assert stream.exists()
    DirectoryLog.open(log.directory).close()
    assert not stream.exists()


@pytest.mark.parametrize("number", [1, 2])
def test_a_closed_segment_that_cannot_be_hashed(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    segment = log.manifest.segments[number - 1]
    monkeypatch.setattr(sealing, "file_sha256", _refused)
    with pytest.raises(errors.UnavailableError, match=f"reading .*/{segment.file} failed"):
        list(log.scan(segment.first_position - 1, segment.last_position))
    monkeypatch.undo()
    assert sum(len(batch) for batch in log.scan()) == 6
    log.close()


# The active segment


def test_a_file_that_cannot_be_looked_at_is_not_up_to_date(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", _refused)
        assert not log._active.is_up_to_date()
        with pytest.raises(errors.UnavailableError, match=r"reading .*/log failed"):
            log.refresh()
    assert not log.refresh()
    log.close()
    with pytest.raises(errors.FailedPreconditionError, match="is closed: open it again"):
        log.refresh()


def _unacknowledged(log: DirectoryLog) -> None:
    """Append a commit that nobody acknowledges, as by a writer that dies."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(log, "_acknowledge", lambda frontier: None)
        append(log, draft(7))


@pytest.mark.parametrize("operation", [fcntl.LOCK_SH, fcntl.LOCK_UN])
def test_where_nothing_can_be_locked_nobody_writes(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch, operation: int
) -> None:
    reader = DirectoryLog.open(log.directory, read_only=True)
    _unacknowledged(log)
    flock = fcntl.flock

    def refusing(file: Any, asked: int) -> None:
        if asked & operation:
            _refused()
        flock(file, asked)

    monkeypatch.setattr(fcntl, "flock", refusing)
    assert reader.refresh()
    assert reader.position == 7
    assert not reader._active.has_unacknowledged
    reader.close()


def test_a_reader_keeps_no_lock(log: DirectoryLog) -> None:
    reader = DirectoryLog.open(log.directory, read_only=True)
    _unacknowledged(log)
    assert reader.refresh()
    with (log.directory / "log" / "0000000003.arrows").open("rb") as file:
        log._lock.close()
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    reader.close()


def test_a_segment_that_was_cut_while_it_is_open(log: DirectoryLog) -> None:
    path = log.directory / "log" / "0000000003.arrows"
    reader = DirectoryLog.open(log.directory, read_only=True)
    end = reader._active.end
    log.close()
    os.truncate(path, end)
    assert not reader.refresh()
    os.truncate(path, end - 1)
    words = f"it ends at byte {end - 1}, but commits up to byte {end} were read from it before"
    with pytest.raises(errors.DataLossError, match=words):
        reader.refresh()
    reader.close()


def test_ends_of_commits_that_cannot_be_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.log.active_segment.BLOCK_COMMITS", 2)
    log = DirectoryLog.create(tmp_path / "store")
    noted = tmp_path / "store" / "log" / "commit-ends"
    with monkeypatch.context() as patched:
        patched.setattr("eventstore.log.active_segment.write_commit_ends", _refused)
        for number in range(1, 6):
            append(log, draft(number))
    assert log.position == 5
    assert not noted.exists()
    append(log, draft(6))
    assert noted.exists()
    log.close()


@pytest.mark.parametrize("name", ["ftruncate", "fsync"])
def test_an_end_of_a_segment_that_cannot_be_written(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path, call, calls = log._active.path, getattr(os, name), []

    def first_refused(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 1:
            _refused()
        call(*arguments)

    end = log._active.end
    with monkeypatch.context() as patched:
        patched.setattr(os, name, first_refused)
        with pytest.raises(errors.UnavailableError, match=r"closing .*3.arrows failed"):
            log.seal()
    # Nothing says that the segment has ended.
    assert len(calls) > 1
    assert path.stat().st_size == end
    append(log, draft(7))
    assert log._active.path == path
    assert DirectoryLog.open(log.directory).position == 7
    log.seal()
    assert log.verify().ok
    log.close()


def test_a_put_that_is_written_in_parts(log: DirectoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite

    def partly(descriptor: int, data: bytes, offset: int) -> int:
        return pwrite(descriptor, data[: max(1, len(data) // 3)], offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", partly)
        append(log, draft(7, name="x" * 20_000))
        append(log, draft(8))
    log.close()
    assert verify_directory(log.directory).ok
    assert DirectoryLog.open(log.directory).position == 8


def test_a_put_of_which_a_part_alone_can_be_written(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite, active = os.pwrite, log._active.path

    def stuck(descriptor: int, data: bytes, offset: int) -> int:
        if not os.path.samestat(os.fstat(descriptor), active.stat()):
            return pwrite(descriptor, data, offset)
        return pwrite(descriptor, data[:100], offset) if offset == log._active.end else 0

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", stuck)
        with pytest.raises(errors.UnavailableError, match=r"appending to .*3.arrows failed"):
            append(log, draft(7, name="x" * 20_000))
    assert active.stat().st_size == log._active.end
    log.close()
    log = DirectoryLog.open(log.directory)
    append(log, draft(7))
    assert log.verify().ok
    log.close()


def test_a_torn_tail_is_cut_durably(log: DirectoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    path, end = log._active.path, log._active.end
    log.close()
    with path.open("ab") as file:
        file.write(b"\xff\xff\xff\xff\x10")
    calls = []
    for name in ("ftruncate", "fsync"):
        call = getattr(os, name)

        def observing(descriptor: int, *rest: Any, name: str = name, call: Any = call) -> None:
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                calls.append((name, path.stat().st_size, *rest))
            call(descriptor, *rest)

        monkeypatch.setattr(os, name, observing)
    log = DirectoryLog.open(log.directory)
    assert calls == [("ftruncate", end + 5, end), ("fsync", end)]
    append(log, draft(7))
    log.close()
