"""The point index: a sorted multimap over all records, for look-ups by key as of any position.

It is a stack of levels, each the entries of a stretch of consecutive positions: sorted runs on
disk, then the tail in memory that takes new commits. A tail that has grown long is frozen and
written out as a run in the background, and neighbouring runs of like size are merged, so that the
number of levels stays logarithmic in the number of records. What the log has sealed becomes runs
without going through a tail.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from eventstore.late_logger import late_logger
from eventstore.log import Commit, Log, Position, Progress
from eventstore.log.cache_file import UnwantedFileError
from eventstore.log.forking import no_fork_in_libraries, renew_in_children
from eventstore.log.kinds import ERASURE
from eventstore.log.os_errors import translating
from eventstore.log.worker import Worker
from eventstore.projections.erased_nodes import ErasedAnswers
from eventstore.projections.erased_records import ErasedRecords
from eventstore.projections.erasures import NONE_KNOWN, Erasures
from eventstore.projections.index_entries import commit_entries
from eventstore.projections.index_tables import (
    RETENTION_TABLES,
    Entry,
    PendingEntries,
    as_sequence,
)
from eventstore.projections.index_tail import Tail
from eventstore.projections.kept_runs import KeptRuns
from eventstore.projections.limits import IndexLimits
from eventstore.projections.run_folder import usable_runs
from eventstore.projections.sorted_run import SortedRun

_LOGGER = late_logger("eventstore.projections")

_ERASURES = RETENTION_TABLES[ERASURE]
_FROZEN_TAILS_MAX = 4
_RUNS_MAX = 16
"""Puts rest where there are more runs and some are being merged: a look-up asks each."""


class PointIndex(KeptRuns):
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
        runs = usable_runs(folder, log, limits, remove_useless=not read_only) if folder else []
        # The last level is the tail that takes commits.
        self._tail = _tail_after(runs)
        own_folder = None if read_only else folder
        super().__init__(log, own_folder, (*runs, self._tail), limits, erased)
        self._read_folder = folder
        self._on_erasure = on_erasure
        self.erasures = NONE_KNOWN
        """Those of the log up to the index's position."""
        self.known_type_ids: dict[tuple[int, str, str], tuple[int, int]] = {}
        """By table of names, name and version of a type: its id, and a position it is there at."""
        self._scrubbing = threading.Lock()
        self._writer = Worker("eventstore-index", note_progress)
        # Apart, since a long merge would have tails wait, and puts for them.
        self._merger = Worker("eventstore-merge", note_progress)
        self.content_epoch = log.content_epoch
        """That of the log before anything was folded here."""
        self._learn_erasures()
        self._note_outdated()
        renew_in_children(self)

    def after_fork_in_child(self) -> None:
        """Threads do not survive a fork."""
        super().after_fork_in_child()
        self._scrubbing = threading.Lock()
        self._writer.leave_to_the_parent()
        self._merger.leave_to_the_parent()

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
                self._replace([run], self._without_erased(folder, run))
                if progress is not None:
                    progress(sum(done.records for done in found[:number]), self.position)
            remove_outdated(folder, self.erasures, [run.path for run in self._runs()])
        return bool(found)

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


def _tail_after(runs: Sequence[SortedRun]) -> Tail:
    """An empty tail for what comes after runs."""
    if not runs:
        return Tail(0, 0, {})
    newest = runs[-1].metadata
    return Tail(newest.last_position, newest.last_recorded_at, newest.highest_ids)
