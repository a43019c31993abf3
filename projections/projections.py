"""The read models of one log, folded lazily and kept next to it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventstore.errors import DataLossError, FailedPreconditionError
from eventstore.late_logger import late_logger
from eventstore.log import Commit, Log, Position, PositionConflictError, Progress
from eventstore.log.cache_file import remove_abandoned
from eventstore.log.folder_tree import entries_below, remove_tree
from eventstore.log.forking import open_at_first_use, renew_in_children
from eventstore.log.os_errors import starting_thread, translating
from eventstore.log.pacing import Pacing
from eventstore.log.record import ENTITY_KIND_NAMES
from eventstore.long_work import long_work
from eventstore.projections.background_folding import BackgroundFolding
from eventstore.projections.base_check import Base, BaseCheck
from eventstore.projections.commit_list import CommitList, CommitListKeeper
from eventstore.projections.erased_records import ErasedRecords
from eventstore.projections.erasures import Erasures
from eventstore.projections.index_tables import (
    LINK_TABLES,
    STORED_TABLES,
    TABLES_OF,
    PendingEntries,
)
from eventstore.projections.late_writing import wait_for_writers
from eventstore.projections.limits import LIMITS, Limits
from eventstore.projections.point_index import PointIndex

if TYPE_CHECKING:
    import pyarrow as pa

    from eventstore.log.kinds import NodeKind
    from eventstore.projections.planning import Planner
    from eventstore.projections.tables import Tables

_LOGGER = late_logger("eventstore.projections")

INDEX_NAME = "index"
TABLES_NAME = "tables.duckdb"

_TOLD_EVERY_SECONDS = 0.1


class IndexBuiltAgainError(PositionConflictError):
    """What a put read was not what the log says: it has to read again, from a new point index."""


class Projections:
    """The point index and the DuckDB tables of one log.

    They are caches: what is missing or unusable is folded again from the log; with `read_only` in
    memory and in temporary files alone, unless it `saves` them for others to read. Safe to use
    from several threads.
    """

    def __init__(
        self,
        log: Log,
        limits: Limits = LIMITS,
        *,
        read_only: bool = False,
        saves: bool = False,
    ) -> None:
        self._log = log
        self._limits = limits
        self._read_only = read_only
        self.saves = saves or not read_only
        self._folder = log.cache_folder()
        self._mutex = threading.Lock()
        self._tables: Tables | None = None
        self._planner: Planner | None = None
        self._bases = BaseCheck(log)
        self._commits = CommitListKeeper(log)
        self._requested = 0
        """The newest record that asks for an erasure."""
        if self._folder is not None and self.saves:
            remove_abandoned(self._folder)
        written = None if read_only else _below(self._folder, TABLES_NAME)
        self.pacing = Pacing(weakref.WeakMethod(self._pressure))
        self._erased = ErasedRecords(log)
        note_progress = self.pacing.note_progress
        self._background = BackgroundFolding(log, written, limits, note_progress, self._erased)
        self.index = self._opened_index()
        renew_in_children(self)

    def after_fork_in_child(self) -> None:
        """Fold into a new index: a thread of the parent may have been folding."""
        self._mutex = threading.Lock()
        self._renewing = threading.Lock()
        self._planner = None
        self._bases = BaseCheck(self._log)
        self.__dict__.pop("index", None)
        open_at_first_use(self)

    def open_missing(self, name: str) -> Any:
        """Open the index of a forked child, which does so at its first use."""
        if name != "index":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        with self._renewing:
            if "index" not in self.__dict__:
                self.index = self._opened_index()
            return self.__dict__["index"]

    def _opened_index(self) -> PointIndex:
        folder, forget = _below(self._folder, INDEX_NAME), weakref.WeakMethod(self._forget_erased)

        def on_erasure(erasures: Erasures) -> None:
            # The index does not keep who keeps it.
            if (found := forget()) is not None:
                found(erasures)

        return PointIndex(
            self._log,
            folder,
            self._limits.index,
            on_erasure,
            self.pacing.note_progress,
            self._erased,
            read_only=not self.saves,
        )

    def _pressure(self) -> float:
        """How far the work of the background is behind that is farthest."""
        return max(self._background.pressure(), self.index.pressure())

    def _forget_erased(self, erasures: Erasures) -> None:
        """Hold nothing in memory that an erasure may be about, and have no table answer it."""
        self._bases = BaseCheck(self._log)
        if self._planner is not None:
            self._planner.forget()
        self._requested = erasures.requested
        if self._tables is not None:
            self._tables.required_position = erasures.requested

    def catch_up(self) -> Position:
        """Fold what the log has gained into the point index; the position that is reached."""
        self._log.refresh()
        self.refold_if_changed()
        position = self.index.position
        if self._log.position > position:
            with self._mutex:
                if self.index.adopt() and self._planner is not None:
                    self._planner.forget()
                self._fold(self.index, None)
            position = self.index.position
        return position

    def refold_if_changed(self) -> None:
        """Fold all anew where content has changed that was folded, as the log knows by now."""
        if self.index.content_epoch == self._log.content_epoch:
            return
        with self._background.halted(), self._mutex:
            if self.index.content_epoch != self._log.content_epoch:
                self._bases, self._planner = BaseCheck(self._log), None
                if self._tables is not None:
                    self._tables.close()
                self.index.close()
                index = self._opened_index()
                self._fold(index, None)
                self.index = index

    def add(self, commit: Commit, entries: PendingEntries | None = None) -> None:
        """Fold a commit that this process has just appended, without reading it back.

        `entries` are what it adds to the point index, if they are known already.
        """
        with self._mutex:
            # Another thread may have caught up with it already.
            if commit.first_position == self.index.position + 1:
                if self._planner is not None:
                    self._planner.note(commit)
                self.index.add(commit, entries)
        self._background.note(commit.last_position)

    def check_bases(
        self, index: PointIndex, bases: Collection[Base], *, is_built_again: bool
    ) -> None:
        """Compare what a put took from an index with the log.

        Raises PositionConflictError when another index is in use now. Where the log does not have
        it, the index is built again: raises IndexBuiltAgainError, or DataLossError when it
        `is_built_again` already for this put.
        """
        # A put reads more than its bases, such as which names are taken.
        if index is not self.index:
            raise PositionConflictError("the index is another by now: read again")
        # What is in memory came from the log, or was appended by this process.
        stored = index.last_stored_position
        for base in bases:
            if base.position <= stored and not self._bases.is_in_log(base):
                found = (
                    f"{self._folder and self._folder / INDEX_NAME}: the point index gives a record "
                    f"at position {base.position} that the log does not have"
                )
                if is_built_again:
                    raise DataLossError(
                        f"{found}, though it was just built again: nothing was put; check the disk "
                        "and the memory of this machine, and run `eventstore verify`"
                    )
                _LOGGER.warning("%s: building it again", found)
                self._rebuild_index(lambda _done, _in_all: None, index)
                raise IndexBuiltAgainError(found)

    @property
    def planner(self) -> Planner:
        """What answers listings of nodes."""
        # Once, since another thread may give it up meanwhile.
        planner = self._planner
        if planner is None:
            # Not at the top: look-ups by key need none.
            from eventstore.projections.planning import Planner

            with self._mutex:
                planner = self._planner
                if planner is None:
                    index, limits = lambda: self.index, self._limits.candidates
                    planner = Planner(self._log, index, self.opened_tables, limits)
                    self._planner = planner
        return planner

    def all_nodes(
        self, kind: NodeKind, *, as_of: Position, type_id: int | None
    ) -> Iterator[pa.Array]:
        """The serialized nodes of a kind, or of a type, by id, in parts: for very many of them."""
        from eventstore.projections.listing import Listing
        from eventstore.projections.listing_sql import positions_sql

        sql, parameters = positions_sql(Listing(kind, as_of, type_id=type_id))
        tables = self.opened_tables()
        tables.fold(as_of)
        positions = tables.arrow(sql, parameters).column(0).combine_chunks()
        return self.index.values_at(TABLES_OF[kind].stored, positions)

    def commits(self, as_of: Position) -> CommitList:
        """The commits up to a position of the index at least: when, by whom, where they end."""
        self.refold_if_changed()
        erasures = self.index.erasures
        state = (self._log.content_epoch, erasures.requested)
        return self._commits.upto(as_of, state, erasures.erased.who)

    def counts(self, as_of: Position) -> dict[str, int]:
        """How many types, nodes and links of each kind there are as of a position of the index."""
        tables = self._tables
        if tables is not None and tables.known_position() >= as_of:
            # Faster where many nodes were put again.
            from eventstore.projections.listing_sql import counts_sql

            counted = dict(tables.query(*counts_sql(as_of)))
            return {kind: counted.get(kind, 0) for kind in ENTITY_KIND_NAMES}
        index = self.index
        return {
            kind: index.key_count(STORED_TABLES[kind], as_of)
            if kind in STORED_TABLES
            else index.entry_count(LINK_TABLES[kind], as_of)
            for kind in ENTITY_KIND_NAMES
        }

    @long_work("Rebuilding")
    def rebuild(self, progress: Progress | None = None) -> None:
        """Throw the caches away and fold the whole log again, into the index and into the tables.

        Each record counts twice in the progress. Reads of what was put meanwhile wait. Raises
        FailedPreconditionError when the store was opened to read only, ResourceExhaustedError when
        the disk is full: reads then go on with what this process keeps in memory.
        """
        if self._read_only:
            raise FailedPreconditionError(
                f"the projections of {self._log.name} were opened to read only: "
                "open the store for writing to rebuild them"
            )
        from concurrent.futures import CancelledError, ThreadPoolExecutor, wait

        self._log.refresh()
        records, tables = self._log.position, self.opened_tables()
        folded, is_stopping = 0, threading.Event()

        def note(done: int, _: int) -> None:
            nonlocal folded
            folded = min(done, records)
            if is_stopping.is_set():
                raise CancelledError

        def fold_tables() -> None:
            # Otherwise a file that is removed would still be open.
            with self._background.halted():
                tables.clear()
                tables.fold(records, note)
                tables.raise_if_not_kept()
                note(records, records)

        def tell(done: int, _: int) -> None:
            if progress is not None:
                progress(min(done, records) + folded, 2 * records)

        # Side by side, since each keeps little more than one core busy.
        with ThreadPoolExecutor(1, thread_name_prefix="eventstore-rebuild") as executor:
            with starting_thread():
                folding = executor.submit(fold_tables)
            try:
                self._rebuild_index(tell)
                while not wait([folding], _TOLD_EVERY_SECONDS).done:
                    tell(records, records)
            finally:
                is_stopping.set()
        folding.result()
        tell(records, records)

    @long_work("Erasing from the caches")
    def scrub(self, progress: Progress | None = None) -> None:
        """Leave nothing in the files of the caches of what is erased by now.

        Other processes see to what they have in memory as they notice the erasure, and write none
        of it any more. The progress is of records of the point index. Raises ResourceExhaustedError
        when the disk is full, UnavailableError when another process is writing and does not go on.
        """
        self.catch_up()
        if self._folder is not None and not self._read_only:
            with translating("waiting for who is writing into", self._folder):
                wait_for_writers(self._folder)
        # Runs of the index are being built again in the background since the erasure was noticed.
        self._scrub_tables()
        self.index.scrub(progress)

    def _scrub_tables(self) -> None:
        path = _below(self._folder, TABLES_NAME)
        if path is None or self._read_only:
            return
        from eventstore.log.temporary_folder import remove_abandoned_folders
        from eventstore.projections.table_copying import scrub_file

        remove_abandoned_folders()
        with self._background.halted():
            # What it may have folded apart is in a file, too.
            self.opened_tables().close()
            with translating("writing", path):
                scrub_file(self._log, path, self._requested, self._erased)

    def _rebuild_index(self, progress: Progress, doubted: PointIndex | None = None) -> None:
        """Fold the whole log into a new index, unless another thread has replaced a doubted one."""
        # No reader has seen a later position, so none misses anything in the new index.
        with self._mutex:
            if doubted is not None and self.index is not doubted:
                return
            self.index.close()
            folder = _below(self._folder, INDEX_NAME)
            if folder is not None:
                remove_tree(folder, ignore_errors=True)
            if self._planner is not None:
                # It would note the whole log.
                self._planner.forget()
            index = self._opened_index()
            self._fold(index, progress)
            self.index = index

    def file_bytes(self) -> int:
        """The size of the caches on disk."""
        if self._folder is None:
            return 0
        # What may not be looked into counts as nothing.
        return sum(_size(Path(entry.path)) for entry in entries_below(self._folder))

    def close(self) -> None:
        """Release files and threads."""
        self._background.halt()
        if "index" in self.__dict__:
            self.index.close()
        if self._tables is not None:
            self._tables.close()

    @long_work("Folding the log")
    def _fold(self, index: PointIndex, progress: Progress | None) -> None:
        """Fold into an index what the log has gained, and note its newest records."""
        start, end = index.position, self._log.position
        if end - start > self._limits.index.tail_records_max and self._planner is not None:
            # What was sealed may be folded without its commits being seen here.
            self._planner.forget()
        index.fold_sealed(progress)
        for commit in self._log.commits(index.position, end):
            if self._planner is not None:
                self._planner.note(commit)
            index.add(commit)
            if progress is not None:
                progress(commit.last_position - start, end - start)

    def tables_position(self) -> int | None:
        """As `Tables.known_position`; None where nothing has needed the tables yet."""
        return None if self._tables is None else self._tables.known_position()

    def opened_tables(self) -> Tables:
        """The DuckDB tables, as far as they are folded."""
        self.refold_if_changed()
        with self._mutex:
            if self._tables is None:
                # Not at the top: look-ups by key need no DuckDB, and start faster without it.
                from eventstore.projections.tables import Tables

                path = _below(self._folder, TABLES_NAME)
                paused = self._background.paused
                self._tables = Tables(
                    self._log,
                    path,
                    paused,
                    self._erased,
                    read_only=self._read_only,
                    saves=self.saves,
                )
                self._tables.required_position = self._requested
            return self._tables


def _size(path: Path) -> int:
    """The bytes of a file; 0 when there is none, since others may remove it at any moment."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0


def _below(folder: Path | None, name: str) -> Path | None:
    return None if folder is None else folder / name
