"""The point index: a sorted multimap over all records, for look-ups by key as of any position.

It is a stack of levels, each the entries of a stretch of consecutive positions: sorted runs on
disk, then the tail in memory that takes new commits. A tail that has grown long is frozen and
written out as a run in the background, and neighbouring runs of like size are merged, so that the
number of levels stays logarithmic in the number of records. What the log has sealed becomes runs
without going through a tail.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from eventstore.errors import DataLossError, StatusError
from eventstore.late_logger import late_logger
from eventstore.log import Commit, Log, Position, Progress, content_id
from eventstore.log.cache_file import UnwantedFileError, make_cache_folder, written_whole
from eventstore.log.forking import no_fork_in_libraries, renew_in_children
from eventstore.log.kinds import ERASURE
from eventstore.log.os_errors import translated, translating
from eventstore.log.worker import Worker
from eventstore.projections.erased_nodes import ErasedAnswers
from eventstore.projections.erased_records import ErasedRecords
from eventstore.projections.erasures import NONE_KNOWN, Erasures
from eventstore.projections.index_entries import commit_entries
from eventstore.projections.index_look_ups import Level, LevelLookUps
from eventstore.projections.index_tables import (
    RETENTION_TABLES,
    Entry,
    PendingEntries,
    as_sequence,
)
from eventstore.projections.index_tail import Tail
from eventstore.projections.late_writing import writing_in
from eventstore.projections.limits import IndexLimits
from eventstore.projections.run_file import RunMetadata
from eventstore.projections.run_folder import run_path, usable_runs
from eventstore.projections.run_merging import merge_runs, mergeable
from eventstore.projections.run_table import DamagedRunError
from eventstore.projections.sorted_run import SortedRun

if TYPE_CHECKING:
    from eventstore.log.temporary_folder import TemporaryFolder

_LOGGER = late_logger("eventstore.projections")

_ERASURES = RETENTION_TABLES[ERASURE]
_FROZEN_TAILS_MAX = 4
_RUNS_MAX = 16
"""Puts rest where there are more runs and some are being merged: a look-up asks each."""

_REPAIRS_MAX = 4


class PointIndex(LevelLookUps):
    """Entries (table, key) -> (position, value) of every record up to `position`.

    One thread at a time may add; any number may read meanwhile. Without a folder, what is added
    stays in memory; with `read_only` it goes to a temporary folder when it is much.
    """

    def __init__(
        self,
        log: Log,
        folder: Path | None,
        limits: IndexLimits,
        on_erasure: Callable[[Erasures], None] = lambda _: None,
        note_progress: Callable[[], None] = lambda: None,
        erased: ErasedRecords | None = None,
        *,
        read_only: bool = False,
    ) -> None:
        """`on_erasure` is called before anybody is answered what an erasure has changed.

        `note_progress` is called when what puts may wait for has been written. `erased` is what all
        projections of the log know together.
        """
        self._log = log
        self._on_erasure = on_erasure
        self.erasures = NONE_KNOWN
        """Those of the log up to the index's position."""
        self._erased_records = ErasedRecords(log) if erased is None else erased
        self._folder = None if read_only else folder
        self._read_folder = folder
        self._temporary: TemporaryFolder | None = None
        self.known_type_ids: dict[tuple[int, str, str], tuple[int, int]] = {}
        """By table of names, name and version of a type: its id, and a position it is there at."""
        self._swap = threading.Lock()
        self._repairing = threading.Lock()
        self._scrubbing = threading.Lock()
        self._repairs: Counter[int] = Counter()
        self._writer = Worker("eventstore-index", note_progress)
        # Apart, since a long merge would have tails wait, and puts for them.
        self._merger = Worker("eventstore-merge", note_progress)
        self.content_epoch = log.content_epoch
        """That of the log before anything was folded here."""
        self._content_id = content_id(log)
        runs = usable_runs(folder, log, limits, remove_useless=not read_only) if folder else []
        self._tail = _tail_after(runs)
        # The last one is the tail that takes commits.
        super().__init__((*runs, self._tail), limits)
        self._learn_erasures()
        self._note_outdated()
        renew_in_children(self)

    def after_fork_in_child(self) -> None:
        """Threads do not survive a fork; what the parent was writing stays in memory here."""
        self._swap = threading.Lock()
        self._repairing = threading.Lock()
        self._scrubbing = threading.Lock()
        self._writer.leave_to_the_parent()
        self._merger.leave_to_the_parent()
        if self._temporary is not None:
            self._temporary.leave_to_the_parent()
            self._temporary = None

    @property
    def position(self) -> Position:
        """The newest record that the index holds."""
        return Position(self._tail.last_position)

    @property
    def last_stored_position(self) -> int:
        """The newest record that a run holds, which is a cache, not the log's own word."""
        for level in reversed(self._levels):
            if isinstance(level, SortedRun):
                return level.last_position
        return 0

    def add(self, commit: Commit, entries: PendingEntries | None = None) -> None:
        """Fold the next commit. `entries` are what it adds, if known; the index takes them over."""
        assert commit.first_position == self.position + 1, "commits are folded in order"
        if entries is None:
            entries = commit_entries(commit, self._erased_records)
        asked = entries.get(_ERASURES)
        if asked is None:
            self._tail.add(commit, entries)
        else:
            self._learn([entry for found in asked.values() for entry in as_sequence(found)])
            self._tail.add(commit, entries)
            self._refold_tails()
        self._erased_records.note_folded(self.position)
        if self._tail.records > self._limits.tail_records_max and self._read_folder is not None:
            self._freeze_tail()

    def adopt(self) -> bool:
        """Take over runs of others of what this index lacks, where that is much; whether it did.

        Positions that were there stay, though in other runs.
        """
        folder, lacking = self._read_folder, self._log.position - self.position
        if folder is None or lacking <= self._limits.tail_records_max:
            return False
        opened = {run.path: run for run in self._runs()}
        runs = usable_runs(folder, self._log, self._limits, remove_useless=False, opened=opened)
        if not runs or runs[-1].last_position <= self.position:
            return False
        if runs[-1].metadata.content_id != self._content_id:
            return False
        tail = _tail_after(runs)
        with self._swap:
            self._levels, self._tail = (*runs, tail), tail
        self._learn_erasures()
        return True

    def fold_sealed(self, progress: Progress | None = None) -> None:
        """Build runs of what the log has sealed and the index lacks, where that is much.

        The rest has to be added commit by commit.
        """
        if self._read_folder is None:
            return
        start, end, limits = self.position, self._log.position, self._limits
        if end - start <= limits.tail_records_max:
            return
        from eventstore.projections.run_building import sealed_stretches

        for last_position in sealed_stretches(self._log, start, limits):
            if last_position - self.position <= limits.tail_records_max:
                break
            folder = self._run_folder_if_any()
            if folder is None:
                break
            try:
                self._build_run(folder, last_position)
            except OSError as error:
                _LOGGER.warning("writing the point index in %s failed: %s", folder, error)
                break
            if progress is not None:
                progress(last_position - start, end - start)
        if self.position > start:
            self._learn_erasures()
            self._writer.submit(self._write_out, None)

    def highest_id(self, sequence: str) -> int:
        """The highest id that any record of an id sequence has; 0 when there is none."""
        return self._tail.highest_ids.get(sequence, 0)

    def close(self) -> None:
        """Write out a tail that the next opening would take long to read again."""
        if self._folder is not None and self._tail.records >= self._limits.closing_records_min:
            self._freeze_tail()
        # In this order, since the one has the other work.
        self._writer.close()
        self._merger.close()
        if self._temporary is not None:
            self._temporary.close()

    def pressure(self) -> float:
        """How far writing tails out and merging runs are behind, in shares of what they may be."""
        is_writing, is_merging = self._writer.is_busy(), self._merger.is_busy()
        if not is_writing and not is_merging:
            return 0
        runs = self._runs()
        unwritten = self.position - (runs[-1].last_position if runs else 0)
        return max(
            is_writing * unwritten / (2 * self._limits.tail_records_max),
            is_merging * len(runs) / _RUNS_MAX,
        )

    def _runs(self) -> list[SortedRun]:
        return [level for level in self._levels if isinstance(level, SortedRun)]

    def _learn_erasures(self) -> None:
        """Take notice of the erasures that runs were found to hold."""
        numbers, known = [*self.keys(_ERASURES, self.position)], self.erasures.position
        found = [e for number in numbers for e in self.entries(_ERASURES, number, self.position)]
        self._learn([entry for entry in found if entry[0] > known])
        self._erased_records.learn(self.erasures, self.position)
        self._tail.erasures_known = self.erasures.position

    def _learn(self, records: Sequence[Entry]) -> None:
        """Answer as erased what records of erasures ask for."""
        if records:
            erasures = self.erasures.with_records(sorted(records))
            self._erased_records.learn(erasures, self.position)
            self.erasures = erasures
            self._erased = ErasedAnswers(self._log, erasures)
            self._on_erasure(erasures)

    def _refold_tails(self) -> None:
        """Fold again what is in memory and erased by now."""
        from eventstore.projections.scrubbing import is_changed, refolded

        erasures = self.erasures
        for tail in [level for level in self._levels if isinstance(level, Tail)]:
            first, last, known = tail.first_position, tail.last_position, tail.erasures_known
            if not is_changed(self._log, erasures, first, last, known):
                tail.erasures_known = erasures.position
                if tail is not self._tail:
                    # What was being written of it may have been removed.
                    self._writer.submit(self._write_out, tail)
                continue
            made = refolded(self._log, tail, self._erased_records)
            with self._swap:
                self._levels = tuple(made if level is tail else level for level in self._levels)
                if self._tail is tail:
                    self._tail = made
            if self._tail is not made:
                # What is being written of it is of no use any more.
                self._writer.submit(self._write_out, made)
        self._note_outdated()

    def _note_outdated(self) -> None:
        """Have runs that hold what is erased built again in the background."""
        if (self._folder is not None or self._temporary is not None) and self.erasures:
            from eventstore.projections.scrubbing import is_outdated

            if any(is_outdated(self.erasures, run.metadata) for run in self._runs()):
                # That thread alone gives work to the other one.
                self._writer.submit(self._merger.submit, self._scrub_in_background)

    def scrub(self, progress: Progress | None = None) -> None:
        """Build runs again that hold what is erased, until no file here holds any of it.

        Others may add and read meanwhile. Raises ResourceExhaustedError when the disk is full.
        """
        with translating("building the point index in", self._read_folder or Path()):
            while True:
                # Otherwise they might still write what was read before.
                self._writer.finish_begun()
                self._merger.finish_begun()
                if not self._build_again(progress):
                    return

    def _scrub_in_background(self) -> None:
        with self._failures_noted(self._folder or Path()):
            self._build_again(None)

    def _build_again(self, progress: Progress | None) -> bool:
        """Build runs of this index's folder again that hold what is erased; whether there were."""
        from eventstore.projections.scrubbing import remove_outdated, runs_to_build

        temporary = None if self._temporary is None else self._temporary.path
        folder = self._folder or temporary
        if folder is None or not folder.is_dir():
            return False
        with self._scrubbing:
            own = [run for run in self._runs() if run.path.parent == folder]
            found = runs_to_build(self._log, self.erasures, own)
            for number, run in enumerate(found, 1):
                self._replace([run], self._built_anew(folder, run))
                if progress is not None:
                    progress(sum(done.records for done in found[:number]), self.position)
            remove_outdated(folder, self.erasures, [run.path for run in self._runs()])
        return bool(found)

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

    def _freeze_tail(self) -> None:
        frozen = self._tail
        known = frozen.erasures_known
        tail = Tail(frozen.last_position, frozen.last_recorded_at, frozen.highest_ids, known)
        with self._swap:
            # At once, since an interrupt can come between any two steps.
            self._levels, self._tail = (*self._levels, tail), tail
        # So that catching up for long does not outrun the disk and fill the memory.
        self._writer.wait(_FROZEN_TAILS_MAX - 1)
        self._writer.submit(self._write_out, frozen)

    def _build_run(self, folder: Path, last_position: int) -> None:
        """Append a run of the records from the index's position to another."""
        # Not at the top: what it imports takes long, and most openings build nothing.
        from eventstore.projections.run_building import built_run

        before = self._tail
        first, known, highest_ids = before.last_position + 1, self._content_id, before.highest_ids
        limits, erased = self._limits, self._erased_records
        stretch = first, last_position, highest_ids
        run = built_run(self._log, known, folder, *stretch, limits, erased, self._write_run)
        if before.records:
            self._freeze_tail()
        tail = Tail(last_position, run.metadata.last_recorded_at, run.highest_ids)
        with self._swap:
            # In place of a tail that is empty.
            self._levels, self._tail = (*self._levels[:-1], run, tail), tail

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

    def _write_out(self, frozen: Tail | None) -> None:
        """Replace a frozen tail by a run, and have runs merged. Runs in the background."""
        folder = self._run_folder_if_any()
        if folder is None:
            return
        with self._failures_noted(folder):
            # What was adopted meanwhile may cover it.
            while frozen is not None and frozen in self._levels:
                with no_fork_in_libraries():
                    from eventstore.projections.run_building import tail_run

                given = self._content_id, folder, frozen, self._limits, self._write_run
                try:
                    self._replace([frozen], [tail_run(*given)])
                except UnwantedFileError:
                    all_erased = self._erased_records.all_by_now()
                    changed = all_erased.changed_since(frozen.erasures_known)
                    if changed.within(frozen.first_position, frozen.last_position):
                        # It is folded again once the erasure is noticed.
                        break
        self._merger.submit(self._merge, folder)

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
            if is_outdated(self._erased_records.all_by_now(), metadata):
                raise UnwantedFileError(f"{folder}: what is being written was erased")
            yield

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


def _tail_after(runs: Sequence[SortedRun]) -> Tail:
    """An empty tail for what comes after runs."""
    if not runs:
        return Tail(0, 0, {})
    newest = runs[-1].metadata
    return Tail(newest.last_position, newest.last_recorded_at, newest.highest_ids)
