"""Processes that do what a test tells them, and stop where it says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

_ACTING = """
import os, signal, sys, threading
from pathlib import Path
import eventstore
from eventstore import errors
from eventstore.log import cache_file, sealing
from eventstore.projections import folded_tables, kept_runs, late_writing, point_index, tables_file
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import open_with

is_idle = threading.Event()

def stop_at(owner, name, *, is_after=False):
    # Where a thread of the background comes to it, once the main thread has nothing to do: so it
    # holds no lock of the log.
    real = getattr(owner, name)
    def stopping(*given, **named):
        setattr(owner, name, real)
        found = real(*given, **named) if is_after else None
        if threading.current_thread() is not threading.main_thread():
            is_idle.wait()
        # This thread first: another would let it go on for a moment.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        return found if is_after else real(*given, **named)
    setattr(owner, name, stopping)

def wait_until_written():
    index = store._engine.projections.index
    index._writer.finish_begun()
    index._merger.finish_begun()
    index._writer.finish_begun()

for line in sys.stdin:
    is_idle.clear()
    exec(line)
    print("done", flush=True)
    is_idle.set()
"""


class Actor:
    """A process with a store that it opens, and names that outlive each line it is told."""

    def __init__(self, temporary: Path) -> None:
        """`temporary` is its directory for temporary files."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ACTING],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": os.fspath(temporary)},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def number(self) -> int:
        return self._process.pid

    def begin(self, *lines: str) -> None:
        """Have lines run, and wait for all but the last."""
        assert self._process.stdin is not None
        for number, line in enumerate(lines, 1):
            print(line, file=self._process.stdin, flush=True)
            if number < len(lines):
                self.end()

    def end(self) -> None:
        """Wait until the line that was begun has run."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "done\n"

    def do(self, *lines: str) -> None:
        """Have lines run."""
        self.begin(*lines)
        self.end()

    def await_stop(self) -> None:
        """Wait until it has stopped where it was told to."""
        _, status = os.waitpid(self._process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()
