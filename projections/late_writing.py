"""Keep who has not noticed an erasure from writing what it erased into caches late.

Whoever makes, names or writes to a file of a store's caches does so under a lock that all of them
share, and looks at the log once the lock is held: what is erased by then is not written. Whoever
completes an erasure, which is recorded before, takes the lock alone for a moment: all who looked
before it was recorded are through then, and what they wrote is there to be found.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
from pathlib import Path
from typing import Final

from eventstore.errors import UnavailableError
from eventstore.log.file_lock import exclusive, shared

_LOCK_NAME: Final = "writing.lock"
_LOCKS: Final = Path("/proc/locks")

WAITED_SECONDS_MAX: Final = 10.0
_LOOKED_EVERY_SECONDS: Final = 0.01


def writing_in(folder: Path) -> io.FileIO:
    """Held, as by `with`, while files of the caches in a folder are made, named or written to."""
    return shared(folder / _LOCK_NAME)


def wait_for_writers(folder: Path) -> None:
    """Wait until all who are writing into a folder of caches now are through.

    Raises UnavailableError when one of them does not go on.
    """
    end = time.monotonic() + WAITED_SECONDS_MAX
    while folder.is_dir():
        try:
            exclusive(folder / _LOCK_NAME, wait=False).close()
            return
        except BlockingIOError:
            if time.monotonic() > end:
                numbers = ", ".join(map(str, _processes_with(folder / _LOCK_NAME)))
                who = f"process {numbers}" if numbers else "another process"
                raise UnavailableError(
                    f"{who} has been writing into {folder} for {WAITED_SECONDS_MAX:.0f} s: "
                    "see whether it was stopped or hangs; what is erased may still be in files "
                    "until `eventstore erase --unfinished` is run"
                ) from None
            time.sleep(_LOOKED_EVERY_SECONDS)


def _processes_with(path: Path) -> list[int]:
    """Who has a file locked, as far as the operating system tells."""
    found = set()
    with contextlib.suppress(OSError, ValueError):
        status = os.stat(path)
        device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        for line in _LOCKS.read_text().splitlines():
            words = line.split()
            # One that waits has an arrow first.
            if device in words and words[1] == "FLOCK":
                found.add(int(words[4]))
    return sorted(found)
