"""Read a log in a directory: the records, which segment has them, and where caches lie."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

from eventstore import errors
from eventstore.log.closed_segments import sealed_files, segment_of
from eventstore.log.creation import CACHE_FOLDER
from eventstore.log.followed_directory import FollowedDirectory, opened
from eventstore.log.log import SealedFile, SegmentInfo
from eventstore.log.manifest import (
    IF_COPIED,
    MANIFEST_NAME,
    Manifest,
    Segment,
    read_manifest,
)
from eventstore.log.os_errors import translating
from eventstore.log.segmented_reader import SegmentedReader, Tail
from eventstore.times import Microseconds


class DirectoryReader(FollowedDirectory, SegmentedReader):
    """A log in a directory, to read. `DirectoryLog` adds the writing."""

    @property
    def _tail(self) -> Tail:
        return self._active

    def segments(self) -> list[SegmentInfo]:
        newest = self._manifest_on_disk()
        with self._mutex:
            # One in which the active segment goes on as another process has sealed or merged some.
            goes_on = newest.active.number == self._active.number
            closed = newest.segments if goes_on else self._manifest.segments
            return [
                *(
                    SegmentInfo(
                        segment.number,
                        "sealed" if segment.sealed else "closed",
                        segment.first_position,
                        segment.last_position,
                        segment.file_bytes,
                        self._folder / segment.file,
                    )
                    for segment in closed
                ),
                SegmentInfo(
                    self._active.number,
                    "active",
                    self._active.first_position,
                    self._active.last_position,
                    self._active.end,
                    self._active.path,
                ),
            ]

    def check_closed(self) -> None:
        """Compare closed and sealed segments with the manifest. Raises DataLossError."""
        for segment in self._segments():
            self._in_segment(segment.first_position, self._closed.check)

    def sealed_files(self) -> list[SealedFile]:
        return sealed_files(self._folder, self._manifest_on_disk().segments)

    def _manifest_on_disk(self) -> Manifest:
        """The newest one: others seal and merge segments, of which nobody who reads is told."""
        manifest = read_manifest(self.directory)
        if manifest.store_id != self.store_id:
            raise self._replaced(manifest)
        return manifest

    def now(self) -> Microseconds:
        from eventstore.log.file_clock import trusted_now

        with translating("asking for the time", self.directory):
            return trusted_now(self.cache_folder(make=True))

    def cache_folder(self, *, make: bool = False) -> Path:
        folder = self.directory / CACHE_FOLDER
        if make and not folder.is_dir():
            if not (self.directory / MANIFEST_NAME).exists():
                raise FileNotFoundError(
                    errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(self.directory)
                )
            folder.mkdir(exist_ok=True)
        return folder

    def _segments(self) -> tuple[Segment, ...]:
        """The closed and sealed ones."""
        with self._mutex:
            return self._manifest.segments

    def _place_of(self, segment: Segment) -> Path:
        return self._folder / segment.file

    def _follow(self, moved: Segment) -> None:
        """Learn where a segment is that another process has sealed after we read the manifest."""
        with self._mutex, translating("reading", self.directory):
            if segment_of(self._manifest.segments, moved.first_position) == moved:
                self._reload_manifest()
            if segment_of(self._manifest.segments, moved.first_position) == moved:
                raise errors.DataLossError(
                    f"segment {moved.number} (positions {moved.first_position} to "
                    f"{moved.last_position}) is missing: {self._folder / moved.file}; {IF_COPIED}, "
                    "else restore it from a backup"
                )


def open_reader(directory: Path) -> DirectoryReader:
    """The log in a directory, for a caller that closes it. Raises what `opened` does."""
    return opened(directory, partial(DirectoryReader, directory, read_only=True))
