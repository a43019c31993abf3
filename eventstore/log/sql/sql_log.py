"""A log in a SQL database: one row a commit, whose key refuses the second writer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import sqlalchemy as sa

from eventstore import errors
from eventstore.log.log import Answer
from eventstore.log.remote.keeper import CommitRow
from eventstore.log.remote.remote_log import SEGMENT_RECORDS_MAX, RemoteLog, is_of_erasure
from eventstore.log.sql.database import Database
from eventstore.log.sql.keeper import SqlKeeper
from eventstore.log.sql.reservation import Reservation
from eventstore.log.sql.schema import COMMITS

if TYPE_CHECKING:
    from eventstore.log.sql.segment_bucket import SegmentBucket

_ROWS_MAX: Final = 2_000
"""So many commits are fetched in a statement."""

_NEWEST: Final = sa.select(sa.func.max(COMMITS.c.number))
_IS_THERE: Final = sa.select(COMMITS.c.number).where(
    COMMITS.c.number == sa.bindparam("number"), COMMITS.c.tree_head == sa.bindparam("tree_head")
)
"""Finds the row of a commit, and no other's of its number."""


class SqlLog(RemoteLog):
    """A log in tables of a SQL database."""

    _kept_in = "database"

    def __init__(
        self,
        database: Database,
        store_id: UUID,
        *,
        cache_folder: Path | None = None,
        read_only: bool = False,
        segment_records_max: int = SEGMENT_RECORDS_MAX,
        bucket: SegmentBucket | None = None,
    ) -> None:
        """Of a store that is there: see `opening` for how one is found or made.

        `bucket` has the files of its sealed segments, else the database.
        """
        self._database = database
        self._reservation = Reservation(database, store_id)
        super().__init__(
            SqlKeeper(database, bucket),
            store_id,
            cache_folder=cache_folder,
            read_only=read_only,
            segment_records_max=segment_records_max,
        )

    def _open(self) -> None:
        self._database.on_connect = None
        super()._open()
        self._database.on_connect = self._refuse_lost

    def reserved(self, do: Callable[[], Answer]) -> Answer:
        return self._reservation.hold(do)

    def _has_more(self) -> bool:
        # First: another thread may append meanwhile.
        known = self._commits.last_commit
        newest: int = self._database.first_value(_NEWEST) or 0
        if newest < known:
            raise self._gone(known)
        self._is_behind = self._is_behind or newest > self._commits.last_commit
        return newest > known

    def _catch_up(self) -> None:
        rows = _ROWS_MAX
        while rows == _ROWS_MAX:
            known = self._commits.last_commit
            statement = (
                sa.select(COMMITS)
                .where(COMMITS.c.number > known)
                .order_by(COMMITS.c.number)
                .limit(_ROWS_MAX)
            )
            found = self._database.rows(statement)
            rows = len(found)
            some = [*takewhile(lambda row: row.message is not None, found)]
            self._commits.add(
                [
                    CommitRow(*row)._replace(
                        tree_head=bytes(row.tree_head), message=bytes(row.message)
                    )
                    for row in some
                ]
            )
            if len(some) < len(found):
                # Sealed, and erased from, by others: their segment has it.
                self._take_segments()
                number = found[len(some)].number
                if self._commits.last_commit < number:
                    raise self._emptied(number)
                rows = _ROWS_MAX
            self._look_for_segments(
                is_erasing=any(is_of_erasure(bytes(row.message)) for row in some)
            )
        self._is_behind = False

    def _messages_again(self, first: int, first_positions: Sequence[int]) -> list[bytes]:
        last = first + len(first_positions) - 1
        statement = (
            sa.select(COMMITS.c.message)
            .where(COMMITS.c.number.between(first, last))
            .order_by(COMMITS.c.number)
        )
        found = [bytes(row[0] or b"") for row in self._database.rows(statement)]
        if len(found) != len(first_positions):
            raise self._gone(first)
        return found

    def _insert(self, rows: Sequence[CommitRow], expected_position: int) -> None:
        (row,) = rows
        before = self._commits.newest
        # Until it is known: an interrupt may come after it was sent.
        was_behind, self._is_behind = self._is_behind, True
        try:
            is_inserted = self._database.insert_once(
                self._reservation.inserting(row.number),
                row._asdict() | {"before_number": before[0], "before_head": before[1]},
                is_there=_IS_THERE,
            )
            if is_inserted is None:
                self._reservation.wait()
        except errors.OutcomeUnknownError:
            raise
        except errors.StatusError:
            self._is_behind = was_behind
            raise
        if not is_inserted:
            raise self._conflict(expected_position)
        self._is_behind = was_behind

    def _head_of(self, known_by: int) -> bytes | None:
        found = self._database.rows(_head_of(known_by))
        return bytes(found[0][0]) if found else None

    def _kept_as(self, number: int, begin: int) -> str:  # noqa: ARG002
        return f"the row of {COMMITS.name}, number {number}"

    def _gone(self, number: int) -> errors.DataLossError:
        return self._missing(number, self._kept_as(number, 0))

    def _emptied(self, number: int) -> errors.DataLossError:
        return errors.DataLossError(
            f"{self.name}: commit {number} is lost: {self._kept_as(number, 0)} has no message, and "
            "no segment has it; run `eventstore verify` and restore it from a backup"
        )

    def _refuse_lost(self, connection: sa.Connection) -> None:
        """Raise DataLossError unless the database still has the newest commit that was read."""
        number, head = self._commits.newest
        if not number:
            return
        found = connection.execute(_head_of(number)).first()
        if found is None or bytes(found[0]) != head:
            raise self._gone(number)


def _head_of(number: int) -> sa.Select[Any]:
    """The tree head of a commit."""
    return sa.select(COMMITS.c.tree_head).where(COMMITS.c.number == number)
