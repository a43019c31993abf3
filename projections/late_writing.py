"""Keep who has not noticed an erasure from writing what it erased into caches late.

Whoever makes, names or writes to a file of a store's caches does so under a lock that all of them
share, and looks at the log once the lock is held: what is erased by then is not written. Whoever
completes an erasure, which is recorded before, takes the lock alone for a moment: all who looked
before it was recorded are through then, and what they wrote is there to be found.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

from eventstore.log.file_lock import exclusive_in_time, shared

_LOCK_NAME: Final = "writing.lock"

WAITED_SECONDS_MAX: Final = 10.0


def writing_in(folder: Path) -> io.FileIO:
    """Held, as by `with`, while files of the caches in a folder are made, named or written to."""
    return shared(folder / _LOCK_NAME)


def wait_for_writers(folder: Path) -> None:
    """Wait until all who are writing into a folder of caches now are through.

    Raises UnavailableError when one of them does not go on.
    """
    if folder.is_dir():
        doing = f"writing into {folder}"
        exclusive_in_time(folder / _LOCK_NAME, doing, WAITED_SECONDS_MAX).close()
