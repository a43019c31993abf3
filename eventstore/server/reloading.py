"""What is made of files, and made again when they have changed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from eventstore.errors import StatusError
from eventstore.late_logger import late_logger

_Made = TypeVar("_Made")

_Identity: TypeAlias = tuple[tuple[int, ...] | None, ...]

_LOGGER = late_logger("eventstore.server")


class Reloaded(Generic[_Made]):
    """What `make` makes of files, by now. Safe to use from several threads."""

    def __init__(self, files: Sequence[Path], make: Callable[[], _Made]) -> None:
        """`make` raises the classes of `eventstore.errors`; so does this."""
        self._files = files
        self._make = make
        self._lock = threading.Lock()
        self._identity = _identity_of(files)
        self._made = make()

    def now(self) -> _Made:
        """What the files say. While they cannot be used it is what they said before."""
        if _identity_of(self._files) != self._identity:
            with self._lock:
                # Before it is read: what is written meanwhile is another change.
                identity = _identity_of(self._files)
                if identity != self._identity:
                    self._make_again(identity)
        return self._made

    def _make_again(self, identity: _Identity) -> None:
        names = ", ".join(map(str, self._files))
        try:
            self._made = self._make()
            _LOGGER.warning("%s: changed, and in use from now on", names)
        except StatusError as error:
            _LOGGER.error(
                "%s: WHAT CHANGED IS NOT IN USE, but what was there before: %s", names, error
            )
        self._identity = identity


def _identity_of(files: Sequence[Path]) -> _Identity:
    return tuple(map(_identity_of_one, files))


def _identity_of_one(file: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
