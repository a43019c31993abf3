"""Who calls, and what of: made of what came with a call, before anything is answered."""

from __future__ import annotations

from contextlib import AbstractContextManager

from msgspec import Struct
from msgspec.structs import replace

from eventstore import call_metadata
from eventstore.errors import PermissionDeniedError, UnimplementedError
from eventstore.log import Position
from eventstore.moment_texts import parsed_moment
from eventstore.moments import position_of
from eventstore.server.incoming import Incoming
from eventstore.server.roles import ALL_ROLES, NEEDED, Role
from eventstore.store import Engine
from eventstore.store.attribution import Attribution, acting_for, checked_attribution


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
    """Tells who calls. Here it is anybody, and there is one store."""

    def __init__(self, engine: Engine) -> None:
        self._anybody = Caller("", engine, ALL_ROLES, Attribution())

    def of(self, incoming: Incoming) -> Caller:
        """The caller, who has the role that the RPC needs.

        Raises UnauthenticatedError, PermissionDeniedError, InvalidArgumentError.
        """
        needed = NEEDED.get(incoming.service, {}).get(incoming.rpc)
        if needed is None:
            raise UnimplementedError("Method not found!")
        caller = self._anybody
        said = call_metadata.texts_of(incoming.metadata())
        if said:
            caller = replace(
                caller,
                attribution=checked_attribution(
                    *map(
                        said.get,
                        (call_metadata.ACTOR, call_metadata.REASON, call_metadata.REQUEST_ID),
                    )
                ),
                as_of=_position(caller.engine, said.get(call_metadata.AS_OF)),
            )
        if needed not in caller.roles:
            raise PermissionDeniedError(f"{incoming.rpc} needs the role {needed.value}")
        return caller


def _position(engine: Engine, moment: str | None) -> Position | None:
    """The position of a moment as a text. Raises InvalidArgumentError."""
    if moment is None:
        return None
    position = position_of(engine.log, parsed_moment(moment).upto())
    # Another thread may have just appended it. An answer must not change once it is seen.
    engine.projections.catch_up()
    return position
