"""Whatever the system refuses, wherever: an error of the API's, and what can go on goes on."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventstore import errors
from eventstore.log import DirectoryLog, sealing
from eventstore.log.verification import verify_directory
from tests.builders import append, draft


def _refused(*_: object, **__: object) -> Any:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def log(tmp_path: Path) -> DirectoryLog:
    """A log with a sealed, a closed and an active segment."""
    made = DirectoryLog.create(tmp_path / "store")
    append(made, draft(1), draft(2))
    made.seal()
    append(made, draft(3), draft(4))

    def rotate() -> None:
        made._active.append_end_of_stream()
        made._start_next_segment()

    made._write(rotate)
    append(made, draft(5), draft(6))
    return made


@pytest.mark.parametrize(
    ("owner", "name", "words", "ask"),
    [
        ("_active", "catch_up", "reading .*/log failed", lambda log: log.refresh()),
        ("_active", "batches", "reading .*3.arrows failed", lambda log: list(log.scan(4))),
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


@pytest.mark.parametrize("name", ["file_sha256", "read_closed"])
def test_a_rotation_that_cannot_read_back(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sealing, name, _refused)
        with pytest.raises(errors.UnavailableError, match=r"sealing in .*/log failed"):
            log.seal()
    log.seal()
    assert [segment.state for segment in log.segments()] == ["sealed"] * 3 + ["active"]
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
