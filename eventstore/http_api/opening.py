"""What is answered while a store is opened and folded: 503, and how far that is."""

from __future__ import annotations

from typing import Any, Final

from eventstore.http_api.catalog import types, used_properties
from eventstore.http_api.security import Application, Guard, Receive, Send
from eventstore.http_api.serving import HERE
from eventstore.log import Progress
from eventstore.log.kinds import NODE_KINDS
from eventstore.metadata_store.source import Source
from eventstore.store import Engine

_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta http-equiv="refresh" content="1">
<title>Opening · eventstore</title></head>
<body><main><h1>The store is being opened</h1>
<p>{said}</p><progress{much}></progress></main></body>
</html>
"""


class Opening:
    """Answers 503 until there is an application, and then has that answer."""

    def __init__(self, hosts: frozenset[str] = HERE) -> None:
        self._hosts = hosts
        self._application: Application = Guard(self._not_yet, hosts)
        self._done = self._of_all = 0

    def opened(self, application: Application) -> None:
        """Have an application answer from now on."""
        self._application = application

    def note(self, done: int, of_all: int) -> None:
        """Records that are folded, and how many there are."""
        self._done, self._of_all = done, of_all

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._application(scope, receive, send)

    async def _not_yet(self, scope: Any, receive: Receive, send: Send) -> None:  # noqa: ARG002
        said, much = "Records are read, so that each page is there at once.", ""
        if self._of_all:
            said = f"{self._done:,} of {self._of_all:,} records are folded into tables."
            much = f' value="{self._done}" max="{self._of_all}"'
        body = _PAGE.format(said=said, much=much).encode()
        headers = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            (b"retry-after", b"1"),
        ]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def warm(engine: Engine, note: Progress) -> None:
    """Fold all that the first page would wait for. Raises what `note` raises."""
    position = engine.snapshot().position
    engine.projections.opened_tables().fold(position, note)
    engine.projections.commits(position)
    source = Source(engine, position)
    for kind in NODE_KINDS:
        types(source, kind.name)
        used_properties(source, kind.name)
