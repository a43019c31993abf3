"""The time by a file system, which one process cannot move on."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from eventstore.times import Microseconds, now_in_microseconds


def trusted_now(folder: Path) -> Microseconds:
    """The earlier of this process's clock and that of the file system which has a folder.

    Who can set the clock of the machine, or of the file server, can move it; but what is recorded
    then has that time, and checkpoints with cosignatures or timestamps show that it was not so
    late. Raises OSError where the file system does not tell.
    """
    with tempfile.NamedTemporaryFile(dir=folder, prefix="clock.", suffix=".tmp") as file:
        file.write(b"\0")
        file.flush()
        told = Microseconds(os.fstat(file.fileno()).st_mtime_ns // 1_000)
    return min(now_in_microseconds(), told)
