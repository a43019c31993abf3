"""Let a writer go first that others have overtaken repeatedly, by a lock of the server.

Who inserts a commit looks in the same statement whether somebody else holds the lock. Nothing
depends on it but who comes next: a lock that is held for too long, as by a machine that is gone, is
passed over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, TypeVar
from uuid import UUID

import sqlalchemy as sa

from eventstore.log.sql.database import Database
from eventstore.log.sql.schema import COMMITS

_Answer = TypeVar("_Answer")

WAITED_SECONDS_MAX: Final = 5.0
_LOOKED_EVERY_SECONDS: Final = 0.005


class Reservation:
    """The right of one writer to append, of all that share a log.

    It is taken by one thread of a process at a time.
    """

    def __init__(self, database: Database, store_id: UUID) -> None:
        self._database = database
        number = int.from_bytes(store_id.bytes[:8], "big", signed=True)
        key: Any
        if database.is_mysql:
            key = sa.literal_column(f"'eventstore {store_id.hex}'")
            own = sa.func.connection_id()
            is_free = sa.func.coalesce(sa.func.is_used_lock(key), own) == own
            self._take, self._give_back = sa.func.get_lock(key, 0), sa.func.release_lock(key)
        else:
            key = sa.literal_column(f"'{number}'::bigint")
            is_free = sa.func.pg_try_advisory_xact_lock_shared(key) == sa.true()
            self._take = sa.func.pg_try_advisory_lock(key)
            self._give_back = sa.func.pg_advisory_unlock(key)
        before = COMMITS.alias("before")
        is_next = sa.exists().where(
            before.c.number == sa.bindparam("before_number", type_=before.c.number.type),
            before.c.tree_head == sa.bindparam("before_head", type_=before.c.tree_head.type),
        )
        self._inserting = {
            (is_first, is_held): _inserting_if(
                *([] if is_first else [is_next]), *([] if is_held else [is_free])
            )
            for is_first in (True, False)
            for is_held in (True, False)
        }
        self._is_held = False

    def inserting(self, number: int) -> sa.Insert:
        """Inserts a commit, unless somebody else has reserved that.

        The one `before_number`, whose tree head is `before_head`, has to be there: in a database
        that was set back nothing is put on top.
        """
        return self._inserting[number == 1, self._is_held]

    def hold(self, do: Callable[[], _Answer]) -> _Answer:
        """The answer of `do`, called while others wait with their appends."""
        is_taken = self._taken()
        self._is_held = True
        try:
            return do()
        finally:
            self._is_held = False
            if is_taken:
                self._database.ask(sa.select(self._give_back))

    def wait(self) -> None:
        """Wait until nobody has reserved the next append, though no longer than is reasonable."""
        if self._taken():
            self._database.ask(sa.select(self._give_back))

    def _taken(self) -> bool:
        until = time.monotonic() + WAITED_SECONDS_MAX
        while True:
            if self._database.ask(sa.select(self._take)):
                return True
            if time.monotonic() > until:
                return False
            time.sleep(_LOOKED_EVERY_SECONDS)


def _inserting_if(*conditions: sa.ColumnElement[bool]) -> sa.Insert:
    given = [sa.bindparam(column.name, type_=column.type) for column in COMMITS.columns]
    names = [column.name for column in COMMITS.columns]
    return COMMITS.insert().from_select(names, sa.select(*given).where(*conditions))
