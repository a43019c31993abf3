"""Signs browsers in by the tokens of the gRPC server, and knows them again by a cookie."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

import msgspec
from starlette.requests import Request

from eventstore.errors import ResourceExhaustedError, UnauthenticatedError
from eventstore.server.access import Credentials
from eventstore.server.over_grpc_web import WebIncoming
from eventstore.server.principal import Principal

SESSION_SECONDS: Final = 12 * 3_600
_SESSIONS_MAX: Final = 10_000
_FAILURES_MAX: Final = 10
_FAILURES_SECONDS: Final = 60.0
_PEERS_MAX: Final = 10_000


class _Session(msgspec.Struct, frozen=True):
    token: str
    until: float


class SignedIn:
    """Authenticates callers of a server: a bearer's token, or a browser's session.

    A session is in the memory of this process alone, for twelve hours at most. It stands for the
    token that it was begun with, which is checked again with each request: a token that is taken
    back ends it. All else that tells who calls does so as over gRPC. Safe to use from several
    threads.
    """

    def __init__(
        self,
        credentials: Credentials,
        port: int,
        *,
        is_secure: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`is_secure` says that browsers reach it by TLS, and send the cookie by nothing else."""
        self.is_secure = is_secure
        self.cookie_name = "__Host-eventstore" if is_secure else f"eventstore-{port}"
        self._credentials = credentials
        self._clock = clock
        self._changed = threading.Lock()
        self._sessions = OrderedDict[str, _Session]()
        self._failures = OrderedDict[str, deque[float]]()

    def principal(self, request: Request) -> Principal:
        """Raises UnauthenticatedError when nothing tells who it is, or what does is wrong."""
        token = None
        if "authorization" not in request.headers:
            token = self._token_of(request.cookies.get(self.cookie_name, ""))
        return self._principal_by(request, token)

    def sign_in(self, request: Request, token: str) -> str:
        """The cookie of a new session.

        Raises UnauthenticatedError for a token that is not known, and ResourceExhaustedError once
        too many of these came.
        """
        try:
            self._principal_by(request, token)
        except UnauthenticatedError:
            # Who has a right one is not kept out by others, who may share the address of a proxy.
            peer = request.client.host if request.client is not None else ""
            self._refuse_after_failures(peer)
            with self._changed:
                self._failures.setdefault(peer, deque(maxlen=_FAILURES_MAX)).append(self._clock())
                if len(self._failures) > _PEERS_MAX:
                    self._failures.popitem(last=False)
            raise
        cookie = secrets.token_urlsafe(32)
        with self._changed:
            self._sessions[_hashed(cookie)] = _Session(token, self._clock() + SESSION_SECONDS)
            if len(self._sessions) > _SESSIONS_MAX:
                self._sessions.popitem(last=False)
        return cookie

    def sign_out(self, request: Request) -> None:
        """End the session of a request, if it has one."""
        with self._changed:
            self._sessions.pop(_hashed(request.cookies.get(self.cookie_name, "")), None)

    def _principal_by(self, request: Request, token: str | None) -> Principal:
        """Who calls, by a token instead of what the request says if there is one."""
        headers = [pair for pair in request.scope["headers"] if pair[0] != b"cookie"]
        if token is not None:
            if not token.isascii() or not token.isprintable():
                raise UnauthenticatedError("this token is not known here, or not any more")
            headers = [pair for pair in headers if pair[0] != b"authorization"]
            headers.append((b"authorization", b"Bearer " + token.encode()))
        return self._credentials.principal(WebIncoming({**request.scope, "headers": headers}))

    def _token_of(self, cookie: str) -> str | None:
        hashed = _hashed(cookie)
        with self._changed:
            session = self._sessions.get(hashed)
            if session is not None and session.until <= self._clock():
                del self._sessions[hashed]
                return None
        return None if session is None else session.token

    def _refuse_after_failures(self, peer: str) -> None:
        with self._changed:
            failed = self._failures.get(peer, ())
            since = self._clock() - _FAILURES_SECONDS
            if sum(at > since for at in failed) >= _FAILURES_MAX:
                raise ResourceExhaustedError(
                    f"{_FAILURES_MAX} tokens were refused within a minute: wait for a minute"
                )


def _hashed(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "surrogatepass")).hexdigest()
