"""Who calls, and what of: made of what came with a call, before anything is answered."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Final

from msgspec import Struct

from eventstore import call_metadata
from eventstore.cancellation import Waiter, waited_for_by
from eventstore.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
    UnavailableError,
    UnimplementedError,
)
from eventstore.log import Position
from eventstore.moment_texts import parsed_moment
from eventstore.moments import position_of
from eventstore.server.access import Credentials, NoCredentials
from eventstore.server.incoming import Incoming
from eventstore.server.principal import DEFAULT_STORE, Principal
from eventstore.server.roles import NEEDED, Role
from eventstore.store import Engine
from eventstore.store.attribution import Attribution, acting_for, checked_attribution

_POSITION: Final = re.compile("[0-9]{1,18}", re.ASCII)


class Caller(Struct, frozen=True):
    """A call's store, by name, and what its caller may do with it; its gets see `as_of`."""

    store: str
    engine: Engine
    roles: frozenset[Role]
    attribution: Attribution
    as_of: Position | None = None

    @property
    def actor(self) -> str | None:
        """Who puts."""
        return self.attribution.actor or self.engine.attribution.actor

    def acting(self) -> AbstractContextManager[None]:
        """A block whose puts are the caller's."""
        return acting_for(self.engine, self.attribution)


class Callers:
    """Tells who calls, and which of the stores that are served here they call."""

    def __init__(
        self,
        stores: Mapping[str, Engine],
        credentials: Credentials | None = None,
        *,
        wait_seconds_max: float = 10.0,
        is_replica: bool = False,
    ) -> None:
        """Without credentials nobody is asked for them, and may do everything.

        A call may wait for some seconds for the position that it asks for. A replica takes gets
        alone: others write its stores.
        """
        self._wait_seconds_max = wait_seconds_max
        self._is_replica = is_replica
        self._stores = stores
        self._credentials = credentials or NoCredentials()

    def refuse_strangers(self, incoming: Incoming) -> None:
        """Raise what `of` raises where nothing, or nothing good, says who calls."""
        incoming.principal = self._credentials.principal(incoming)

    def of(self, incoming: Incoming) -> Caller:
        """The caller, who has the role that the RPC needs.

        Of a store in which the caller has no role nothing is told, not even whether it is there.
        Raises UnauthenticatedError, PermissionDeniedError, InvalidArgumentError, and
        UnavailableError if it cannot be found out now who it is.
        """
        needed = NEEDED.get(incoming.service, {}).get(incoming.rpc)
        if needed is None:
            raise UnimplementedError("Method not found!")
        principal = incoming.principal or self._credentials.principal(incoming)
        said = call_metadata.texts_of(incoming.metadata())
        store = self._store(principal, said.get(call_metadata.STORE))
        roles = principal.roles_in(store)
        if needed not in roles:
            mine = ", ".join(role.value for role in Role if role in roles)
            raise PermissionDeniedError(
                f"{incoming.rpc} needs the role {needed.value}, and you have {mine}"
            )
        if self._is_replica and needed not in (Role.READ, Role.AUDIT):
            raise FailedPreconditionError(
                f"{incoming.rpc}: this server is a replica, which only reads (--read-only): send "
                "puts to the primary, the server that writes this store"
            )
        if call_metadata.AS_OF in said and needed in (Role.WRITE, Role.ADMIN):
            raise FailedPreconditionError(
                f"{incoming.rpc} takes no puts as of a moment, which is now: leave "
                f"{call_metadata.AS_OF} out"
            )
        engine = self._stores[store]
        if call_metadata.MIN_POSITION in said:
            self._wait(incoming, engine, said[call_metadata.MIN_POSITION])
        return Caller(store, engine, roles, _attribution(principal, said), _position(engine, said))

    def _wait(self, incoming: Incoming, engine: Engine, text: str) -> None:
        """Wait until the store is seen up to a position. UnavailableError when that takes long."""
        if not _POSITION.fullmatch(text):
            raise InvalidArgumentError(
                f"{call_metadata.MIN_POSITION} is {text!r}: send what a put was answered as "
                f"{call_metadata.POSITION}"
            )
        waiter = Waiter()
        if not incoming.when_ended(waiter.leave):
            waiter.leave()
        # Half of the time that is left is for asking elsewhere.
        left = incoming.seconds_left()
        seconds = min(self._wait_seconds_max, math.inf if left is None else left / 2)
        try:
            with waited_for_by(waiter):
                engine.wait_for(int(text), seconds)
        except DeadlineExceededError:
            raise UnavailableError(
                f"position {text} is not seen here yet, after {seconds:.3g} s: try "
                "again, or ask the primary, the server that writes this store"
            ) from None

    def _store(self, principal: Principal, name: str | None) -> str:
        """The store that is asked for, or the only one, or the one without a name."""
        if name is not None:
            # Asked in this order it takes as long for a store of others as for none.
            if principal.roles_in(name) and name in self._stores:
                return name
            raise PermissionDeniedError(f"there is no store {name!r} that you may use")
        mine = [store for store in self._stores if principal.roles_in(store)]
        if not mine:
            raise PermissionDeniedError("there is no store that you may use")
        if len(mine) == 1:
            return mine[0]
        if DEFAULT_STORE in mine:
            return DEFAULT_STORE
        raise InvalidArgumentError(
            f"say which store with {call_metadata.STORE}: you may use {', '.join(mine)}"
        )


def _attribution(principal: Principal, said: Mapping[str, str]) -> Attribution:
    """Who puts, why, and on which request. Raises PermissionDeniedError for another's name."""
    actor = said.get(call_metadata.ACTOR)
    if principal.actor is not None and actor not in (None, principal.actor):
        raise PermissionDeniedError(
            f"you are {principal.actor!r}, and put as nobody else: leave {call_metadata.ACTOR} out"
        )
    return checked_attribution(
        principal.actor or actor, said.get(call_metadata.REASON), said.get(call_metadata.REQUEST_ID)
    )


def _position(engine: Engine, said: Mapping[str, str]) -> Position | None:
    """The position as of which the call asks. Raises InvalidArgumentError."""
    moment = said.get(call_metadata.AS_OF)
    if moment is None:
        return None
    position = position_of(engine.log, parsed_moment(moment).upto())
    # Another thread may have just appended it. An answer must not change once it is seen.
    engine.projections.catch_up()
    return position
