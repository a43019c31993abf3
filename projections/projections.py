"""The read models of one log, folded lazily and kept next to it."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from eventstore.errors import DataLossError, FailedPreconditionError
from eventstore.log import Commit, Log, PositionConflictError, Progress, Record
from eventstore.log.folder_tree import entries_below, remove_tree
from eventstore.log.forking import open_at_first_use, renew_in_children
from eventstore.log.os_errors import starting_thread
from eventstore.log.record import KINDS
from eventstore.long_work import long_work
from eventstore.projections.base_check import Base, BaseCheck
from eventstore.projections.cache_file import remove_abandoned
from eventstore.projections.held_values import HeldValues
from eventstore.projections.index_tables import LINK_TABLES, STORED_TABLES, PendingEntries
from eventstore.projections.leaving import ENDING_SECONDS
from eventstore.projections.node_listing import (
    Listing,
    in_order,
    is_by_time,
    listed_by_time,
    listed_from_index,
    listed_of,
    matching_rows,
    property_looked_up,
    rows_of_split,
    split_listing,
)
from eventstore.projections.point_index import TAIL_RECORDS_MAX, PointIndex

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from eventstore.projections.filter import FilterSql
    from eventstore.projections.subtree_heads import SubtreeHeads
    from eventstore.projections.tables import Tables

_LOGGER = logging.getLogger("eventstore.projections")

FOLDER_NAME = "projections"
INDEX_NAME = "index"
TABLES_NAME = "tables.duckdb"
SUBTREE_HEADS_NAME = "subtree-heads"

_TOLD_EVERY_SECONDS = 0.1

RECENT_RECORDS_MAX = 64
"""Up to this many records are cheaper to look at than to fold into the tables, per query."""


SPLIT_RECORDS_MAX = 131_072
"""Up to this many records a join with all events costs more than looking at some nodes' events."""


class ProjectionsInfo(msgspec.Struct, frozen=True):
    """The state of the caches: the positions up to which they are folded, and bytes on disk."""

    index_position: int
    index_bytes: int
    index_runs: int
    tables_position: int
    tables_bytes: int


class IndexBuiltAgainError(PositionConflictError):
    """What a put read was not what the log says: it has to read again, from a new point index."""


class Projections:
    """The point index and the DuckDB tables of one log.

    They are caches: what is missing or unusable is folded again from the log; with `read_only` in
    memory and in temporary files alone, unless it `saves` them for others to read. Safe to use
    from several threads.
    """

    def __init__(self, log: Log, *, read_only: bool = False, saves: bool = False) -> None:
        self._log = log
        self._read_only = read_only
        self._saves = saves or not read_only
        self._folder = None if log.directory is None else log.directory / FOLDER_NAME
        self._mutex = threading.Lock()
        self._tables: Tables | None = None
        self._subtree_heads: SubtreeHeads | None = None
        self._recent: deque[Record] = deque(maxlen=RECENT_RECORDS_MAX)
        self._values = HeldValues(log)
        self._bases = BaseCheck(log)
        if self._folder is not None and self._saves:
            remove_abandoned(self._folder)
        self.index = PointIndex(log, _below(self._folder, INDEX_NAME), read_only=not self._saves)
        renew_in_children(self)

    def after_fork_in_child(self) -> None:
        """Fold into a new index: a thread of the parent may have been folding."""
        self._mutex = threading.Lock()
        self._renewing = threading.Lock()
        self._recent.clear()
        self._values = HeldValues(self._log)
        self._bases = BaseCheck(self._log)
        self._subtree_heads = None
        self.__dict__.pop("index", None)
        open_at_first_use(self)

    def open_missing(self, name: str) -> Any:
        """Open the index of a forked child, which does so at its first use."""
        if name != "index":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        with self._renewing:
            if "index" not in self.__dict__:
                self.index = PointIndex(
                    self._log, _below(self._folder, INDEX_NAME), read_only=not self._saves
                )
            return self.__dict__["index"]

    def catch_up(self, progress: Progress | None = None) -> int:
        """Fold what the log has gained into the point index; the position that is reached."""
        self._log.refresh()
        position = self.index.position
        if self._log.position > position:
            with self._mutex:
                self._fold(self.index, progress)
            position = self.index.position
        return position

    def add(self, commit: Commit, entries: PendingEntries | None = None) -> None:
        """Fold a commit that this process has just appended, without reading it back.

        `entries` are what it adds to the point index, if they are known already.
        """
        with self._mutex:
            # Another thread may have caught up with it already.
            if commit.first_position == self.index.position + 1:
                self._values.note(commit)
                self.index.add(commit, entries)
                _note_newest(self._recent, commit)

    def bases_hold(
        self, index: PointIndex, bases: Collection[Base], *, is_built_again: bool = False
    ) -> bool:
        """True when the log has what a put took from an index; False when another is in use now.

        Where the log does not have it, the index is built again: raises IndexBuiltAgainError, or
        DataLossError when it `is_built_again` already for this put.
        """
        # A put reads more than its bases, such as which names are taken.
        if index is not self.index:
            return False
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
        return True

    def list_ids(
        self,
        kind: str,
        *,
        as_of: int,
        type_id: int | None = None,
        context_id: int | None = None,
        order_by: str = "id",
        descending: bool = False,
        after: tuple[int, int] | None = None,
        limit: int | None = None,
        where: FilterSql | None = None,
    ) -> list[tuple[int, int]]:
        """(id, order value) of the nodes of a kind as of a position, in order; ties by id.

        `after` is the (order value, id) of the last row of the page before. Raises
        InvalidArgumentError when `where` cannot be computed, such as for an integer overflow.
        """
        return self._listed(
            Listing(
                kind,
                as_of,
                type_id=type_id,
                context_id=context_id,
                order_by=order_by,
                descending=descending,
                after=after,
                limit=limit,
                where=where,
            )
        )

    def all_nodes(self, kind: str, *, as_of: int, type_id: int | None = None) -> Iterator[pa.Array]:
        """The serialized nodes of a kind, or of a type, by id, in parts: for very many of them."""
        from eventstore.projections.listing_sql import positions_sql

        sql, parameters = positions_sql(Listing(kind, as_of, type_id=type_id))
        positions = self._folded_tables(as_of).arrow(sql, parameters).column(0).combine_chunks()
        return self.index.values_at(STORED_TABLES[kind], positions)

    def matching_ids(self, kind: str, ids: Sequence[int], where: FilterSql, as_of: int) -> set[int]:
        """Those of the given nodes that match a filter as of a position."""
        rows = self._listed(Listing(kind, as_of, node_ids=ids, where=where))
        return {node_id for node_id, _ in rows}

    def _listed(self, listing: Listing) -> list[tuple[int, int]]:
        rows = listed_from_index(self.index, listing)
        if rows is not None:
            return rows
        rows = self._listed_by_values(listing)
        if rows is None:
            rows = self._listed_by_time(listing)
        if rows is not None:
            return rows
        first = split_listing(listing, is_small=self._log.position <= SPLIT_RECORDS_MAX)
        if first is not None:
            rows = rows_of_split(self.index, listing, self._listed(first))
            if rows is not None:
                return rows
        tables = self._opened_tables()
        checkpoint = tables.checkpoint()
        recent = self._recently_put(checkpoint, listing)
        if recent is None:
            tables.fold(listing.as_of)
            return tables.listed(listing)
        # The tables lack a few puts: the nodes that these have touched are looked at one by one.
        limit = None if listing.limit is None else listing.limit + len(recent)
        rows = tables.listed(replace(listing, as_of=checkpoint, limit=limit))
        untouched = [row for row in rows if row[0] not in recent]
        touched = matching_rows(self.index, listing, dict.fromkeys(recent, ()))
        return in_order([*untouched, *touched], listing)

    def _listed_by_values(self, listing: Listing) -> list[tuple[int, int]] | None:
        """What a filter by a property's value lists; None unless the values are held."""
        looked_up = property_looked_up(listing)
        if looked_up is None:
            return None
        tables = self._opened_tables()
        node_ids = self._values.nodes_bearing(listing.kind, *looked_up, tables)
        return None if node_ids is None else listed_of(self.index, listing, node_ids)

    def _listed_by_time(self, listing: Listing) -> list[tuple[int, int]] | None:
        """The first of a listing ordered by a time; None unless the times are held."""
        if not is_by_time(listing):
            return None
        found = self._values.nodes_in_order(
            listing.kind,
            listing.order_by,
            None if listing.after is None else listing.after[0],
            self._opened_tables(),
            descending=listing.descending,
        )
        return None if found is None else listed_by_time(self.index, listing, *found)

    def _recently_put(self, checkpoint: int, listing: Listing) -> set[int] | None:
        """The nodes of which tables at an older position have other versions than a listing.

        None when it is better to fold them first: when they are many, or the listing depends on
        more than the nodes themselves.
        """
        where = listing.where
        is_alone = where is None or (where.evaluate is not None and where.look_up_alias is None)
        if listing.context_id is not None or not is_alone:
            return None
        if not checkpoint or not 0 < listing.as_of - checkpoint <= RECENT_RECORDS_MAX:
            return None
        recent = list(self._recent)
        if not recent or recent[0].position > checkpoint + 1:
            return None
        if recent[-1].position < listing.as_of:
            # The noting of the newest ones was interrupted.
            return None
        return {
            record.entity_id
            for record in recent
            if record.kind == listing.kind and checkpoint < record.position <= listing.as_of
        }

    def counts(self, as_of: int) -> dict[str, int]:
        """How many types, nodes and links of each kind there are as of a position of the index."""
        index = self.index
        return {
            kind: index.key_count(STORED_TABLES[kind], as_of)
            if kind in STORED_TABLES
            else index.entry_count(LINK_TABLES[kind], as_of)
            for kind in KINDS
        }

    def sql(
        self,
        query: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None,
        as_of: int,
        *,
        timeout_seconds: float | None = None,
    ) -> pa.Table:
        """The result of a query over the views of `sql_views` as of a position.

        Raises what `run_sql` does.
        """
        from eventstore.projections.sql_views import run_sql

        def run(cursor: duckdb.DuckDBPyConnection) -> pa.Table:
            return run_sql(
                cursor, self._log, query, parameters, as_of, timeout_seconds=timeout_seconds
            )

        # Even without a timeout: only a thread that is not in DuckDB takes signals.
        left_after = math.inf if timeout_seconds is None else timeout_seconds + ENDING_SECONDS
        return self._opened_tables().asked(run, as_of, left_after_seconds=left_after)

    def info(self) -> ProjectionsInfo:
        """How far the caches are folded, and what they take on disk."""
        return ProjectionsInfo(
            index_position=self.index.position,
            index_bytes=self.index.file_bytes(),
            index_runs=self.index.run_count(),
            tables_position=self._opened_tables().checkpoint(),
            tables_bytes=_size(_below(self._folder, TABLES_NAME)),
        )

    def subtree_heads(self) -> SubtreeHeads:
        """The heads of the log's Merkle tree, kept between proofs."""
        with self._mutex:
            if self._subtree_heads is None:
                from eventstore.projections.subtree_heads import SubtreeHeads

                self._subtree_heads = SubtreeHeads(
                    self._log, _below(self._folder, SUBTREE_HEADS_NAME), read_only=not self._saves
                )
            return self._subtree_heads

    @long_work("Rebuilding")
    def rebuild(self, progress: Progress | None = None) -> None:
        """Throw the caches away and fold the whole log again, into the index and into the tables.

        Each record counts twice in the progress. Reads of what was put meanwhile wait. Raises
        FailedPreconditionError when the store was opened to read only, ResourceExhaustedError when
        the disk is full: reads then go on with what this process keeps in memory.
        """
        if self._read_only:
            raise FailedPreconditionError(
                f"the projections of {self._log.directory} were opened to read only: "
                "open the store for writing to rebuild them"
            )
        self._log.refresh()
        records, tables = self._log.position, self._opened_tables()
        folded, is_stopping = 0, threading.Event()

        def note(done: int, _: int) -> None:
            nonlocal folded
            folded = min(done, records)
            if is_stopping.is_set():
                raise CancelledError

        def fold_tables() -> None:
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
            index = PointIndex(self._log, folder)
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
        if "index" in self.__dict__:
            self.index.close()
        if self._tables is not None:
            self._tables.close()

    @long_work("Folding the log")
    def _fold(self, index: PointIndex, progress: Progress | None) -> None:
        """Fold into an index what the log has gained, and note its newest records."""
        start, end = index.position, self._log.position
        if end - start > TAIL_RECORDS_MAX:
            # What was sealed may be folded without its commits being seen here.
            self._values.forget()
        index.fold_sealed(self._log, progress)
        for commit in self._log.commits(index.position, end):
            self._values.note(commit)
            index.add(commit)
            _note_newest(self._recent, commit)
            if progress is not None:
                progress(commit.last_position - start, end - start)

    def _folded_tables(self, position: int) -> Tables:
        tables = self._opened_tables()
        tables.fold(position)
        return tables

    def _opened_tables(self) -> Tables:
        with self._mutex:
            if self._tables is None:
                # Not at the top: look-ups by key need no DuckDB, and start faster without it.
                from eventstore.projections.tables import Tables

                path = _below(self._folder, TABLES_NAME)
                self._tables = Tables(self._log, path, read_only=self._read_only, saves=self._saves)
            return self._tables


def remove_projections(directory: Path) -> None:
    """Throw away the caches of the store in `directory`: the next reads fold them again."""
    remove_tree(directory / FOLDER_NAME, ignore_errors=True)


def _note_newest(recent: deque[Record], commit: Commit) -> None:
    """Keep the newest records at hand, without a gap between them."""
    if recent and recent[-1].position != commit.first_position - 1:
        recent.clear()
    recent.extend(commit.records[-RECENT_RECORDS_MAX:])


def _size(path: Path | None) -> int:
    """The bytes of a file; 0 when there is none, since others may remove it at any moment."""
    try:
        return path.stat().st_size if path is not None and path.is_file() else 0
    except OSError:
        return 0


def _below(folder: Path | None, name: str) -> Path | None:
    return None if folder is None else folder / name
