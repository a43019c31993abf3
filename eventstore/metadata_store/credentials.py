"""What a client of a server sends with each call so that it is let in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from eventstore import call_metadata
from eventstore.errors import InvalidArgumentError
from eventstore.log.os_errors import translating

Metadata: TypeAlias = list[tuple[str, str | bytes]]


class Credentials:
    """A token, and the store that is meant, each if there is one.

    A token in a file is read again whenever the file has changed, since such tokens end.
    """

    def __init__(self, token: str | Path | None, store: str | None) -> None:
        self._file = token if isinstance(token, Path) else None
        self._read: tuple[tuple[int, int], Metadata] | None = None
        self._always = [] if store is None else [call_metadata.written(call_metadata.STORE, store)]
        if isinstance(token, str):
            self._always += _authorization(token, "token")

    def metadata(self) -> Metadata:
        """Raises InvalidArgumentError, and what reading the file raises."""
        if self._file is None:
            return self._always
        with translating("reading", self._file):
            found = os.stat(self._file)
        identity = found.st_ino, found.st_mtime_ns
        if self._read is None or self._read[0] != identity:
            with translating("reading", self._file):
                text = self._file.read_bytes().decode("ascii", "replace")
            self._read = identity, _authorization(text.strip(), str(self._file))
        return self._always + self._read[1]


def credentials_of(
    token: str | Path | None, store: str | None, environment: Mapping[str, str]
) -> Credentials:
    """Those that are given, else those of `EVENTSTORE_TOKEN`, `_TOKEN_FILE` and `_STORE`."""
    if token is None:
        file = environment.get("EVENTSTORE_TOKEN_FILE")
        token = environment.get("EVENTSTORE_TOKEN") or (Path(file) if file else None)
    return Credentials(token, store or environment.get("EVENTSTORE_STORE") or None)


def _authorization(token: str, source: str) -> Metadata:
    if not token:
        raise InvalidArgumentError(f"{source} is empty, and has no token: leave it out, or set one")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidArgumentError(f"{source} has no token: one line without spaces, in ASCII")
    return [("authorization", f"Bearer {token}")]
