"""Whether the paths of an open store still lead to what was opened."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from eventstore.log.manifest import MANIFEST_NAME

_TICK_SECONDS: Final = 0.05
"""How long the clock of a file system may stand still."""

_COARSE_TICK_SECONDS: Final = 2.1
"""The same where times have whole seconds only."""


class StorePlace:
    """A store's log folder and manifest, as they were when all was last found right.

    Recognized by their times of change, which nobody can set. Times of modification would not do,
    since copying tools set them, nor inode numbers, which are given again.
    """

    def __init__(self, directory: Path, folder: Path) -> None:
        self._folder_path = os.fspath(folder)
        self._manifest_path = os.fspath(directory / MANIFEST_NAME)
        self._folder: tuple[int, ...] | None = None
        self._manifest: tuple[int, ...] | None = None
        self._found: tuple[tuple[int, ...], tuple[int, ...]] | None = None
        self._seen: tuple[int, ...] | None = None
        self._seen_at = 0.0

    def is_as_known(self) -> bool:
        """Whether neither the folder's entries nor the manifest have changed since `remember`."""
        try:
            folder, manifest = os.stat(self._folder_path), os.stat(self._manifest_path)
        except OSError:
            self._found = None
            return False
        found = self._found = (
            (folder.st_dev, folder.st_ino, folder.st_ctime_ns),
            (manifest.st_ino, manifest.st_size, manifest.st_ctime_ns),
        )
        return found[0] == self._folder and found[1] == self._manifest

    def has_known_manifest(self) -> bool:
        """Whether the manifest that `is_as_known` has found is the one that is known."""
        return self._found is not None and self._found[1] == self._manifest

    def remember(self) -> None:
        """Know what `is_as_known` has found; a folder once its next change has another time."""
        if self._found is not None:
            folder, self._manifest = self._found
            # By this process's own clock: that of a file server may be another.
            now = time.monotonic()
            if folder != self._seen:
                self._seen, self._seen_at = folder, now
            tick = _TICK_SECONDS if folder[2] % 1_000_000_000 else _COARSE_TICK_SECONDS
            self._folder = folder if now - self._seen_at > tick else None
