"""Which pages in browsers may call, and what browsers are told about it."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from eventstore.call_metadata import (
    ACTOR,
    AS_OF,
    MIN_POSITION,
    POSITION,
    REASON,
    REQUEST_ID,
    STORE,
)
from eventstore.errors import InvalidArgumentError

ANY: Final = "*"

_ORIGIN: Final = re.compile(r"https?://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_HERE: Final = ("127.0.0.1", "[::1]", "localhost")

_MAY_SEND: Final = (
    *("keep-alive", "user-agent", "cache-control", "content-type", "content-transfer-encoding"),
    *("custom-header-1", "x-accept-content-transfer-encoding", "x-accept-response-streaming"),
    *("x-user-agent", "x-grpc-web", "grpc-timeout"),
    # The above is what Envoy lets through in Kubeflow.
    "authorization",
    *(
        f"{name}{form}"
        for name in (STORE, AS_OF, ACTOR, REASON, REQUEST_ID, MIN_POSITION)
        for form in ("", "-bin")
    ),
)
_MAY_READ: Final = ("custom-header-1", "grpc-status", "grpc-message", POSITION)
_KNOWN_FOR_SECONDS: Final = 86_400


def checked_origin(text: str) -> str:
    """An origin as browsers write it, such as `https://ui.example.com`; `*` is any.

    Raises InvalidArgumentError for anything else.
    """
    origin = text.lower()
    if origin != ANY and not _ORIGIN.fullmatch(origin):
        raise InvalidArgumentError(
            f"the origin {text!r} is not of the form https://ui.example.com or http://host:3000, "
            "without a path; * is any"
        )
    return origin


def told_to(origin: str | None, allowed: Collection[str]) -> list[tuple[bytes, bytes]]:
    """The headers of an answer by which a browser gives it to a page of an origin, or not."""
    told = [(b"vary", b"origin")]
    if origin is not None and (ANY in allowed or origin.lower() in allowed):
        told.append((b"access-control-allow-origin", origin.encode("latin-1")))
        told.append((b"access-control-expose-headers", ", ".join(_MAY_READ).encode()))
    return told


def told_beforehand() -> list[tuple[bytes, bytes]]:
    """The headers besides, where a browser asks before it calls."""
    return [
        (b"access-control-allow-methods", b"POST, OPTIONS"),
        (b"access-control-allow-headers", ", ".join(_MAY_SEND).encode()),
        (b"access-control-max-age", str(_KNOWN_FOR_SECONDS).encode()),
    ]


def is_ours(asked: str, allowed: Collection[str]) -> bool:
    """Whether a `Host` header names this machine, or the host of an allowed origin.

    A page whose own host leads to this machine all of a sudden, by a trick with DNS, is of one
    origin with the server for a browser: its host tells them apart.
    """
    host = re.sub(r":[0-9]*$", "", asked.lower())
    names = (_ORIGIN.fullmatch(origin) for origin in allowed)
    return ANY in allowed or host in (*_HERE, *(name["host"] for name in names if name))
