"""Whether something leaves files open."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager


def open_files() -> list[str]:
    """The numbers of all files that this process has open."""
    return sorted(os.listdir("/dev/fd"))


@contextmanager
def nothing_left_open() -> Iterator[None]:
    """Assert that what is opened in the block is closed in it."""
    # What earlier tests left in cycles may have files open, and would be closed at any moment.
    gc.disable()
    try:
        before = open_files()
        yield
        assert open_files() == before
    finally:
        gc.enable()
