"""The time that locks and expiry go by."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from eventstore.log import Log
from eventstore.log.os_errors import translating
from eventstore.times import Microseconds, now_in_microseconds


def trusted_now(log: Log) -> Microseconds:
    """The earlier of this process's clock and that of the file system which has the log.

    Moving the clock of one process on frees nothing. Who can set the clock of the machine, or of
    the file server, can; but the erasure is recorded with that time, and checkpoints with
    cosignatures or timestamps show that it was not so late. Raises `eventstore.errors` classes
    where the file system does not tell: one clock alone is not believed.
    """
    if log.cache_folder() is None:
        return now_in_microseconds()
    with translating("asking for the time", Path(log.name)):
        folder = log.cache_folder(make=True)
        assert folder is not None
        return min(now_in_microseconds(), _time_of_file_system(folder))


def _time_of_file_system(folder: Path) -> Microseconds:
    with tempfile.NamedTemporaryFile(dir=folder, prefix="clock.", suffix=".tmp") as file:
        file.write(b"\0")
        file.flush()
        return Microseconds(os.fstat(file.fileno()).st_mtime_ns // 1_000)
