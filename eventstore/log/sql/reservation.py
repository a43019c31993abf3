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
        given = [sa.bindparam(column.name, type_=column.type) for column in COMMITS.columns]
        names = [column.name for column in COMMITS.columns]
        self._unless_held = COMMITS.insert().from_select(names, sa.select(*given).where(is_free))
        self._at_once = COMMITS.insert()
        self._is_held = False

    @property
    def inserting(self) -> sa.Insert:
        """Inserts a commit, unless somebody else has reserved that."""
        return self._at_once if self._is_held else self._unless_held

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
