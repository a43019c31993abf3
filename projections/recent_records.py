"""The newest records at hand: nodes that a few puts have touched are judged, and not folded."""

from __future__ import annotations

from collections import deque
from typing import Final

from eventstore.log import Commit, Record
from eventstore.log.kinds import ARTIFACT, ASSOCIATION, ATTRIBUTION, CONTEXT, EVENT, EXECUTION
from eventstore.log.readable import read_message
from eventstore.projections.listing import InContext, Listing

RECENT_RECORDS_MAX: Final = 64
"""Up to this many records are cheaper to look at than to fold into the tables, per query."""

_LINKS: Final = {
    (ARTIFACT, "events"): EVENT,
    (ARTIFACT, "contexts"): ATTRIBUTION,
    (EXECUTION, "events"): EVENT,
    (EXECUTION, "contexts"): ASSOCIATION,
}
"""What leads from nodes of a kind to neighbours."""


class RecentRecords:
    """The newest records of a log, without a gap between them.

    One thread at a time notes, any number ask.
    """

    def __init__(self) -> None:
        self._records: deque[Record] = deque(maxlen=RECENT_RECORDS_MAX)

    def note(self, commit: Commit) -> None:
        records = self._records
        if records and records[-1].position != commit.first_position - 1:
            records.clear()
        records.extend(commit.records[-RECENT_RECORDS_MAX:])

    def forget(self) -> None:
        """Have no records at hand any more."""
        self._records.clear()

    def touched(self, listing: Listing, folded_position: int) -> frozenset[int] | None:
        """The nodes for which tables at an older position may answer a listing otherwise.

        None when it is better to fold them first: when they are many, or the listing depends on
        more than the nodes themselves and their links.
        """
        where = listing.where
        if isinstance(listing.among, InContext) or (where is not None and where.evaluate is None):
            return None
        if not folded_position or not 0 < listing.as_of - folded_position <= RECENT_RECORDS_MAX:
            return None
        # One step, whoever notes meanwhile.
        recent = list(self._records)
        if not recent or recent[0].position > folded_position + 1:
            return None
        if recent[-1].position < listing.as_of:
            # The noting of the newest ones was interrupted.
            return None
        neighbours = None if where is None else where.neighbours
        link = None if neighbours is None else _LINKS[listing.kind, neighbours]
        found: set[int] = set()
        for record in recent:
            if not folded_position < record.position <= listing.as_of:
                continue
            if record.kind == listing.kind.name:
                found.add(record.entity_id)
            elif neighbours == "contexts" and record.kind == CONTEXT.name:
                return None
            elif link is not None and record.kind == link.name and record.payload is not None:
                message = read_message(link.message, record.payload)
                found.add(getattr(message, f"{listing.kind.name}_id"))
        return frozenset(found)
