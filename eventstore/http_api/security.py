"""Refuses requests that other sites make, and tells browsers what pages may do."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final

import msgspec

from eventstore.http_api.problems import MEDIA_TYPE, Problem, title_of
from eventstore.late_logger import late_logger

_LOGGER = late_logger("eventstore.http_api")

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "worker-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types eventstore",
    )
)
HEADERS: Final = tuple(
    (name.encode(), value.encode())
    for name, value in (
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    )
)

_OURS: Final = ("same-origin", "none")
_MISDIRECTED: Final = 421
_FORBIDDEN: Final = 403
_TOO_LONG: Final = 414
_FAILED: Final = 500
_CODES: Final = {
    _MISDIRECTED: "PERMISSION_DENIED",
    _FORBIDDEN: "PERMISSION_DENIED",
    _TOO_LONG: "INVALID_ARGUMENT",
    _FAILED: "INTERNAL",
}
_PATH_LENGTH_MAX: Final = 2_000


class Guard:
    """Lets requests through to an application that come from its own pages, or a reader's hand.

    The `Host` has to be a known name: else another site's name, led here by a trick with DNS, would
    pass for ours. `Sec-Fetch-Site` has to say that no other site asks, unless somebody follows a
    link. Who sends `Authorization` is no browser that another site could have misled, and need not
    send it.
    """

    def __init__(
        self, application: Application, hosts: Collection[str], proxies: Collection[str] = ()
    ) -> None:
        """Where there are proxies, which speak TLS with browsers, nobody else is answered."""
        self._application = application
        self._hosts = hosts
        self._proxies = proxies

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): it.decode("latin-1") for name, it in scope["headers"]}
        host = re.sub(r":[0-9]*$", "", headers.get("host", "").lower())

        has_begun = False

        async def send_with_headers(message: Any) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                message = {**message, "headers": [*message["headers"], *HEADERS]}
            await send(message)

        client = scope.get("client")
        if self._proxies and (client is None or client[0] not in self._proxies):
            await _refuse(
                send_with_headers, _FORBIDDEN, "this server is reached by its proxy alone"
            )
        elif host not in self._hosts:
            await _refuse(
                send_with_headers,
                _MISDIRECTED,
                "this server is not known by the Host of the request: name it when you start it",
            )
        elif not is_from_here(scope["method"], headers):
            await _refuse(
                send_with_headers,
                _FORBIDDEN,
                "requests of other sites are refused, and so are those of browsers that do not "
                "say whose they are (Sec-Fetch-Site); scripts send Authorization",
            )
        elif len(scope["path"]) > _PATH_LENGTH_MAX:
            # Python reads no number of more than 4,300 digits.
            await _refuse(
                send_with_headers, _TOO_LONG, "this path is too long to be that of anything"
            )
        else:
            try:
                await self._application(scope, receive, send_with_headers)
            except Exception as error:
                if has_begun:
                    raise
                _LOGGER.error("%s failed", scope["path"], exc_info=error)
                await _refuse(send_with_headers, _FAILED, "the server failed; its log says more")


def is_from_here(method: str, headers: Mapping[str, str]) -> bool:
    """Whether no other site makes a request, but by a link that somebody follows."""
    site = headers.get("sec-fetch-site")
    if site is None:
        return "authorization" in headers
    is_link = (
        method in ("GET", "HEAD")
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )
    return site in _OURS or is_link


async def _refuse(send: Send, status: int, text: str) -> None:
    body = msgspec.json.encode(Problem(title_of(status), status, _CODES[status], text))
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
