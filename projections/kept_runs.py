"""The runs of the point index: written, merged, and built again where they are of no use."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from eventstore.errors import DataLossError, StatusError
from eventstore.late_logger import late_logger
from eventstore.log import Log, content_id
from eventstore.log.cache_file import UnwantedFileError, make_cache_folder, written_whole
from eventstore.log.os_errors import translated, translating
from eventstore.projections.erased_records import ErasedRecords
from eventstore.projections.index_look_ups import Level, LevelLookUps
from eventstore.projections.late_writing import writing_in
from eventstore.projections.limits import IndexLimits
from eventstore.projections.run_file import RunMetadata
from eventstore.projections.run_folder import run_path
from eventstore.projections.run_merging import merge_runs, mergeable
from eventstore.projections.run_table import DamagedRunError
from eventstore.projections.sorted_run import SortedRun

if TYPE_CHECKING:
    from eventstore.log.temporary_folder import TemporaryFolder

_LOGGER = late_logger("eventstore.projections")

_REPAIRS_MAX = 4


class KeptRuns(LevelLookUps):
    """The levels of a point index, of which all but the last are, or become, runs in a folder.

    Without a folder of its own, an index writes runs that are much into a temporary one.
    """

    def __init__(
        self,
        log: Log,
        folder: Path | None,
        levels: tuple[Level, ...],
        limits: IndexLimits,
        erased: ErasedRecords | None,
    ) -> None:
        super().__init__(levels, limits)
        self._log = log
        self._content_id = content_id(log)
        self._folder = folder
        self._temporary: TemporaryFolder | None = None
        self._erased_records = ErasedRecords(log) if erased is None else erased
        self._repairs: Counter[int] = Counter()
        self._renew_locks()

    def _renew_locks(self) -> None:
        self._swap = threading.Lock()
        self._repairing = threading.Lock()

    def after_fork_in_child(self) -> None:
        """What the parent was writing stays in memory in a child."""
        self._renew_locks()
        if self._temporary is not None:
            self._temporary.leave_to_the_parent()
            self._temporary = None

    def _runs(self) -> list[SortedRun]:
        return [level for level in self._levels if isinstance(level, SortedRun)]

    def _merge(self, folder: Path) -> None:
        """Merge runs until none of like size are neighbours. Runs in the background."""
        with self._failures_noted(folder):
            while merging := mergeable(self._runs(), self._limits.run_records_max):
                path = run_path(folder, merging[0].first_position, merging[-1].last_position)
                try:
                    merged = merge_runs(merging, path, self._limits, self._write_run)
                except DamagedRunError as error:
                    self._repair(error)
                    continue
                except UnwantedFileError:
                    # They are built again once the erasure is noticed, and merged at the next run.
                    break
                self._replace(merging, [merged])
                used = {run.path for run in self._runs()}
                for run in (*merging, merged):
                    if run.path.parent == folder and run.path not in used:
                        run.path.unlink(missing_ok=True)

    def _replace(self, replaced: Sequence[Level], runs: Sequence[SortedRun]) -> bool:
        """Replace levels by runs; False when the levels are no longer there."""
        with self._swap:
            if replaced[0] not in self._levels:
                return False
            first = self._levels.index(replaced[0])
            end = first + len(replaced)
            if self._levels[first:end] != tuple(replaced):
                return False
            self._levels = (*self._levels[:first], *runs, *self._levels[end:])
            return True

    def _repair(self, error: DamagedRunError) -> None:
        """Build a run again that was found damaged, unless another thread has done so.

        Raises DataLossError when that did not help.
        """
        with self._repairing:
            damaged = next((run for run in self._runs() if run.file is error.file), None)
            if damaged is None:
                return
            self._repairs[damaged.first_position] += 1
            if self._repairs[damaged.first_position] > _REPAIRS_MAX:
                raise DataLossError(
                    f"{error}, though it was built {_REPAIRS_MAX} times again: check the disk and "
                    "the memory of this machine"
                ) from None
            _LOGGER.warning("%s: building it again from the log", error)
            folder = self._run_folder()
            try:
                runs = self._built_anew(folder, damaged)
            except OSError as failure:
                raise translated(failure, "building the point index in", folder) from None
            self._replace([damaged], runs)

    def _without_erased(self, folder: Path, run: SortedRun) -> list[SortedRun]:
        """Runs of the same records, without what is erased."""
        from eventstore.projections.run_patching import patched_run

        with contextlib.suppress(DamagedRunError):
            given = self._limits, self._erased_records, self._write_run
            patched = patched_run(self._log, run, *given)
            if patched is not None:
                return [patched]
        return self._built_anew(folder, run)

    def _built_anew(self, folder: Path, run: SortedRun) -> list[SortedRun]:
        """Runs of the same records, built from the log."""
        from eventstore.projections.run_building import rebuilt_runs

        before = [other for other in self._runs() if other.last_position < run.first_position]
        highest_before, erased = before[-1].highest_ids if before else {}, self._erased_records
        limits, write = self._limits, self._write_run
        runs = rebuilt_runs(self._log, folder, run, highest_before, limits, erased, write)
        if run.path.parent == folder and run.path != runs[-1].path:
            run.path.unlink(missing_ok=True)
        return runs

    def _write_run(
        self, path: Path, metadata: RunMetadata, fill: Callable[[IO[bytes]], None]
    ) -> IO[bytes] | None:
        """Write a run's file, unless it has what anybody has erased: raises UnwantedFileError."""
        if self._folder is None:
            from eventstore.projections.run_writing import write_unnamed

            return write_unnamed(path, metadata, fill)
        with written_whole(path, lambda: self._written_in_time(path.parent, metadata)) as file:
            fill(file)
        return None

    @contextlib.contextmanager
    def _written_in_time(self, folder: Path, metadata: RunMetadata) -> Iterator[None]:
        from eventstore.projections.scrubbing import is_outdated

        with writing_in(folder.parent):
            self._log.cache_folder(make=True)
            if is_outdated(self._erased_records.all_by_now(), metadata):
                raise UnwantedFileError(f"{folder}: what is being written was erased")
            yield

    @contextlib.contextmanager
    def _failures_noted(self, folder: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # A full disk or the like: no fault of the program.
            _LOGGER.warning("writing the point index in %s failed: %s", folder, error)
        except Exception:
            # The frozen tail keeps answering; the next process folds the log again.
            _LOGGER.exception("writing the point index of %s failed", self._log.name)

    def _run_folder_if_any(self) -> Path | None:
        """Where to write runs; None when there is no such place, and all stays in memory."""
        try:
            return self._run_folder()
        except StatusError as error:
            _LOGGER.warning("%s; keeping the point index in memory", error)
            return None

    def _run_folder(self) -> Path:
        if self._folder is not None:
            with translating("making", self._folder):
                make_cache_folder(self._folder, self._log)
            return self._folder
        with self._swap:
            if self._temporary is None:
                from eventstore.log.temporary_folder import TemporaryFolder

                self._temporary = TemporaryFolder()
            return self._temporary.path
