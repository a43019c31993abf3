"""The files of a store: which there are, and verified copies of them."""

from __future__ import annotations

from pathlib import Path

from eventstore import errors
from eventstore.log import Progress, VerifyReport
from eventstore.log.creation import LOG_FOLDER
from eventstore.log.manifest import read_manifest
from eventstore.store import Engine


class FileMethods:
    """What concerns a store in a directory as files."""

    _engine: Engine

    def segment_files(self) -> list[Path]:
        """The Parquet files that the store consists of, for other tools to read, oldest first.

        A pattern such as `log/*.parquet` would also find what does not belong to the store. What
        was put since the last `seal` may be in none of them. Raises FailedPreconditionError for a
        store in memory, which has no files.
        """
        directory = self._engine.log.directory
        if directory is None:
            raise errors.FailedPreconditionError("a store in memory has no files: use a directory")
        # From the disk, since another process may have sealed some.
        segments = read_manifest(directory).segments
        return [directory / LOG_FOLDER / segment.file for segment in segments if segment.sealed]

    def backup(self, path: str | Path, progress: Progress | None = None) -> VerifyReport:
        """Copy the store to `path`, also while others write to it, and verify the copy.

        It has all that was acknowledged before, synced to disk and checked, and appears when it is
        whole; `progress` is called with (done, in all). Raises AlreadyExistsError when there is
        anything but an empty directory at `path`, DataLossError when a file of the store is
        damaged, FailedPreconditionError for a store in memory.
        """
        from eventstore.log.backup import copy_store

        if self._engine.log.directory is None:
            raise errors.FailedPreconditionError(
                "a store in memory has no files to back up: open one in a directory"
            )
        return copy_store(self._engine.log.directory, Path(path), progress)


def restore(backup: str | Path, path: str | Path, progress: Progress | None = None) -> VerifyReport:
    """Make a store at `path` of what `MetadataStore.backup` has made, and verify it.

    The backup is only read. Raises AlreadyExistsError when there is anything but an empty directory
    at `path`, DataLossError when a file of the backup is damaged, NotFoundError when it is none.
    """
    from eventstore.log.backup import copy_store

    return copy_store(Path(backup), Path(path), progress)
