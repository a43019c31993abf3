"""How much memory a query may take."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

_CONTAINER_FILES: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""What Linux says of a container, by version 2 and 1 of its control groups."""


@cache
def memory_limit_bytes() -> int:
    """Half of what the machine has, or the container, where that has less."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in _CONTAINER_FILES:
        # Without a limit it is not there, or says `max`.
        with suppress(OSError, ValueError):
            whole = min(whole, int(file.read_text()))
    return whole // 2
