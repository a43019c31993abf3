"""How a listing is answered: a few candidates are judged one by one, or the tables are scanned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from eventstore.answers import Explanation
from eventstore.log import Commit, Log
from eventstore.projections.candidates import CandidateFinder, NoneFoundError
from eventstore.projections.filter.filter_sql import PropertyLookUp, RangeLookUp
from eventstore.projections.held_values import HeldValues
from eventstore.projections.judging import Candidates, TooManyError, judged, neighbours_in_index
from eventstore.projections.limits import CandidateLimits
from eventstore.projections.listing import ALL_NODES, Found, Listing, Row
from eventstore.projections.point_index import PointIndex
from eventstore.projections.recent_records import RecentRecords

if TYPE_CHECKING:
    from eventstore.projections.tables import Tables


@dataclass(frozen=True, slots=True)
class Scan:
    """A query on the tables, as far as they are folded, or folded up to a position first.

    What was put since is `laid_over`: these nodes are judged one by one instead.
    """

    reason: str
    listing: Listing
    folded_position: int
    fold_to: int | None = None
    laid_over: frozenset[int] = frozenset()


Plan: TypeAlias = Candidates | Scan

_FILTERS_MAX: Final = 1_024


class Planner:
    """Answers listings of one log's nodes. Safe to use from several threads."""

    def __init__(
        self,
        log: Log,
        index: Callable[[], PointIndex],
        tables: Callable[[], Tables],
        limits: CandidateLimits,
    ) -> None:
        self._index = index
        self._tables = tables
        self._limits = limits
        self._held = HeldValues(log)
        self._recent = RecentRecords()
        self._complete: Counter[int] = Counter()
        """By the hash of a filter how many more pages the first ids completed than they did not.

        A count that two threads lose changes speed alone.
        """

    def note(self, commit: Commit) -> None:
        """Take notice of a commit before any reader is shown its positions."""
        self._held.note(commit)
        self._recent.note(commit)

    def forget(self) -> None:
        """Hold nothing any more: commits that were not noted have been folded."""
        self._held.forget()
        self._recent.forget()

    def plan(self, listing: Listing) -> Plan:
        """How a listing is answered now. Looks keys up; judges, queries and folds nothing."""
        try:
            return CandidateFinder(self._index(), self._held, listing, self._limits).candidates()
        except NoneFoundError as error:
            return self._scan(listing, str(error))

    def find(self, listing: Listing) -> Found:
        """The rows of a listing.

        Raises InvalidArgumentError when its filter cannot be computed, such as for an integer
        overflow.
        """
        self._hold_values(listing)
        plan = self.plan(listing)
        if isinstance(plan, Candidates):
            try:
                return judged(self._index(), listing, plan)
            except TooManyError:
                plan = self._scan(listing, f"{plan.reason}: too many were judged in vain")
        return self._scanned(listing, plan)

    def explain(self, listing: Listing) -> Explanation:
        """How `find` would answer a listing now."""
        match self.plan(listing):
            case Candidates(reason=reason, count=count):
                return Explanation(way="candidates", reason=reason, candidates=count)
            case Scan() as scan:
                sql, parameters = self._tables().query_of(scan.listing)
                first = self._first_ids(scan.listing)
                return Explanation(
                    way="scan",
                    reason=scan.reason,
                    sql="\n".join(filter(None, map(str.strip, sql.splitlines()))),
                    parameters=parameters,
                    first_ids=None if first is None else len(first),
                    folded_position=scan.folded_position,
                    fold_to=scan.fold_to,
                    laid_over=len(scan.laid_over),
                )

    def _hold_values(self, listing: Listing) -> None:
        """Note that values of a property are asked for: in the end they are held."""
        where = listing.where
        if where is None or where.evaluate is None or listing.among is not ALL_NODES:
            return
        if isinstance(where.look_up, PropertyLookUp | RangeLookUp):
            wanted = where.looked_up_spans(where.look_up)
            self._held.note_use(listing.kind.name, where.look_up.property, wanted, self._tables())

    def _scan(self, listing: Listing, reason: str) -> Scan:
        folded = self._tables().folded_position()
        if listing.as_of <= folded:
            return Scan(reason, listing, folded)
        laid_over = self._recent.touched(listing, folded)
        if laid_over is None:
            return Scan(reason, listing, folded, fold_to=listing.as_of)
        limit = None if listing.limit is None else listing.limit + len(laid_over)
        earlier = msgspec.structs.replace(listing, as_of=folded, limit=limit)
        return Scan(reason, earlier, folded, laid_over=laid_over)

    def _scanned(self, listing: Listing, scan: Scan) -> Found:
        tables, touched = self._tables(), Found([], {})
        if scan.laid_over:
            try:
                touched = self._laid_over(listing, scan)
            except TooManyError:
                scan = Scan(scan.reason, listing, scan.folded_position, fold_to=listing.as_of)
        if scan.fold_to is not None:
            tables.fold(scan.fold_to)
        rows = self._rows(scan.listing)
        if not scan.laid_over:
            return Found(rows, {})
        untouched = [row for row in rows if row[0] not in scan.laid_over]
        return Found(listing.in_order([*untouched, *touched.rows]), touched.payloads)

    def _rows(self, listing: Listing) -> list[Row]:
        """What the tables list."""
        first = self._first_ids(listing)
        if first is not None:
            rows = self._tables().scanned(msgspec.structs.replace(listing, within=first))
            is_complete = len(rows) == listing.limit
            if len(self._complete) > _FILTERS_MAX:
                self._complete.clear()
            self._complete[_filter_hash(listing)] += 1 if is_complete else -1
            if is_complete:
                return rows
        return self._tables().scanned(listing)

    def _first_ids(self, listing: Listing) -> range | None:
        """Some ids that a page by id is often complete with: far fewer than all of them."""
        limits = self._limits
        if listing.order_by != "id" or listing.among is not ALL_NODES or listing.limit is None:
            return None
        if self._complete[_filter_hash(listing)] < 0:
            return None
        ids = listing.ids(self._index().highest_id(listing.kind.sequence))
        first = ids[: limits.first_ids]
        return first if listing.limit <= len(first) <= len(ids) // limits.first_share else None

    def _laid_over(self, listing: Listing, scan: Scan) -> Found:
        index, count = self._index(), len(scan.laid_over)
        neighbours_of = neighbours_in_index(index, listing, self._limits.neighbours_max)
        few = Candidates(scan.reason, count, scan.laid_over, count, count, neighbours_of)
        return judged(index, listing, few)


def _filter_hash(listing: Listing) -> int:
    return 0 if listing.where is None else hash(listing.where.condition)
