"""The keys of an issuer of tokens (JWKS): in a file, or at an address where they change."""

from __future__ import annotations

import functools
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

import msgspec
from msgspec import Struct

from eventstore.errors import InvalidArgumentError, StatusError, UnavailableError
from eventstore.late_logger import late_logger
from eventstore.log.os_errors import translating
from eventstore.server.reloading import Reloaded

_KEY_TYPES: Final = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
"""By how algorithms begin."""

_FRESH_SECONDS: Final = 300.0
"""For how long keys of an address are used without asking for them again."""

_ASKING_AGAIN_SECONDS: Final = 15.0
"""How often they are asked for at most, whatever tokens come."""

_TIMEOUT_SECONDS: Final = 5.0
_BYTES_MAX: Final = 1024 * 1024

_now = time.monotonic

_LOGGER = late_logger("eventstore.server")


class _Jwks(Struct, frozen=True):
    keys: tuple[dict[str, Any], ...]


class KeySet:
    """The keys that an issuer had at one moment."""

    def __init__(self, content: bytes) -> None:
        """Raises InvalidArgumentError for what is no JWKS."""
        try:
            self._keys = msgspec.json.decode(content, type=_Jwks).keys
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise InvalidArgumentError(f"no JWKS: {error}") from None
        self._made = dict[tuple[int, str], Any]()

    def find(self, key_id: str | None, algorithm: str) -> Any:
        """The key of an id, or the only one that fits; None if there is none for the algorithm."""
        fitting = [
            number
            for number, key in enumerate(self._keys)
            if (key_id is None or key.get("kid") == key_id)
            and key.get("kty") == _KEY_TYPES.get(algorithm[:2])
            and key.get("use", "sig") == "sig"
            and key.get("alg", algorithm) == algorithm
        ]
        if len(fitting) != 1:
            return None
        [number] = fitting
        if (number, algorithm) not in self._made:
            self._made[number, algorithm] = _key_of(self._keys[number], algorithm)
        return self._made[number, algorithm]


class Keys(Protocol):
    """The keys of an issuer, by now."""

    def find(self, key_id: str | None, algorithm: str) -> Any:
        """As in `KeySet`. Raises UnavailableError when they cannot be had."""


class FileKeys:
    """Keys in a file, which is read again when it has changed."""

    def __init__(self, file: Path) -> None:
        self._set = Reloaded([file], functools.partial(_read, file))

    def find(self, key_id: str | None, algorithm: str) -> Any:
        return self._set.now().find(key_id, algorithm)


class WebKeys:
    """Keys at an https address. They are asked for again after a while, and for an unknown id.

    When that fails, those that were there are used on.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._set: KeySet | None = None
        self._asked_at = -_FRESH_SECONDS

    def find(self, key_id: str | None, algorithm: str) -> Any:
        found = self._by_now(_FRESH_SECONDS).find(key_id, algorithm)
        if found is None:
            found = self._by_now(_ASKING_AGAIN_SECONDS).find(key_id, algorithm)
        return found

    def _by_now(self, seconds: float) -> KeySet:
        """The keys, asked for again if that was longer ago. Raises UnavailableError."""
        known = self._set
        if known is not None and not self._is_older(seconds):
            return known
        # One call asks; the others wait only where there is nothing yet.
        if self._lock.acquire(blocking=known is None):
            try:
                if self._is_older(seconds if self._set else _ASKING_AGAIN_SECONDS):
                    self._ask()
            finally:
                self._lock.release()
        if self._set is None:
            raise UnavailableError("the keys of the issuer of tokens cannot be had: try again")
        return self._set

    def _is_older(self, seconds: float) -> bool:
        return _now() - self._asked_at >= seconds

    def _ask(self) -> None:
        self._asked_at = _now()
        try:
            self._set = KeySet(_fetched(self._address))
        except (OSError, HTTPException, StatusError) as error:
            _LOGGER.error("%s: the keys of tokens could not be had: %s", self._address, error)


@functools.lru_cache(maxsize=8)
def keys_at(jwks: str, folder: Path) -> Keys:
    """The keys at an https address, or in a file, whose path is taken from a folder.

    Raises InvalidArgumentError for any other address, or a file that is no JWKS.
    """
    parts = urllib.parse.urlsplit(jwks)
    if parts.scheme == "https" and parts.hostname:
        return WebKeys(jwks)
    if "://" in jwks:
        raise InvalidArgumentError(f"jwks is {jwks!r}: use an address with https, or a file")
    return FileKeys(folder / jwks)


def _read(file: Path) -> KeySet:
    with translating("reading", file):
        content = file.read_bytes()
    try:
        return KeySet(content)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{file} is {error.message}") from None


def _key_of(key: Mapping[str, Any], algorithm: str) -> Any:
    import jwt

    try:
        return jwt.PyJWK(dict(key), algorithm=algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    """Keys are believed for where they are: another place may have no TLS."""

    def redirect_request(self, *_: Any) -> NoReturn:
        raise OSError("it leads elsewhere: name the address at which the keys are")


def _fetched(address: str) -> bytes:
    opener = urllib.request.build_opener(_NoRedirection())
    with opener.open(address, timeout=_TIMEOUT_SECONDS) as answer:
        content: bytes = answer.read(_BYTES_MAX + 1)
    if len(content) > _BYTES_MAX:
        raise OSError(f"it is longer than {_BYTES_MAX:,} bytes")
    return content
