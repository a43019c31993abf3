"""Who asks: by the cookie of a browser that was let in, or a bearer's token."""

from __future__ import annotations

import hmac
import secrets
from typing import Protocol

from starlette.requests import Request

from eventstore.errors import UnauthenticatedError
from eventstore.server.access import ANYBODY
from eventstore.server.principal import EVERY_STORE, Principal
from eventstore.server.roles import Role, with_implied


class Authenticator(Protocol):
    """Tells who asks."""

    def principal(self, request: Request) -> Principal:
        """Raises UnauthenticatedError when nothing tells who it is, or what does is wrong."""
        ...


class NoAuthentication:
    """Whoever comes may read and audit everything."""

    def principal(self, request: Request) -> Principal:  # noqa: ARG002
        return ANYBODY


class OneBrowser:
    """Authenticates the user who started a server.

    The address that it opens in the browser has a token, which is good for once: for a cookie that
    this process alone accepts. Other users of the machine have neither.
    """

    def __init__(self, port: int) -> None:
        # Browsers give a cookie to all ports of a host: another `eventstore ui` has its own.
        self.cookie_name = f"eventstore-{port}"
        self._token: str | None = secrets.token_urlsafe(32)
        self._cookie = secrets.token_urlsafe(32)

    @property
    def token(self) -> str | None:
        """What opens it, None once it is used."""
        return self._token

    def principal(self, request: Request) -> Principal:
        given = request.cookies.get(self.cookie_name, "")
        if not hmac.compare_digest(given.encode(), self._cookie.encode()):
            raise UnauthenticatedError(
                "this page is for the browser that `eventstore ui` opened: start it again to open "
                "another; a script asks `eventstore serve STORE --http=PORT`"
            )
        return Principal(None, {EVERY_STORE: with_implied(Role.AUDIT)})

    def enter(self, token: str) -> str:
        """The cookie for the token. Raises UnauthenticatedError for another, or a used one."""
        if self._token is None or not hmac.compare_digest(token.encode(), self._token.encode()):
            raise UnauthenticatedError(
                "this address was opened before, or is of an `eventstore ui` that has ended: start "
                "it again"
            )
        self._token = None
        return self._cookie
