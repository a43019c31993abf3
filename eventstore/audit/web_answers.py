"""What a web server answers: whole and within a time, or an error that says what to do."""

from __future__ import annotations

import http.client
import io
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Mapping
from typing import Any, Final

from eventstore.errors import InvalidArgumentError, UnavailableError

SILENCE_SECONDS_MAX: Final = 30
ANSWER_SECONDS_MAX: Final = 120
_AGENT: Final = "mlmd-eventstore"
_SAFE: Final = "/%:@!$&'()*+,;=~-._"


def checked_address(address: str, *, has_query: bool) -> str:
    """The address as servers take it. Raises InvalidArgumentError, which shows no password."""
    try:
        parts = urllib.parse.urlsplit(address)
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError as error:
        raise InvalidArgumentError(f"not an address: {error}") from None
    if "@" in parts.netloc:
        raise InvalidArgumentError(
            "an address with a name or password is not taken, since messages would show it: leave "
            "out what stands before the @"
        )
    if parts.scheme.lower() not in ("http", "https") or not has_host:
        raise InvalidArgumentError(f"{address!r} is no address with http or https")
    if not parts.netloc.isascii():
        raise InvalidArgumentError(f"{address!r}: write the host's name in ASCII (xn--...)")
    if not has_query and (parts.query or parts.fragment):
        raise InvalidArgumentError(f"{address!r}: leave out what stands after the path")
    path = urllib.parse.quote(parts.path, safe=_SAFE)
    query = urllib.parse.quote(parts.query, safe=_SAFE + "?")
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, path, query, ""))


def web_opener() -> urllib.request.OpenerDirector:
    """What asks web servers, and nothing else: a redirection could lead to files or FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _HttpHandler(),
        _HttpsHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def answer_of(
    opener: urllib.request.OpenerDirector,
    address: str,
    most_bytes: int,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes | None:
    """What is at an address, at least one byte too many if it is more; None if there is nothing.

    Raises UnavailableError when it cannot be had now.
    """
    request = urllib.request.Request(  # noqa: S310
        address, body, {"User-Agent": _AGENT, **(headers or {})}
    )
    try:
        with opener.open(request, timeout=SILENCE_SECONDS_MAX) as answer:
            # What cannot be compressed is a little longer when it is.
            limit = most_bytes + most_bytes // 8 + 1024
            content: bytes = answer.read(limit)
            if answer.length and len(content) < limit:
                raise ConnectionError(f"it was cut off, {answer.length} bytes before its end")
            return _unpacked(content, answer.headers.get("Content-Encoding", ""), most_bytes)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (404, 410):
            return None
        raise UnavailableError(
            f"{address} answers {error.code}: {_what_to_do(error.code)}"
        ) from None
    except TimeoutError:
        raise UnavailableError(
            f"{address} cannot be read: it was silent for {SILENCE_SECONDS_MAX} seconds, or not "
            f"done after {ANSWER_SECONDS_MAX}"
        ) from None
    except (OSError, http.client.HTTPException, zlib.error, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise UnavailableError(f"{address} cannot be read: {reason}") from None


def _what_to_do(code: int) -> str:
    if code in (401, 403, 407):
        return "it is not open to everybody: check the address, and who may read it"
    if code == 429 or code >= 500:
        return "retry later"
    if 300 <= code < 400:
        return "it redirects in a circle or to what is no web server: check the address"
    return "check the address"


def _unpacked(content: bytes, encoding: str, most_bytes: int) -> bytes:
    if encoding.lower() in ("", "identity"):
        return content
    if encoding.lower() != "gzip":
        raise ValueError(f"it is encoded as {encoding!r}, which was not asked for")
    unpacking = zlib.decompressobj(16 + zlib.MAX_WBITS)
    unpacked = unpacking.decompress(content, most_bytes + 1)
    if not unpacking.eof and len(unpacked) <= most_bytes:
        raise ValueError("the compressed answer is cut off")
    return unpacked


class _InTime(io.RawIOBase):
    """What a socket receives until a deadline, however often a byte of it comes."""

    def __init__(self, received: io.RawIOBase, connection: socket.socket) -> None:
        self._received = received
        self._connection = connection
        self._deadline = time.monotonic() + ANSWER_SECONDS_MAX

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(min(left, SILENCE_SECONDS_MAX))
        return self._received.readinto(buffer)

    def close(self) -> None:
        self._received.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **others: Any) -> None:
        super().__init__(sock, *arguments, **others)
        self.fp = io.BufferedReader(_InTime(self.fp.detach(), sock))


class _HttpConnection(http.client.HTTPConnection):
    response_class = _Response


class _HttpsConnection(http.client.HTTPSConnection):
    response_class = _Response


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_HttpConnection, req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_HttpsConnection, req)
