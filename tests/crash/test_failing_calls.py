"""Calls of the operating system fail once each, in this process: a promise is kept or not given."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from eventstore import errors
from eventstore.log import DirectoryLog, PositionConflictError
from eventstore.log.os_errors import translating
from eventstore.log.verification import verify_directory
from tests.builders import draft


class Story:
    """The life of two handles: what they were told, and what went wrong."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tried: list[int] = []
        self.acknowledged: list[int] = []
        self.refusals: list[errors.StatusError] = []
        self._logs: list[DirectoryLog] = []

    def tell(self) -> None:
        first = self._opened(lambda: DirectoryLog.create(self.directory))
        self._append(first, 2)
        self._attempt(lambda: self._reserve_and_append(first))
        self._attempt(first.seal)
        self._append(first, 1)
        second = self._opened(lambda: DirectoryLog.open(self.directory))
        self._append(second, 1)
        for log in (first, second):
            self._attempt(log.refresh)
            self._attempt(lambda log=log: self._read(log))
        self._append(first, 1)
        self._attempt(second.seal)
        self._append(second, 1)
        self._attempt(lambda: self._read(first))
        for log in self._logs:
            log.close()

    def check(self) -> None:
        """All that was acknowledged is there, in order, and nothing that was not tried."""
        log = DirectoryLog.open(self.directory)
        found = [record.entity_id for commit in log.commits() for record in commit.records]
        assert [n for n in found if n in self.acknowledged] == self.acknowledged
        assert [n for n in self.tried if n in found] == found
        log.append([draft(99)], expected_position=log.position)
        log.seal()
        log.close()
        assert verify_directory(self.directory).findings == []

    def _opened(self, opening: Callable[[], DirectoryLog]) -> DirectoryLog:
        def translated() -> DirectoryLog:
            with translating("opening", self.directory):
                return opening()

        log = self._attempt(translated) or self._again(opening)
        self._logs.append(log)
        return log

    def _again(self, opening: Callable[[], DirectoryLog]) -> DirectoryLog:
        try:
            return opening()
        except errors.AlreadyExistsError:
            return DirectoryLog.open(self.directory)

    def _attempt(self, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except errors.StatusError as error:
            self.refusals.append(error)
            return None

    def _append(self, log: DirectoryLog, records: int) -> None:
        ids = [*range(len(self.tried) + 1, len(self.tried) + 1 + records)]
        self.tried += ids

        def put() -> None:
            for _ in range(3):
                try:
                    log.refresh()
                    log.append([draft(n) for n in ids], expected_position=log.position)
                except PositionConflictError:
                    continue
                self.acknowledged += ids
                return

        self._attempt(put)

    def _reserve_and_append(self, log: DirectoryLog) -> None:
        log.reserved(lambda: self._append(log, 1))

    def _read(self, log: DirectoryLog) -> None:
        found = [record.entity_id for commit in log.commits() for record in commit.records]
        assert [n for n in found if n in self.acknowledged] == self.acknowledged[: len(found)]
        assert found == [
            n for batch in log.scan(columns=["entity_id"]) for n in batch["entity_id"].to_pylist()
        ]
        assert log.recorded_at(1) <= log.recorded_at(log.position)


@pytest.mark.share(3)
@pytest.mark.parametrize(
    ("module", "name", "code", "step"),
    [
        (os, "fdatasync", errno.EIO, 1),
        (os, "fsync", errno.EIO, 2),
        (os, "ftruncate", errno.EIO, 1),
        (os, "open", errno.EACCES, 5),
        (os, "pread", errno.EIO, 11),
        (os, "pwrite", errno.ENOSPC, 2),
        (os, "replace", errno.EIO, 1),
        (os, "unlink", errno.EIO, 2),
        (fcntl, "flock", errno.EIO, 2),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_call_fails_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    name: str,
    code: int,
    step: int,
) -> None:
    for sync in ("fdatasync", "fsync"):
        # The disk is not asked what it holds.
        monkeypatch.setattr(os, sync, lambda _: None)
    called = getattr(module, name)
    for failing in count(1, step):
        calls = count(1)

        def call(*arguments: Any, calls: Any = calls, failing: int = failing, **more: Any) -> Any:
            if name == "flock" and arguments[1] == fcntl.LOCK_UN:
                return called(*arguments, **more)
            if next(calls) == failing:
                raise OSError(code, os.strerror(code))
            return called(*arguments, **more)

        story = Story(tmp_path / f"{failing}")
        with monkeypatch.context() as patched:
            patched.setattr(module, name, call)
            story.tell()
        story.check()
        if next(calls) <= failing:
            # It was not called that often: nothing has failed.
            assert story.refusals == []
            assert story.acknowledged == story.tried
            assert failing > step
            return
