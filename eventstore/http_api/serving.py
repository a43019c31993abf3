"""What an application serves, to whom, and within which limits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from eventstore.http_api.verification_runs import Verifications
from eventstore.store import Engine

HERE: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
"""The hosts of addresses on this machine."""


class Limits(msgspec.Struct, frozen=True):
    """How much is answered at once, and for how long an answer may take, in seconds.

    Queries and downloads are those that may take long. More of them are refused; other requests
    wait for their turn.
    """

    answers_max: int = 8
    queries_max: int = 4
    answer_seconds: float = 30.0
    query_seconds: float = 10.0
    stream_seconds: float = 3_600.0
    body_bytes_max: int = 1024 * 1024


class Serving(msgspec.Struct, frozen=True):
    """The stores by name, and how they are served.

    Where there is one, its name is not in addresses. `hosts` are the names by which browsers reach
    the server, without ports. `proxies` are the addresses of who speaks TLS with them in its place,
    and alone may ask then. `checkpoints` is a folder of signed checkpoints.
    """

    stores: Mapping[str, Engine]
    hosts: frozenset[str] = HERE
    proxies: frozenset[str] = frozenset()
    limits: Limits = Limits()
    checkpoints: Path | None = None
    verifications: Verifications = msgspec.field(default_factory=Verifications)
