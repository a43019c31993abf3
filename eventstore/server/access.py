"""Who calls, by the credential that came with the call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from msgspec import Struct

from eventstore.errors import InvalidArgumentError, UnauthenticatedError
from eventstore.server.incoming import Incoming
from eventstore.server.principal import EVERY_STORE, Principal
from eventstore.server.reloading import Reloaded
from eventstore.server.roles import ALL_ROLES
from eventstore.server.rules import Rules
from eventstore.server.token_file import Tokens, is_token, principal_by_token

_AUTHORIZATION: Final = "authorization"
_BEARER: Final = "bearer "
_TOKEN_LENGTH_MAX: Final = 16 * 1024
_EVERYTHING: Final = {EVERY_STORE: ALL_ROLES}

ANYBODY: Final = Principal(None, _EVERYTHING)


class Credentials(Protocol):
    """What tells who calls. Raises UnauthenticatedError, and InvalidArgumentError."""

    def principal(self, incoming: Incoming) -> Principal: ...


class NoCredentials(Struct, frozen=True):
    """Whoever comes may do everything. A certificate's name is the actor, where there is one."""

    def principal(self, incoming: Incoming) -> Principal:
        name = incoming.certificate_name()
        return Principal(name, _EVERYTHING) if name else ANYBODY


class Access(Struct, frozen=True):
    """Tokens and rules, each if there is a file of them.

    A bearer's token comes before the header of a trusted proxy, and that before a certificate.
    """

    tokens: Reloaded[Tokens] | None = None
    rules: Reloaded[Rules] | None = None

    def principal(self, incoming: Incoming) -> Principal:
        """Raises UnauthenticatedError when nothing tells who it is, or what does is wrong."""
        rules = None if self.rules is None else self.rules.now()
        tokens = None if self.tokens is None else self.tokens.now()
        takes_jwt = rules is not None and rules.takes_jwt
        # Where no token is taken, a proxy may have left one of its own.
        if tokens is not None or takes_jwt:
            bearer = _bearer(incoming)
            if bearer is not None:
                if rules is not None and takes_jwt and (tokens is None or not is_token(bearer)):
                    return rules.by_jwt(bearer)
                return principal_by_token(tokens or {}, bearer)
        principal = None if rules is None else rules.by_peer(incoming)
        if principal is None:
            raise UnauthenticatedError(
                "this server asks who calls: send a token as `authorization: Bearer ...`"
            )
        return principal


def _bearer(incoming: Incoming) -> str | None:
    """The token of a call. Raises UnauthenticatedError for more than one, or what is none."""
    found = [*_values(incoming, _AUTHORIZATION)]
    if not found:
        return None
    if len(found) > 1 or len(found[0]) > _TOKEN_LENGTH_MAX:
        raise UnauthenticatedError("authorization comes twice, or is too long: send one token")
    if not found[0].lower().startswith(_BEARER):
        raise UnauthenticatedError("authorization is no bearer's: send `Bearer` and the token")
    token = found[0][len(_BEARER) :].strip()
    if not token:
        raise UnauthenticatedError("authorization has no token after `Bearer`: send one")
    return token


def _values(incoming: Incoming, name: str) -> Iterator[str]:
    for key, value in incoming.metadata():
        if key == name:
            if not isinstance(value, str):
                raise InvalidArgumentError(f"{name} is no text")
            yield value
