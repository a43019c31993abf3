"""Make durable what was written, and which files a folder has."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

_hear_of_sync: Callable[[float], object] | None = None


def when_synced(hear: Callable[[float], object] | None) -> None:
    """Have it told how many seconds each sync of commits takes in this process; None for nobody."""
    global _hear_of_sync
    _hear_of_sync = hear


def sync_content(descriptor: int) -> None:
    """Make a file's content durable."""
    began = time.perf_counter()
    if hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:
        os.fsync(descriptor)
    if _hear_of_sync is not None:
        _hear_of_sync(time.perf_counter() - began)


def sync_directory(directory: Path) -> None:
    """Make the directory's entries durable, where the operating system can."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
