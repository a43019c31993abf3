"""The time that locks and expiry go by."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from eventstore.log import Log
from eventstore.times import Microseconds, now_in_microseconds


def trusted_now(log: Log) -> Microseconds:
    """The earlier of this process's clock and that of the file system which has the log.

    Moving the clock of one process on frees nothing. Who can set the clock of the machine, or of
    the file server, can; but the erasure is recorded with that time, and checkpoints with
    cosignatures or timestamps show that it was not so late.
    """
    now = now_in_microseconds()
    with contextlib.suppress(OSError):
        folder = log.cache_folder(make=True)
        if folder is not None:
            now = min(now, _time_of_file_system(folder))
    return now


def _time_of_file_system(folder: Path) -> Microseconds:
    with tempfile.NamedTemporaryFile(dir=folder, prefix="clock.", suffix=".tmp") as file:
        file.write(b"\0")
        file.flush()
        return Microseconds(os.fstat(file.fileno()).st_mtime_ns // 1_000)
