"""An interrupt (Ctrl-C) wherever Python takes one leaves no lock of the writers held."""

from __future__ import annotations

import contextlib
import linecache
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from eventstore.log import DirectoryLog
from tests.builders import append, draft

CASES_MAX = int(os.environ.get("EVENTSTORE_INTERRUPTS", "20"))
"""How many places of each kind of use are interrupted, at even distances."""

_WATCHED = (
    "/contextlib.py",
    "eventstore/log/active_segment.py",
    "eventstore/log/followed_segment.py",
    "eventstore/log/directory.py",
    "eventstore/log/directory_writer.py",
    "eventstore/log/file_lock.py",
    "eventstore/log/writers_lock.py",
)


class _Interrupting:
    """Raises KeyboardInterrupt at the n-th place.

    Places are where Python takes signals, the beginning of a function and the return from one of
    C, and moreover every line, but not that of a `with` which is traced again as it ends.
    """

    def __init__(self, at: int) -> None:
        self.at, self.places = at, 0
        self.place = ""

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        traced, profiled = sys.gettrace(), sys.getprofile()
        sys.setprofile(self._profile)
        sys.settrace(self._trace)
        try:
            yield
        finally:
            sys.settrace(traced)
            sys.setprofile(profiled)

    def _profile(self, frame: FrameType, event: str, _arg: object) -> None:
        if event in ("call", "c_return"):
            self._count(frame, event)

    def _trace(self, frame: FrameType, event: str, _arg: object) -> Any:
        if not frame.f_code.co_filename.endswith(_WATCHED[1:]):
            return None
        source = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and not source.lstrip().startswith("with "):
            self._count(frame, event)
        return self._trace

    def _count(self, frame: FrameType, event: str) -> None:
        path = frame.f_code.co_filename
        if not path.endswith(_WATCHED) or frame.f_back is None or self._is_own(frame):
            return
        self.places += 1
        if self.places == self.at:
            self.place = f"{event} of {frame.f_code.co_qualname}, line {frame.f_lineno}"
            sys.settrace(None)
            sys.setprofile(None)
            raise KeyboardInterrupt

    def _is_own(self, frame: FrameType) -> bool:
        """Whether it is the end of the tracing itself."""
        back = frame.f_back
        return frame.f_code.co_filename.endswith("contextlib.py") and (
            back is not None and back.f_code.co_filename == __file__
        )


def _opened(directory: Path) -> DirectoryLog:
    log = DirectoryLog.open(directory, segment_records_max=2)
    log._seal_closed_in_background = lambda: None  # type: ignore[method-assign]
    return log


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A store that rotates with the next put."""
    directory = tmp_path / "prepared"
    log = DirectoryLog.create(directory, segment_records_max=2)
    append(log, draft(1), draft(2))
    log.close()
    return directory


def _put(log: DirectoryLog) -> None:
    append(log, draft(3))


def _put_reserved(log: DirectoryLog) -> None:
    log.reserved(lambda: append(log, draft(3)))


def _seal(log: DirectoryLog) -> None:
    log.seal()


def _close(log: DirectoryLog) -> None:
    log.close()


def _open_another(log: DirectoryLog) -> None:
    _opened(log.directory).close()


def _read_unacknowledged(log: DirectoryLog) -> None:
    """Read what nobody acknowledged, for which readers share the lock."""
    (log.directory / "log" / "acknowledged").unlink()
    DirectoryLog.open(log.directory, read_only=True).close()


def _is_free(log: DirectoryLog) -> bool:
    """Whether another thread, or log, can write at once."""
    found: list[bool] = []

    def write() -> None:
        with contextlib.suppress(BlockingIOError):
            log._write(lambda: None, wait=False)
            found.append(True)

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    return bool(found)


@pytest.mark.share(2)
@pytest.mark.parametrize(
    "act", [_put, _put_reserved, _seal, _close, _open_another, _read_unacknowledged]
)
def test_an_interrupt_leaves_no_lock_held(
    prepared: Path, act: Callable[[DirectoryLog], None]
) -> None:
    directory = prepared.with_name("store")

    def case(at: int) -> int:
        """How many places there were; one of them is interrupted."""
        shutil.copytree(prepared, directory)
        interrupting = _Interrupting(at)
        log, other = _opened(directory), _opened(directory)
        # Kept, as an interactive session keeps its last error with all frames.
        kept = None
        try:
            with interrupting():
                act(log)
        except KeyboardInterrupt as error:
            kept = error
        assert (kept is not None) == bool(at), interrupting.place
        assert _is_free(other), interrupting.place
        if act is _close:
            log.close()
        else:
            log.refresh()
            assert _is_free(log), interrupting.place
            append(log, draft(log.position + 1))
        other.refresh()
        append(other, draft(other.position + 1))
        # Waits for a lock that was left, until the whole test's time is over.
        other.seal()
        assert at or other.verify().ok
        other.close()
        log.close()
        del kept
        shutil.rmtree(directory)
        return interrupting.places

    places = case(0)
    assert places > 20
    for at in range(1, places + 1, max(1, places // CASES_MAX)):
        case(at)
